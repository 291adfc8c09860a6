"""A folder behaves the same on a local disk and on an object store: whole files or none."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.records.atomic import read_bytes, write_bytes
from avatarmill.records.canonical import json_bytes, npy_bytes
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
from avatarmill.records.fingerprint import sha256_bytes, sha256_file
from avatarmill.records.index import LOCATION_FIELDS, Record, entry_of, load_table
from avatarmill.records.ledger import InputState
from avatarmill.records.reader import samples_in
from avatarmill.records.runs import write_config
from avatarmill.records.store import SPOOL_BYTES, Store, split_url
from avatarmill.records.tarshard import RemoteBytes, ShardError, ShardReader, read_tar
from avatarmill.records.tombstones import buried, bury

SCHEMA = pa.schema([*LOCATION_FIELDS, pa.field("source_sha256", pa.string())])


def make_record(number: int) -> Record:
    sha = sha256_bytes(b"%d" % (number // 2))
    noise = np.random.default_rng(number).normal(size=(64, 8)).astype(np.float16)
    members = {"json": json_bytes({"number": number}), "latent.npy": npy_bytes(noise)}
    return Record(f"{sha[:12]}-{number:09d}-00", members, {"source_sha256": sha})


def write(folder: Path, group: str, numbers: list[int]) -> Commit:
    records = [make_record(number) for number in numbers]
    shas = {str(record.row["source_sha256"]) for record in records}
    inputs = [InputState(f"{sha[:6]}.mp4", sha, "kept", samples=2) for sha in shas]
    return write_group(folder, group, records, schema=SCHEMA, fingerprint="v1", inputs=inputs)


def write_some(folder: Path) -> None:
    write(folder, "g-000000", [0, 1, 2, 3])
    write(folder, "g-000001", [4, 5])
    merge(folder, SCHEMA)


def tree(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new run folder of either kind."""
    if request.param == "local":
        return str(tmp_path / "run")
    return f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}"


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://bucket/run", ("s3", "bucket/run")),
        (Path("s3://bucket/run") / "clips", ("s3", "bucket/run/clips")),
        ("gs://b/x/", ("gs", "b/x")),
        ("/data/run", ("", "/data/run")),
        ("out/a:/b", ("", "out/a:/b")),
        ("c:/windows", ("", "c:/windows")),
        (Path("relative"), ("", "relative")),
    ],
)
def test_places_are_told_apart(place: str | Path, expected: tuple[str, str]) -> None:
    assert split_url(place) == expected


@pytest.mark.parametrize("place", ["http://host/run", "sftp://host/run", Path("ftp://host/run")])
def test_a_place_that_cannot_hold_a_run_is_named(place: str | Path) -> None:
    with pytest.raises(ValueError, match="a run lives on a local disk or on one of"):
        Store.of(place)


def test_files_come_and_go(folder: str) -> None:
    store = Store.of(folder)
    assert not store.exists() and store.files() == [] and store.folders() == []
    store.put_atomic("a/one.json", b"1")
    store.put_atomic("a/two.json", b"22")
    store.put_atomic("a/deep/three.json", b"333")
    store.put_atomic("top.txt", b"")
    assert store.exists() and store.exists("a/one.json") and not store.exists("a")
    assert store.files("a") == ["a/one.json", "a/two.json"]
    assert store.files("", ".txt") == ["top.txt"] and store.folders() == ["a"]
    assert store.folders("a") == ["a/deep"] and store.files("nowhere") == []
    assert store.read_all(store.files("a")) == [b"1", b"22"]
    assert (store.size("a/two.json"), store.read_range("a/deep/three.json", 1, 9)) == (2, b"33")
    store.put_atomic("a/one.json", b"new")
    assert store.read("a/one.json") == b"new" == store.child("a").read("one.json")
    store.delete("a/one.json")
    store.delete("a/one.json")
    assert not store.exists("a/one.json")
    for read in (store.read, store.size):
        with pytest.raises(FileNotFoundError):
            read("a/one.json")


def test_paths_lead_back_to_the_store(folder: str) -> None:
    store = Store.of(folder)
    path = store.path("parts/x.bin")
    write_bytes(path, b"bytes")
    assert read_bytes(path) == read_bytes(f"{folder}/parts/x.bin") == store.read("parts/x.bin")
    assert sha256_file(path) == sha256_bytes(b"bytes")
    assert Store.of(path.parent) == store.child("parts")


def test_a_writer_that_fails_leaves_nothing(folder: str) -> None:
    store = Store.of(folder)
    store.put_atomic("x", b"old")
    with pytest.raises(RuntimeError, match="half-way"):
        with store.writer("x") as file:
            file.write(b"half")
            raise RuntimeError("half-way")
    assert store.read("x") == b"old" and store.files() == ["x"]


def test_a_large_object_arrives_whole(s3_bucket: str, tmp_path: Path) -> None:
    store = Store.of(f"{s3_bucket}/{tmp_path.name}")
    data = os.urandom(1 << 20) * (SPOOL_BYTES // (1 << 20) + 1) + b"end"
    with store.writer("large.bin") as file:
        for start in range(0, len(data), 1 << 20):
            file.write(data[start : start + (1 << 20)])
    assert store.size("large.bin") == len(data)
    assert sha256_file(store.path("large.bin")) == hashlib.sha256(data).hexdigest()


def test_a_run_on_an_object_store_has_the_bytes_of_a_local_one(
    s3_bucket: str, tmp_path: Path
) -> None:
    remote = Path(f"{s3_bucket}/{tmp_path.name}")
    write_some(remote)
    write_some(tmp_path / "local")
    store = Store.of(remote)
    found = {
        name: store.read(name) for part in ("", "parts", "commits") for name in store.files(part)
    }
    assert found == tree(tmp_path / "local")
    assert verify(remote) == []
    assert list(samples_in(remote)) == list(samples_in(tmp_path / "local"))
    assert load_table(remote / "index.parquet").schema.equals(SCHEMA)


def test_readers_see_commits_only_and_at_once(folder: str) -> None:
    place = Path(folder)
    write_some(place)
    assert len(list(samples_in(place))) == 6
    drop_commit(place, "g-000000")
    assert read_commit(place, "g-000000") is None
    assert [commit.group for commit in list_commits(place)] == ["g-000001"]
    assert [path.name for path in sweep(place)] == [
        "g-000000.tar",
        "g-000000.parquet",
        "g-000000.rejects.parquet",
    ]
    assert merge(place, SCHEMA) == 2
    sha = str(make_record(4).row["source_sha256"])
    bury(place, sha, reason="asked to")
    assert buried(place) == {sha} and list(samples_in(place)) == []


def test_damage_on_an_object_store_is_found(s3_bucket: str, tmp_path: Path) -> None:
    place = Path(f"{s3_bucket}/{tmp_path.name}")
    write_some(place)
    store = Store.of(place)
    shard = bytearray(store.read("g-000001.tar"))
    shard[600] ^= 1
    store.put_atomic("g-000001.tar", bytes(shard))
    assert ["g-000001.tar does not have" in line for line in verify(place)] == [True]
    store.put_atomic("g-000000.tar", store.read("g-000000.tar")[:2000])
    with pytest.raises(ShardError, match="g-000000.tar is truncated"):
        list(read_tar(place / "g-000000.tar"))
    with pytest.raises(FileNotFoundError):
        list(samples_in(place / "nowhere"))


def test_one_sample_costs_one_request(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(f"{s3_bucket}/{tmp_path.name}")
    commit = write(place, "g-000000", list(range(8)))
    rows = load_table(place / commit.index).to_pylist()
    asked: list[tuple[int, int]] = []
    plain = Store.read_range

    def counted(store: Store, name: str, start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return plain(store, name, start, stop)

    monkeypatch.setattr(Store, "read_range", counted)
    with ShardReader(place / commit.shard) as reader:
        entry = entry_of(rows[5])
        assert reader.read(entry, verify=True) in [make_record(n).members for n in range(8)]
    assert [start for start, _ in asked] == [entry.offset]


@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 320), st.integers(0, 320))))
def test_remote_bytes_slice_like_bytes(data: bytes, parts: list[tuple[int, int]]) -> None:
    class Fake(Store):
        def size(self, name: str) -> int:
            return len(data)

        def read_range(self, name: str, start: int, stop: int) -> bytes:
            return data[start:stop]

    remote = RemoteBytes(Fake("s3", "x"), "y")
    assert len(remote) == len(data)
    for start, stop in parts:
        assert remote[slice(start, max(start, stop))] == data[start : max(start, stop)]


def test_the_configuration_goes_to_the_store(folder: str) -> None:
    write_config(Path(folder), "curate", Store.of(folder))
    assert b'"type":"Store"' in Store.of(folder).read("curate.config.json")


def test_importing_the_store_does_not_import_fsspec() -> None:
    code = "import sys, avatarmill.records.commit; print('fsspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_missing_package_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['gcsfs'] = None\n"
        "from avatarmill.records.store import Store\n"
        "try:\n    Store.of('gs://b/x').files()\n"
        "except ValueError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'avatarmill[cloud]'" in done.stdout
