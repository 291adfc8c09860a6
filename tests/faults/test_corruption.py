"""Half of the files are broken in random ways: each costs a row, and the others are untouched."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avatarmill.pipeline.types import Reason
from avatarmill.records.commit import list_commits
from avatarmill.records.reader import clips_in
from avatarmill.records.rejects import read_rejects

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

Break = Callable[[bytearray, random.Random], bytes]


def cut(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(len(data) // 3, len(data) - 1000)])


def zeros(data: bytearray, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) // 3, len(data) - 9000)
    data[start : start + 8000] = bytes(8000)
    return bytes(data)


def noise(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(60):
        data[rng.randrange(len(data) // 3, len(data) * 9 // 10)] ^= 1 << rng.randrange(8)
    return bytes(data)


def head(data: bytearray, rng: random.Random) -> bytes:
    return rng.randbytes(256) + bytes(data[256:])


def another(data: bytearray, rng: random.Random) -> bytes:
    return rng.randbytes(len(data))


WAYS: tuple[Break, ...] = (cut, zeros, noise, head, another)
BROKEN = {Reason.TRUNCATED, Reason.UNREADABLE, Reason.FORBIDDEN_FORMAT, Reason.CRASHED}


def test_the_good_half_is_kept_and_the_broken_half_is_explained(
    actors: Path, tmp_path: Path, new_job: Callable[[int], Any]
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    good = sorted(actors.glob("wild*"))
    for number in range(len(WAYS)):
        source = good[number % len(good)]
        data = WAYS[number](bytearray(source.read_bytes()), random.Random(number))
        (folder / f"broken_{number}.mp4").write_bytes(data)
    for path in good:
        shutil.copy(path, folder)
    job = new_job(2)
    job.videos = folder
    job.start()
    assert job.wait() == 0, job.log()
    clips = job.clips
    states = {Path(s.uri).name: s for commit in list_commits(clips) for s in commit.inputs}
    assert {name for name, state in states.items() if state.state == "kept"} == {
        path.name for path in good
    }
    rows = {Path(row.uri).name: row for row in read_rejects(clips / "rejects.parquet")}
    broken = {f"broken_{number}.mp4" for number in range(len(WAYS))}
    assert {name for name, row in rows.items() if row.reason in BROKEN} == broken
    assert all(row.evidence and row.stage for row in rows.values())
    assert {Path(clip.meta.source_uri).name for clip in clips_in(clips)} == {p.name for p in good}
