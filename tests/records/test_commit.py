"""A group exists only by its commit; folders verify, sweep, merge and forget."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from avatarmill.records.commit import (
    Commit,
    drop_commit,
    list_commits,
    merge,
    read_commit,
    sweep,
    verify,
    write_group,
)
from avatarmill.records.index import Record
from avatarmill.records.ledger import InputState
from avatarmill.records.reader import clips_in, tokens_in
from avatarmill.records.rejects import RejectRow, read_rejects
from avatarmill.records.tarshard import ShardError
from avatarmill.records.token import TOKEN_INDEX, TokenMeta, TokenSample, token_record
from avatarmill.records.tombstones import bury

WRITER = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_commit import write_some
write_some(Path(sys.argv[1]))
"""


def make_record(number: int) -> Record:
    rng = np.random.default_rng(number)
    sha = hashlib.sha256(b"%d" % (number // 2)).hexdigest()
    key = f"{sha[:12]}-{number:09d}-00"
    meta = TokenMeta(key, sha, "CC0-1.0", "f" * 64, {"short": "a person"}, {}, {"b": 0.1, "a": 2.0})
    sample = TokenSample(
        key=key,
        latent=rng.normal(size=(64, 8)).astype(np.float16),
        visibility=rng.integers(0, 256, 64, dtype=np.uint8),
        shape=rng.normal(size=20).astype(np.float32),
        meta=meta,
    )
    return token_record(sample)


def write(folder: Path, group: str, numbers: list[int]) -> Commit:
    records = [make_record(number) for number in numbers]
    shas = {str(record.row["source_sha256"]) for record in records}
    inputs = [InputState(f"{sha[:6]}.mp4", sha, "kept", samples=2) for sha in shas]
    rejects = [RejectRow("bad.mp4", "0" * 64, "source", "empty_file", "probe", "0 bytes, limit 1")]
    return write_group(
        folder,
        group,
        records,
        schema=TOKEN_INDEX,
        fingerprint="v1",
        inputs=inputs,
        rejects=rejects,
    )


def write_some(folder: Path) -> None:
    write(folder, "g-000000", [0, 1, 2, 3])
    write(folder, "g-000001", [4, 5])
    merge(folder, TOKEN_INDEX)


def tree(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_same_bytes_from_another_process_and_order(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / "a")], check=True)
    write(tmp_path / "b", "g-000001", [5, 4])
    write(tmp_path / "b", "g-000000", [3, 1, 0, 2])
    merge(tmp_path / "b", TOKEN_INDEX)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_layout_reading_and_verify(tmp_path: Path) -> None:
    write_some(tmp_path)
    assert list(tree(tmp_path)) == [
        "commits/g-000000.json",
        "commits/g-000001.json",
        "g-000000.tar",
        "g-000001.tar",
        "index.parquet",
        "parts/g-000000.parquet",
        "parts/g-000000.rejects.parquet",
        "parts/g-000001.parquet",
        "parts/g-000001.rejects.parquet",
        "rejects.parquet",
    ]
    assert verify(tmp_path) == []
    samples = list(tokens_in(tmp_path))
    assert [s.key for s in samples] == [k for c in list_commits(tmp_path) for k in c.keys]
    first = make_record(int(samples[0].key.split("-")[1]))
    assert token_record(samples[0]).members == first.members


def test_index_locates_every_sample(tmp_path: Path) -> None:
    write_some(tmp_path)
    index = pq.read_table(tmp_path / "index.parquet")
    assert index.schema.equals(TOKEN_INDEX)
    for row in index.to_pylist():
        data = (tmp_path / row["shard"]).read_bytes()[row["offset"] :][: row["length"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        assert row["scores"] == [("a", 2.0), ("b", 0.1)]
    assert len(read_rejects(tmp_path / "rejects.parquet")) == 2


def test_without_a_commit_nothing_is_seen(tmp_path: Path) -> None:
    write_some(tmp_path)
    drop_commit(tmp_path, "g-000000")
    assert read_commit(tmp_path, "g-000000") is None
    assert len(list(tokens_in(tmp_path))) == 2
    assert merge(tmp_path, TOKEN_INDEX) == 2


def test_sweep_removes_only_what_no_commit_names(tmp_path: Path) -> None:
    write_some(tmp_path)
    drop_commit(tmp_path, "g-000000")
    (tmp_path / "g-000001.tar.77.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("kept")
    assert sorted(path.name for path in sweep(tmp_path)) == [
        "g-000000.parquet",
        "g-000000.rejects.parquet",
        "g-000000.tar",
        "g-000001.tar.77.tmp",
    ]
    assert verify(tmp_path) == [] and (tmp_path / "notes.txt").exists()


def test_verify_names_every_damage(tmp_path: Path) -> None:
    write_some(tmp_path)
    (tmp_path / "g-000000.tar").write_bytes(b"other")
    (tmp_path / "parts" / "g-000001.parquet").unlink()
    problems = verify(tmp_path)
    assert len(problems) == 2
    assert problems[0].startswith("g-000000.tar does not have the committed sha256")
    assert problems[1] == "g-000001.parquet is missing"


def test_group_without_samples_has_a_commit_and_no_shard(tmp_path: Path) -> None:
    commit = write_group(tmp_path, "g", [], schema=TOKEN_INDEX, fingerprint="v1")
    assert commit == read_commit(tmp_path, "g") and commit.shard_sha256 == ""
    assert not list(tmp_path.glob("*.tar")) and verify(tmp_path) == []
    assert list(tokens_in(tmp_path)) == [] and merge(tmp_path, TOKEN_INDEX) == 0


def test_forgotten_source_is_hidden_at_once(tmp_path: Path) -> None:
    write_some(tmp_path)
    victim = str(make_record(0).row["source_sha256"])
    bury(tmp_path, victim, reason="asked by the person shown")
    left = list(tokens_in(tmp_path))
    assert len(left) == 4 and victim not in {sample.meta.source_sha256 for sample in left}
    with pytest.raises(ValueError, match="expected 64 hex digits"):
        bury(tmp_path, victim[:12], reason="a prefix")


def test_missing_folder_and_wrong_format_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder of shards"):
        next(tokens_in(tmp_path / "nowhere"))
    write_some(tmp_path)
    with pytest.raises(ShardError, match="unknown members"):
        next(clips_in(tmp_path))


def test_changed_commit_is_refused(tmp_path: Path) -> None:
    write_some(tmp_path)
    path = tmp_path / "commits" / "g-000000.json"
    data = path.read_bytes()
    (tmp_path / "commits" / "copy.json").write_bytes(data)
    with pytest.raises(ShardError, match=r"copy\.json is the commit of group 'g-000000'"):
        list_commits(tmp_path)
    (tmp_path / "commits" / "copy.json").unlink()
    path.write_bytes(data.replace(b'"fingerprint"', b'"print"'))
    with pytest.raises(ShardError, match="unknown or missing fields fingerprint, print"):
        list_commits(tmp_path)


def test_row_with_other_columns_is_refused(tmp_path: Path) -> None:
    record = make_record(0)
    odd = Record(record.key, record.members, {**record.row, "mood": "good"})
    with pytest.raises(ValueError, match="unknown or missing columns mood"):
        write_group(tmp_path, "g", [odd], schema=TOKEN_INDEX, fingerprint="v1")
    assert list_commits(tmp_path) == []
