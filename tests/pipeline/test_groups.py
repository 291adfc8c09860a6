"""Planning: every source in one group, duplicates out, old groups untouched when a list grows."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.pipeline.groups import plan_groups, split_duplicates
from avatarmill.pipeline.types import Source


def source(name: str, sha: str | None = None, size: int = 1) -> Source:
    return Source(uri=name, path=name, sha256=sha or f"sha-{name}", size_bytes=size)


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=4), st.sampled_from("xyz"))))
def test_each_source_is_either_unique_or_a_duplicate_of_a_unique_one(
    listed: list[tuple[str, str]],
) -> None:
    sources = [source(f"{name}{i}", sha) for i, (name, sha) in enumerate(listed)]
    unique, duplicates = split_duplicates(sources)
    assert sorted(unique + [copy for copy, _ in duplicates], key=str) == sorted(sources, key=str)
    assert len({s.sha256 for s in unique}) == len(unique)
    assert all(copy.sha256 == first.sha256 and first in unique for copy, first in duplicates)


def test_empty_files_are_not_duplicates_of_each_other() -> None:
    unique, duplicates = split_duplicates([source("a", "e", 0), source("b", "e", 0)])
    assert [s.uri for s in unique] == ["a", "b"]
    assert duplicates == []


def test_the_order_of_the_list_leaves_no_trace(tmp_path: Path) -> None:
    sources = [source(f"v{i}") for i in range(5)]
    one = plan_groups(sources, tmp_path / "a", group_size=2, fingerprint="f")
    two = plan_groups(sources[::-1], tmp_path / "b", group_size=2, fingerprint="f")
    assert one == two
    assert (tmp_path / "a/plan.json").read_bytes() == (tmp_path / "b/plan.json").read_bytes()
    assert [len(group) for group in one.groups] == [2, 2, 1]


def test_a_longer_list_gets_new_groups_behind_the_old_ones(tmp_path: Path) -> None:
    first = plan_groups([source("b"), source("d")], tmp_path, group_size=2, fingerprint="f")
    grown = [source(name) for name in "abcd"]
    second = plan_groups(grown, tmp_path, group_size=2, fingerprint="f")
    assert second.groups[0] == first.groups[0]
    assert [s.uri for s in second.groups[1]] == ["a", "c"]


def test_a_source_with_new_bytes_moves_to_a_new_group(tmp_path: Path) -> None:
    plan_groups([source("a"), source("b")], tmp_path, group_size=2, fingerprint="f")
    changed = plan_groups(
        [source("a"), source("b", "new")], tmp_path, group_size=2, fingerprint="f"
    )
    assert [[s.uri for s in group] for group in changed.groups] == [["a"], ["b"]]


def test_another_configuration_is_refused_with_the_way_out(tmp_path: Path) -> None:
    plan_groups([source("a")], tmp_path, group_size=2, fingerprint="1" * 64)
    with pytest.raises(ValueError, match="111111111111, now 222222222222.*choose another --out"):
        plan_groups([source("a")], tmp_path, group_size=2, fingerprint="2" * 64)
