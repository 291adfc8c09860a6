"""Scans are found on disk again, whatever the order in which they came."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatarmill.pipeline.children.strip import SIDE
from avatarmill.pipeline.likeness import Signature
from avatarmill.pipeline.scan_table import (
    GROUP_ROWS,
    ScanTable,
    drop_known,
    is_written,
    known_path,
    write_scans,
)
from avatarmill.pipeline.scans import SCANS, SOURCES_NAME, finish_scans, keep_scans, load_scans
from avatarmill.pipeline.shots import Scan
from avatarmill.pipeline.source_table import SourceTable
from avatarmill.pipeline.types import Probe, Reason, Reject, Shot, Source
from avatarmill.pipeline.work import Outcome, Scanned, Work
from avatarmill.records.fingerprint import sha256_bytes

PROBE = Probe(4.0, 25.0, 100, 640, 360, 0, "h264", "mp4", 0.0, stream=1)


def source(number: int) -> Source:
    return Source(
        f"/films/{number:05d}.mp4", "", sha256_bytes(bytes([number % 256, number >> 8])), 1
    )


def scan(number: int) -> Scan | Reject:
    if number % 5 == 3:
        return Reject(Reason.TRUNCATED, f"<{number}> bytes", "probe")
    pictures = np.random.default_rng(number).integers(0, 256, (5, SIDE, SIDE), dtype=np.uint8)
    shots = (Shot(0.0, 1.5), Shot(1.5, 4.0))
    return Scan(PROBE, shots, Signature(pictures, 4.0))


def same(one: Scan | Reject, other: Scan | Reject) -> bool:
    if isinstance(one, Reject) or isinstance(other, Reject):
        return one == other
    pictures = np.array_equal(one.signature.pictures, other.signature.pictures)
    return pictures and one.signature.rate == other.signature.rate and one.shots == other.shots


def work(number: int) -> Work:
    found = scan(number)
    end = Outcome(rejects=(found,)) if isinstance(found, Reject) else Scanned(found)
    return Work(source(number), end, seconds={"shots": 0.5})


def test_rows_are_read_from_the_middle_of_a_long_table(tmp_path: Path) -> None:
    count = 3 * GROUP_ROWS + 5
    write_scans(tmp_path / "t.parquet", ((source(n), scan(n)) for n in range(count)), "now")
    table = ScanTable()
    table.add(tmp_path / "t.parquet", "now")
    assert len(table) == count == len(list(table))
    for number in (count - 1, 0, GROUP_ROWS, GROUP_ROWS - 1, 3 * GROUP_ROWS, 7):
        assert same(table[source(number).sha256], scan(number)), number
    for missing in (source(count).sha256, ""):
        assert missing not in table and table.get(missing) is None
    listed = SourceTable.of([source(n) for n in range(count)])
    assert is_written(tmp_path / "t.parquet", listed, "now")
    assert not is_written(tmp_path / "t.parquet", listed, "then")
    assert not is_written(tmp_path / "t.parquet", SourceTable.of(listed[1:]), "now")
    assert not is_written(tmp_path / "none.parquet", SourceTable.of([]), "now")


@settings(max_examples=4)
@given(order=st.permutations(range(40)), killed=st.integers(0, 40))
def test_the_order_of_arrival_and_a_kill_leave_no_trace(
    order: list[int], killed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    straight, other = tmp_path_factory.mktemp("straight"), tmp_path_factory.mktemp("other")
    sources = [source(n) for n in range(40)]
    scans = load_scans(straight, "now")
    keep_scans(straight, map(work, range(40)), scans, "now")
    finish_scans(straight, sources, scans, "now")
    first = load_scans(other, "now")
    keep_scans(other, map(work, order[:killed]), first, "now")
    scans = load_scans(other, "now")
    left = [n for n in order if source(n).sha256 not in scans.found]
    assert len(left) == 40 - killed
    keep_scans(other, map(work, left), scans, "now")
    assert all(same(scans.found[source(n).sha256], scan(n)) for n in range(40))
    finish_scans(other, sources, scans, "now")
    assert not (other / SCANS).exists()
    assert (other / SOURCES_NAME).read_bytes() == (straight / SOURCES_NAME).read_bytes()
    assert scans.signature(source(0)) is not None and scans.signature(source(3)) is None


def test_a_finished_table_is_not_written_again(tmp_path: Path) -> None:
    scans = load_scans(tmp_path, "now")
    keep_scans(tmp_path, map(work, range(10)), scans, "now")
    sources = [source(n) for n in range(10)]
    finish_scans(tmp_path, sources, scans, "now")
    before = (tmp_path / SOURCES_NAME).stat().st_mtime_ns
    again = load_scans(tmp_path, "now")
    finish_scans(tmp_path, sources, again, "now")
    assert (tmp_path / SOURCES_NAME).stat().st_mtime_ns == before
    finish_scans(tmp_path, sources[:4], again, "now")
    assert len(again.found) == 4 == len(load_scans(tmp_path, "now").found)
    assert load_scans(tmp_path, "other settings").found == {}


def test_the_quick_table_of_names_comes_back_when_it_was_dropped(tmp_path: Path) -> None:
    listed = [source(number) for number in range(4)]
    keep_scans(tmp_path, map(work, range(4)), load_scans(tmp_path, "now"), "now")
    finish_scans(tmp_path, listed, load_scans(tmp_path, "now"), "now")
    table = tmp_path / SOURCES_NAME
    names, whole = known_path(table).read_bytes(), table.read_bytes()
    drop_known(table)
    finish_scans(tmp_path, listed, load_scans(tmp_path, "now"), "now")
    assert known_path(table).read_bytes() == names
    assert table.read_bytes() == whole


def test_what_our_own_code_failed_on_is_tried_again(tmp_path: Path) -> None:
    scans = load_scans(tmp_path, "now")
    failed = replace(work(0), content=Outcome(error="Traceback"))
    keep_scans(tmp_path, [failed, work(1)], scans, "now")
    assert list(scans.errors) == [source(0).uri] and len(scans.found) == 1
    assert scans.seconds["shots"] == 1.0
    assert source(0).sha256 not in load_scans(tmp_path, "now").found
