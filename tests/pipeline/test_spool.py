"""Remote sources are fetched once a machine, known again by their bytes, and leave no files."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from avatarmill.pipeline.executor import apply_stage
from avatarmill.pipeline.fetch import FetchConfig
from avatarmill.pipeline.identify import stat_files, with_identity
from avatarmill.pipeline.scan_table import KNOWN, SOURCE_TABLE
from avatarmill.pipeline.scanning import FetchStage
from avatarmill.pipeline.scans import finish_scans, keep_scans, load_scans
from avatarmill.pipeline.source_table import SourceTable
from avatarmill.pipeline.spool import Spool
from avatarmill.pipeline.types import Reason, Reject, Source
from avatarmill.pipeline.work import Arrived, Listed, Outcome, Work
from avatarmill.records.store import Store

DATA = b"frames" * 1000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def config(tmp_path: Path) -> FetchConfig:
    return FetchConfig(spool=tmp_path / "spool", attempts=1)


@pytest.fixture
def remote(s3_bucket: str, tmp_path: Path) -> Iterator[Source]:
    """A source in an object store."""
    store = Store.of(f"{s3_bucket}/{tmp_path.name}")
    store.put_atomic("a.mp4", DATA)
    uri = f"{s3_bucket}/{tmp_path.name}/a.mp4"
    yield Source(uri, uri, "", 0, listed={"language": "de"})


def taken(spool: Spool, source: Source) -> Source:
    with spool.local(source) as local:
        assert isinstance(local, Source)
        return local


def test_workers_share_a_file_and_the_last_deletes_it(config: FetchConfig, remote: Source) -> None:
    first, second = Spool(config), Spool(config)
    one, two = taken(first, remote), taken(second, remote)
    assert one == two and Path(one.path).read_bytes() == DATA
    assert (one.sha256, one.size_bytes, one.uri) == (SHA, len(DATA), remote.uri)
    first.close()
    assert Path(two.path).exists() and taken(second, remote) == two
    second.close()
    assert config.spool is not None and not list(config.spool.iterdir())


def test_a_worker_holds_one_source_at_a_time(
    config: FetchConfig, remote: Source, s3_bucket: str
) -> None:
    Store.of(remote.uri.rpartition("/")[0]).put_atomic("b.mp4", DATA[1:])
    other = replace(remote, path=remote.path.replace("a.mp4", "b.mp4"))
    spool = Spool(config)
    first = taken(spool, remote)
    second = taken(spool, other)
    assert not Path(first.path).exists() and Path(second.path).exists()
    assert config.spool is not None and len(list(config.spool.iterdir())) == 2
    spool.close()


def test_other_bytes_than_before_are_rejected(config: FetchConfig, remote: Source) -> None:
    with Spool(config).local(replace(remote, sha256="0" * 64)) as local:
        assert isinstance(local, Reject) and local.reason is Reason.SOURCE_CHANGED
        assert f"sha256 {SHA[:12]}, it was 000000000000" in local.evidence


def test_a_source_that_cannot_be_had_leaves_no_lock(config: FetchConfig, remote: Source) -> None:
    spool = Spool(config)
    with spool.local(replace(remote, path=f"{remote.path}.none")) as local:
        assert isinstance(local, Reject) and local.reason is Reason.NOT_FOUND
    assert config.spool is not None and not list(config.spool.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from avatarmill.pipeline.fetch import FetchConfig
from avatarmill.pipeline.spool import Spool
from avatarmill.pipeline.types import Source
with Spool(FetchConfig(spool=Path(sys.argv[1]))).local(Source(sys.argv[2], sys.argv[2], "", 0)):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_worker_left_goes(config: FetchConfig, remote: Source) -> None:
    assert config.spool is not None
    subprocess.run([sys.executable, "-c", KILLED, str(config.spool), remote.uri], check=False)
    assert len(list(config.spool.iterdir())) == 2
    Spool(config)
    assert not list(config.spool.iterdir())


def test_the_fetch_stage_gives_a_source_its_sha256(
    config: FetchConfig, remote: Source, tmp_path: Path
) -> None:
    stage = FetchStage(config)
    (work,) = apply_stage("fetch", stage, Work(remote))
    assert isinstance(work.content, Arrived)
    assert (work.source.sha256, work.source.size_bytes) == (SHA, len(DATA))
    assert (work.source.path, work.source.listed) == (remote.path, remote.listed)
    stage.close()
    (tmp_path / "here.mp4").write_bytes(DATA)
    here = Source("here.mp4", str(tmp_path / "here.mp4"), "", 0)
    (made,) = stage(here, Listed())
    assert isinstance(made, Arrived) and made.source.sha256 == SHA
    (lost,) = stage(replace(here, path="/nowhere.mp4"), Listed())
    assert isinstance(lost, Outcome) and lost.rejects[0].reason is Reason.NOT_FOUND


def known(*rows: tuple[str, str, int, int]) -> pa.Table:
    return pa.table(dict(zip(KNOWN.names, zip(*rows, strict=True), strict=True)), schema=KNOWN)


def test_files_that_did_not_change_keep_their_identity(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(DATA)
        os.utime(tmp_path / name, ns=(5, 5))
    listed = [Source(name, str(tmp_path / name), "", 0) for name in "abcd"]
    web = Source("https://h/e", "https://h/e?token=x", "", 0)
    sources = stat_files(SourceTable.of([*listed, web]))
    assert [s.size_bytes for s in sources] == [len(DATA)] * 3 + [0, 0]
    rows = known(
        ("a", "1" * 64, len(DATA), 5),
        ("b", "2" * 64, len(DATA), 6),
        ("c", "3" * 64, 1, 5),
        ("https://h/e", "4" * 64, 77, 0),
        ("a", "5" * 64, len(DATA), 5),
    )
    found = with_identity(sources, rows)
    assert [s.sha256[:1] for s in found] == ["5", "", "", "", "4"]
    assert [s.size_bytes for s in found][-1] == 77
    assert [s.path for s in found] == [s.path for s in sources]
    assert list(with_identity(sources, KNOWN.empty_table())) == list(sources)


def test_a_source_that_could_not_be_fetched_is_remembered(tmp_path: Path) -> None:
    reject = Reject(Reason.UNREACHABLE, "5 attempts", "fetch")
    lost = Source("https://h/x", "https://h/x", "", 0)
    failed = Source("https://h/y", "https://h/y", SHA, 5)
    works = [
        Work(lost, Outcome(rejects=(reject,))),
        Work(failed, Outcome(error="shots: boom")),
    ]
    scans = load_scans(tmp_path, "f")
    keep_scans(tmp_path, works, scans, "f")
    listed = SourceTable.of([lost, replace(failed, sha256="", size_bytes=0)])
    assert scans.found.has(listed).tolist() == [True, False]
    # Our own error is tried again, but its bytes are known: its group stays the same.
    assert [s.sha256 for s in with_identity(listed, scans.known)] == ["", SHA]
    finish_scans(tmp_path, listed, scans, "f")
    again = load_scans(tmp_path, "f")
    assert again.found.of(lost) == reject and again.found.of(failed) is None
    assert again.found.of(replace(lost, size_bytes=7)) is None, "there is a file now"
    assert len(load_scans(tmp_path, "other").known) == 0
    assert SOURCE_TABLE.names[:5] == ["uri", "sha256", "fingerprint", "size_bytes", "modified_ns"]
