"""A forgotten source is gone from every byte, others keep theirs, and a kill changes nothing."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from avatarmill.records.canonical import json_bytes, npy_bytes
from avatarmill.records.commit import list_commits, merge, sweep, verify, write_group
from avatarmill.records.forget import REASON, forget_source, prove
from avatarmill.records.index import LOCATION_FIELDS, Record, load_table, read_rows
from avatarmill.records.ledger import InputState
from avatarmill.records.reader import samples_in
from avatarmill.records.rejects import RejectRow, read_rejects
from avatarmill.records.sidecars import (
    list_sidecars,
    missing_groups,
    rows_in,
    write_sidecar,
)
from avatarmill.records.store import Store
from avatarmill.records.tombstones import buried, bury

CLIPS = pa.schema([*LOCATION_FIELDS, pa.field("source_sha256", pa.string())])
TOKENS = pa.schema([*CLIPS, pa.field("clip_key", pa.string())])
SCORE = pa.schema([pa.field("aesthetic", pa.float64()), pa.field("tags", pa.list_(pa.string()))])
GROUPS = {"g-000000": "ab", "g-000001": "bc", "g-000002": "d", "g-000003": "b"}


def sha(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def key(source: str, number: int) -> str:
    return f"{sha(source)[:12]}-{number:09d}-00"


def record(source: str, number: int, tokens: bool) -> Record:
    noise = np.random.default_rng(ord(source) + number).normal(size=40)
    members = {"json": json_bytes({"source_sha256": sha(source)}), "x.npy": npy_bytes(noise)}
    row: dict[str, object] = {"source_sha256": sha(source)}
    if tokens:
        row["clip_key"] = key(source, number)
    return Record(key(source, number), members, row)


def write_run(folder: Path, *, tokens: bool = False) -> None:
    """Four groups; source `b` is in three of them, in the last one alone."""
    for number, (group, sources) in enumerate(GROUPS.items()):
        records = [record(source, 2 * number + k, tokens) for source in sources for k in (0, 1)]
        inputs = [
            InputState(r.key, str(r.row["source_sha256"]), "kept", samples=1) for r in records
        ]
        if not tokens:
            inputs = [InputState(f"{s}.mp4", sha(s), "kept", samples=2) for s in sources]
        rejects = [
            RejectRow(f"{s}.mp4", sha(s), "track", "blurred", "select", "0.1, limit 0.2")
            for s in sources
        ]
        write_group(
            folder,
            group,
            records,
            schema=TOKENS if tokens else CLIPS,
            fingerprint="v1",
            inputs=inputs,
            rejects=rejects,
        )
        values = {r.key: {"aesthetic": float(k), "tags": ["x"]} for k, r in enumerate(records)}
        write_sidecar(folder, "looks", group, values, schema=SCORE, fingerprint="s1")
    merge(folder, TOKENS if tokens else CLIPS)


def tree(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.mark.parametrize("tokens", [False, True])
def test_only_the_shards_concerned_change(tmp_path: Path, tokens: bool) -> None:
    write_run(tmp_path, tokens=tokens)
    before = tree(tmp_path)
    done = forget_source(tmp_path, sha("b"), reason="asked to")
    assert (done.groups, done.samples, done.unchanged) == (
        ("g-000000", "g-000001", "g-000003"),
        6,
        1,
    )
    after = tree(tmp_path)
    untouched = {name for name in before if "g-000002" in name}
    assert len(untouched) == 6 and all(before[name] == after[name] for name in untouched)
    assert not any(f"g-00000{k}.tar" in after for k in (0, 1, 3))
    assert verify(tmp_path) == [] and sweep(tmp_path) == []
    assert {k[:12] for k, _ in samples_in(tmp_path)} == {sha(s)[:12] for s in "acd"}
    assert {row["source_sha256"] for row in read_rows(tmp_path / "index.parquet")} == {
        sha(s) for s in "acd"
    }
    kept = dict(samples_in(tmp_path))
    assert kept[key("a", 0)] == record("a", 0, tokens).members
    last = list_commits(tmp_path)[3]
    assert last.shard_sha256 == "" and last.keys == ()


def test_the_source_ends_as_forgotten_in_the_tables_of_a_clip_run(tmp_path: Path) -> None:
    write_run(tmp_path)
    forget_source(tmp_path, sha("b"), reason="asked to")
    states = [state for commit in list_commits(tmp_path) for state in commit.inputs]
    assert {(s.state, s.reason) for s in states if s.sha256 == sha("b")} == {("rejected", REASON)}
    rows = [row for row in read_rejects(tmp_path / "rejects.parquet") if row.uri == "b.mp4"]
    assert {(row.reason, row.evidence) for row in rows} == {(REASON, "asked to")}
    assert len([r for r in read_rejects(tmp_path / "rejects.parquet") if r.uri == "a.mp4"]) == 1


def test_of_a_token_run_nothing_is_left_but_the_tombstone(tmp_path: Path) -> None:
    write_run(tmp_path, tokens=True)
    forget_source(tmp_path, sha("b"), reason="asked to", fingerprints=lambda commit: "v2")
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.parent.name != "tombstones":
            assert sha("b").encode() not in path.read_bytes(), path
    prints = {commit.group: commit.fingerprint for commit in list_commits(tmp_path)}
    assert prints == {f"g-00000{k}": "v1" if k == 2 else "v2" for k in range(4)}


def test_the_proof_reads_every_shard(tmp_path: Path) -> None:
    write_run(tmp_path)
    bury(tmp_path, sha("b"), reason="asked to")
    before = prove(tmp_path, sha("b"))
    assert (before.shards, before.samples) == (4, 12)
    assert f"g-000003.tar holds {key('b', 6)}" in before.problems
    assert "parts/g-000000.parquet has rows of it" in before.problems
    assert "index.parquet has rows of it" in before.problems
    forget_source(tmp_path, sha("b"), reason="asked to")
    after = prove(tmp_path, sha("b"))
    assert (after.shards, after.samples, after.problems) == (3, 6, ())
    assert after.num_bytes == sum(p.stat().st_size for p in tmp_path.glob("*.tar"))
    with (tmp_path / "g-000002.tar").open("r+b") as file:
        file.seek(700)
        file.write(b"\xff")
    assert prove(tmp_path, sha("b")).problems == (
        "g-000002.tar does not have its committed sha256",
    )


def test_forgetting_twice_changes_nothing_more(tmp_path: Path) -> None:
    write_run(tmp_path)
    forget_source(tmp_path, sha("b"), reason="asked to")
    once = tree(tmp_path)
    assert forget_source(tmp_path, sha("b"), reason="asked to").groups == ()
    assert tree(tmp_path) == once
    done = forget_source(tmp_path, sha("a"), reason="asked to")
    assert done.groups == ("g-000000",) and verify(tmp_path) == []
    assert list_commits(tmp_path)[0].revision == 2
    assert buried(tmp_path) == {sha("a"), sha("b")}


def test_readers_honour_the_tombstone_before_anything_is_rewritten(tmp_path: Path) -> None:
    write_run(tmp_path)
    bury(tmp_path, sha("b"), reason="asked to")
    assert {k[:12] for k, _ in samples_in(tmp_path)} == {sha(s)[:12] for s in "acd"}
    assert {row["source_sha256"] for row in rows_in(tmp_path)} == {sha(s) for s in "acd"}


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def dying(monkeypatch: pytest.MonkeyPatch, left: int, die: Callable[[], None]) -> None:
    """Dies in place of the change of a store after `left` others."""
    changes = iter(range(left))

    def after(change: Callable[..., object]) -> Callable[..., object]:
        def changed(*arguments: object) -> object:
            if next(changes, None) is None:
                die()
            return change(*arguments)

        return changed

    monkeypatch.setattr(Store, "writer", after(Store.writer))
    monkeypatch.setattr(Store, "delete", after(Store.delete))


def killed() -> None:
    raise Killed


def test_killed_anywhere_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    write_run(tmp_path / "whole")
    forget_source(tmp_path / "whole", sha("b"), reason="asked to")
    expected = tree(tmp_path / "whole")
    write_run(tmp_path / "run")
    fresh = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    deaths = 0
    for left in range(0, 80, 7):
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, left, killed)
            try:
                forget_source(tmp_path / "run", sha("b"), reason="asked to")
                break
            except Killed:
                deaths += 1
        if left:
            # Readers are never shown a group that is half old, half new.
            assert {k[:12] for k, _ in samples_in(tmp_path / "run")} == {sha(s)[:12] for s in "acd"}
        forget_source(tmp_path / "run", sha("b"), reason="asked to")
        assert tree(tmp_path / "run") == expected
        for path in set((tmp_path / "run").rglob("*")) - fresh.keys():
            if path.is_file():
                path.unlink()
        for path, data in fresh.items():
            path.write_bytes(data)
    assert deaths >= 4


KILLER = """
import os, signal, sys
from pathlib import Path
from avatarmill.records import forget
from avatarmill.records.store import Store
left, folder, sha = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
put = Store.put_atomic
def dying(*arguments):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    put(*arguments)
Store.put_atomic = dying
forget.forget_source(folder, sha, reason="asked to")
"""


def test_a_real_kill_in_the_middle(tmp_path: Path) -> None:
    write_run(tmp_path / "whole")
    forget_source(tmp_path / "whole", sha("b"), reason="asked to")
    write_run(tmp_path / "run")
    command = [sys.executable, "-c", KILLER, "2", str(tmp_path / "run"), sha("b")]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL
    forget_source(tmp_path / "run", sha("b"), reason="asked to")
    assert tree(tmp_path / "run") == tree(tmp_path / "whole")


def test_forgetting_on_an_object_store(s3_bucket: str, tmp_path: Path) -> None:
    remote = Path(f"{s3_bucket}/forget")
    write_run(remote)
    shard = Store.of(remote).read("g-000002.tar")
    assert forget_source(remote, sha("b"), reason="asked to").samples == 6
    assert prove(remote, sha("b")).problems == () and verify(remote) == []
    assert Store.of(remote).read("g-000002.tar") == shard
    assert Store.of(remote).files("", ".tar") == [
        "g-000000-r1.tar",
        "g-000001-r1.tar",
        "g-000002.tar",
    ]


def test_sidecars_add_columns_and_leave_the_shards_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    before = tree(tmp_path / "a")
    values = {key("d", 4): {"language": "de"}}
    schema = pa.schema([pa.field("language", pa.string())])
    write_sidecar(tmp_path / "a", "words", "g-000002", values, schema=schema, fingerprint="w1")
    after = tree(tmp_path / "a")
    assert {name: after[name] for name in before} == before
    assert list_sidecars(tmp_path / "a") == ["looks", "words"]
    rows = {str(row["key"]): row for row in rows_in(tmp_path / "a", ["looks", "words"])}
    assert len(rows) == 12 and rows[key("d", 4)]["language"] == "de"
    assert rows[key("d", 5)]["language"] is None and rows[key("d", 5)]["aesthetic"] == 1.0
    assert rows[key("a", 0)]["tags"] == ["x"] and rows[key("a", 0)]["language"] is None
    assert missing_groups(tmp_path / "a", "words", "w1") == ["g-000000", "g-000001", "g-000003"]
    assert missing_groups(tmp_path / "a", "words", "w2") == list(GROUPS)


def test_values_of_other_bytes_are_not_shown(tmp_path: Path) -> None:
    write_run(tmp_path)
    changed = record("d", 4, False)
    changed.members["x.npy"] = npy_bytes(np.zeros(3))
    write_group(
        tmp_path,
        "g-000002",
        [changed, record("d", 5, False)],
        schema=CLIPS,
        fingerprint="v2",
        inputs=[InputState("d.mp4", sha("d"), "kept", samples=2)],
    )
    rows = {str(row["key"]): row["aesthetic"] for row in rows_in(tmp_path, ["looks"])}
    assert rows[key("d", 4)] is None and rows[key("d", 5)] == 1.0


def test_a_forgotten_source_leaves_the_sidecars_too(tmp_path: Path) -> None:
    write_run(tmp_path)
    forget_source(tmp_path, sha("b"), reason="asked to")
    parts = sorted((tmp_path / "sidecars/looks/parts").glob("*.parquet"))
    keys = [value for part in parts for value in load_table(part)["key"].to_pylist()]
    assert {value[:12] for value in keys} == {sha(s)[:12] for s in "acd"}
    assert len(list(rows_in(tmp_path, ["looks"]))) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group": "g-9"}, "has no committed group 'g-9'"),
        ({"name": "../x"}, "side-car '../x' is refused"),
        ({"schema": pa.schema([pa.field("key", pa.string())])}, "columns key are in the index"),
        ({"values": {"zz": {"aesthetic": 1.0, "tags": []}}}, "g-000000 has no samples zz"),
        ({"values": {key("a", 0): {"aesthetic": 1.0}}}, "unknown or missing columns tags"),
    ],
)
def test_side_cars_refuse_what_does_not_fit(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    write_run(tmp_path)
    options: dict[str, object] = {
        "name": "more",
        "group": "g-000000",
        "values": {},
        "schema": SCORE,
    }
    with pytest.raises(ValueError, match=message):
        write_sidecar(tmp_path, fingerprint="f", **{**options, **arguments})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no side-car none; there are: looks"):
        list(rows_in(tmp_path, ["none"]))
