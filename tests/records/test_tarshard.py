"""Shards are byte-identical between runs, readable by others, and refuse what they should."""

import hashlib
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_iterator

from avatarmill.records.tarshard import Entry, ShardError, ShardReader, read_tar, write_tar

SAMPLES = [
    ("b-01", {"json": b"{}", "latent.npy": b"\x00" * 700}),
    ("a-02", {"ref_00.jpg": b"x" * 512, "json": b"[]", "empty.npy": b""}),
]

KEYS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
MEMBERS = st.dictionaries(
    st.sampled_from(["json", "latent.npy", "ref_00.jpg", "ref_00_mask.png"]),
    st.binary(max_size=1500),
    min_size=1,
)

WRITER = """
import sys
from pathlib import Path
from avatarmill.records.tarshard import write_tar
samples = [(f"k-{i}", {"json": b"%d" % i, "latent.npy": bytes(i * 700)}) for i in range(20)]
write_tar(Path(sys.argv[1]), samples)
"""

KILLED = """
import sys, time
from pathlib import Path
from avatarmill.records.tarshard import write_tar
def samples():
    for i in range(10_000):
        yield f"k-{i}", {"latent.npy": bytes(20_000)}
        if i == 100:
            print("half", flush=True)
            time.sleep(60)
write_tar(Path(sys.argv[1]), samples())
"""


@given(st.dictionaries(KEYS, MEMBERS, max_size=6))
@settings(max_examples=40)
def test_round_trip(samples: dict[str, dict[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shard.tar")
        written = write_tar(path, samples.items())
        assert dict(read_tar(path)) == samples
        data = path.read_bytes()
        assert written.sha256 == hashlib.sha256(data).hexdigest()
        assert written.num_bytes == len(data)
        with ShardReader(path) as reader:
            for entry in reversed(written.entries):
                assert reader.read(entry, verify=True) == samples[entry.key]


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "one.tar", tmp_path / "two.tar"]
    for path in paths:
        subprocess.run([sys.executable, "-c", WRITER, str(path)], check=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_header_fields_are_fixed(tmp_path: Path) -> None:
    write_tar(tmp_path / "s.tar", SAMPLES)
    with tarfile.open(tmp_path / "s.tar") as tar:
        infos = tar.getmembers()
    names = ["b-01.json", "b-01.latent.npy", "a-02.empty.npy", "a-02.json", "a-02.ref_00.jpg"]
    assert [info.name for info in infos] == names
    assert {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode) for i in infos} == {
        (0, 0, 0, "", "", 0o644)
    }
    assert not any(info.pax_headers for info in infos)


def test_webdataset_reads_the_shard(tmp_path: Path) -> None:
    write_tar(tmp_path / "s.tar", SAMPLES)
    with (tmp_path / "s.tar").open("rb") as stream:
        files = ({**file, "__url__": "s.tar"} for file in tar_file_iterator(stream))
        read = list(group_by_keys(files))
    got = [(s["__key__"], {k: v for k, v in s.items() if not k.startswith("__")}) for s in read]
    assert got == SAMPLES


@pytest.mark.parametrize("key", ["../x", "a.b", "", "a/b", "-a", "é", "/etc/passwd", "x" * 99])
def test_keys_that_are_paths_or_have_dots_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ShardError, match="is refused|limit 100"):
        write_tar(tmp_path / "s.tar", [(key, {"json": b"{}"})])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.pkl", "x.pyd", "pickle", "../x.npy", "a.b.npy", "X.npy", ""])
def test_members_of_other_kinds_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ShardError, match=f"member {name!r} is refused"):
        write_tar(tmp_path / "s.tar", [("k", {name: b""})])


def test_double_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="'b-01' is given twice"):
        write_tar(tmp_path / "s.tar", [SAMPLES[0], SAMPLES[0]])


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = tmp_path / "whole.tar"
    write_tar(whole, SAMPLES)
    data = whole.read_bytes()
    end = len(data.rstrip(b"\x00"))
    cut = tmp_path / "cut.tar"
    for size in (1, 511, 512, 513, 1500, 3000, end - 1):
        cut.write_bytes(data[:size])
        with pytest.raises(ShardError, match="truncated"):
            list(read_tar(cut))
    cut.write_bytes(b"")
    with pytest.raises(ShardError, match=r"cut\.tar is empty"):
        list(read_tar(cut))


def test_flipped_header_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    write_tar(path, SAMPLES)
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match="bad header at byte 0"):
        list(read_tar(path))


def _symlink(info: tarfile.TarInfo) -> None:
    info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0


def _pickle(info: tarfile.TarInfo) -> None:
    info.name = "k.data.pkl"


def _parent(info: tarfile.TarInfo) -> None:
    info.name = "../k.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [(_symlink, "not a regular file"), (_pickle, r"data\.pkl"), (_parent, "key '' is refused")],
)
def test_foreign_tar_is_refused(
    tmp_path: Path, change: Callable[[tarfile.TarInfo], None], message: str
) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo("k.json")
        change(info)
        tar.addfile(info)
    with pytest.raises(ShardError, match=message):
        list(read_tar(path))


def test_index_of_another_shard_is_noticed(tmp_path: Path) -> None:
    written = write_tar(tmp_path / "s.tar", SAMPLES)
    first, second = written.entries
    with ShardReader(tmp_path / "s.tar") as reader:
        with pytest.raises(ShardError, match="the index expects b-01"):
            reader.read(Entry("b-01", second.offset, second.length, second.sha256))
        with pytest.raises(ShardError, match="sha256 of b-01"):
            reader.read(Entry("b-01", 0, first.length, second.sha256), verify=True)


@pytest.mark.faults
def test_kill_in_the_middle_of_a_write_leaves_nothing_visible(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    path.write_bytes(b"the shard of an earlier run")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "half\n"
        os.kill(child.pid, signal.SIGKILL)
    assert path.read_bytes() == b"the shard of an earlier run"
    assert [p.name for p in tmp_path.glob("*.tar")] == ["s.tar"]


def test_failing_sample_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="has no members"):
        write_tar(tmp_path / "s.tar", [SAMPLES[0], ("k", {})])
    assert not list(tmp_path.iterdir())
