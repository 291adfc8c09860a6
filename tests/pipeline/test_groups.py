"""Planning: every source in one group, duplicates out, old groups untouched when a list grows."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.pipeline.groups import (
    PLAN_NAME,
    by_precedence,
    plan_groups,
    planned_groups,
    planned_with,
    split_duplicates,
)
from avatarmill.pipeline.types import Source


def source(name: str, sha: str | None = None, size: int = 1) -> Source:
    return Source(uri=name, path=name, sha256=sha or f"sha-{name}", size_bytes=size)


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=4), st.sampled_from("xyz"))))
def test_each_source_is_either_unique_or_a_duplicate_of_a_unique_one(
    listed: list[tuple[str, str]],
) -> None:
    sources = [source(f"{name}{i}", sha) for i, (name, sha) in enumerate(listed)]
    unique, duplicates = split_duplicates(sources)
    both = [*unique, *(copy for copy, _ in duplicates)]
    assert sorted(both, key=str) == sorted(sources, key=str)
    assert len({s.sha256 for s in unique}) == len(unique)
    assert all(copy.sha256 == first.sha256 and first in unique for copy, first in duplicates)


def test_empty_files_are_not_duplicates_of_each_other() -> None:
    unique, duplicates = split_duplicates([source("a", "e", 0), source("b", "e", 0)])
    assert [s.uri for s in unique] == ["a", "b"]
    assert not duplicates


def test_the_order_of_the_list_leaves_no_trace(tmp_path: Path) -> None:
    sources = [source(f"v{i}") for i in range(5)]
    one = plan_groups(sources, tmp_path / "a", group_size=2, fingerprint="f")
    two = plan_groups(sources[::-1], tmp_path / "b", group_size=2, fingerprint="f")
    assert one == two
    plans = [(tmp_path / name / PLAN_NAME).read_bytes() for name in "ab"]
    assert plans[0] == plans[1]
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


def test_the_plan_says_with_what_it_was_made(tmp_path: Path) -> None:
    assert planned_with(tmp_path) == ""
    plan_groups([source("a")], tmp_path, group_size=2, fingerprint="1" * 64)
    assert planned_with(tmp_path) == "1" * 64


def test_an_emptied_group_keeps_its_number(tmp_path: Path) -> None:
    plan_groups([source(name) for name in "abcd"], tmp_path, group_size=2, fingerprint="f")
    assert planned_groups(tmp_path) == 2
    shrunk = plan_groups([source("a")], tmp_path, group_size=2, fingerprint="f")
    assert [len(group) for group in shrunk.groups] == [1, 0] and planned_groups(tmp_path) == 1
    grown = plan_groups([source(n) for n in "az"], tmp_path, group_size=2, fingerprint="f")
    assert [[s.uri for s in group] for group in grown.groups] == [["a"], [], ["z"]]
    assert grown.names(2) == {("z", "sha-z")}
    with pytest.raises(IndexError, match="group 3 of 3"):
        grown.groups[3]


def test_planned_sources_come_before_new_ones(tmp_path: Path) -> None:
    listed = [source(name) for name in "dcba"]
    assert [s.uri for s in by_precedence(listed, tmp_path)] == list("abcd")
    plan_groups([source("c"), source("d", "old")], tmp_path, group_size=2, fingerprint="f")
    assert [s.uri for s in by_precedence(listed, tmp_path)] == list("cabd")


def test_what_nobody_could_read_is_no_copy() -> None:
    unique, duplicates = split_duplicates([source("a", "", 0), replace(source("b"), sha256="")])
    assert [s.uri for s in unique] == ["a", "b"] and not duplicates
