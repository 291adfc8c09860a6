"""kill -9 of the driver, of workers and of all of Ray: the shards are those of a calm run."""

import json
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import psutil
import pytest

from avatarmill.records.commit import list_commits, verify

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

NewJob = Callable[[int], Any]
Calm = tuple[dict[str, bytes], float]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "kills"),
    [
        (1, ("worker", "driver", "cluster")),
        (2, ("driver", "cluster", "worker", "driver")),
        (4, ("cluster", "worker", "driver")),
    ],
)
def test_kills_at_random_moments_leave_no_trace(
    new_job: NewJob, undisturbed: Calm, tmp_path: Path, workers: int, kills: tuple[str, ...]
) -> None:
    """Ten in all: one after the other on one run, which goes on from where it was."""
    expected, seconds = undisturbed
    moments = random.Random(workers)
    job = new_job(workers)
    started: set[psutil.Process] = set()
    for what in kills:
        if not job.running():
            job.start()
        time.sleep(moments.uniform(0.1, 0.6) * seconds)
        started.update(job.family())
        while not job.kill(what):
            if not job.running():
                # It was faster: what it made counts, and the kill is for a new run.
                assert job.wait() == 0, job.log()
                _assert_same(job, expected)
                job = replace(job, out=tmp_path / f"before-{what}")
                job.start()
            time.sleep(0.1)
            started.update(job.family())
        if what != "worker":
            job.wait()
    if not job.running():
        job.start()
    assert job.wait() == 0, job.log()
    _assert_same(job, expected)
    # Two agents of Ray itself look for a dead cluster for a minute before they give up.
    _, left = psutil.wait_procs(list(started), timeout=120)
    assert not list(filter(_lives, left)), "processes outlive their driver"


def _lives(process: psutil.Process) -> bool:
    """Whether it is more than an entry that the system has not cleared yet."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _assert_same(job: Any, expected: dict[str, bytes]) -> None:
    found = job.files()
    assert found.keys() == expected.keys()
    assert [name for name, data in found.items() if data != expected[name]] == []
    assert verify(job.clips) == []
    summary = json.loads((job.clips / "summary.json").read_bytes())
    assert summary["inputs"] == sum(summary["states"].values()) == 5
    assert summary["states"] == {"kept": 3, "rejected": 1, "duplicate": 1, "failed": 0}


def test_a_killed_cut_ends_with_the_same_bytes(job_type: type[Any], tmp_path: Path) -> None:
    """A worker first, which the job survives; then the driver. Passes, groups and commits are those
    of `curate`, but no models are loaded."""
    films = tmp_path / "films"
    films.mkdir()
    for number in range(4):
        picture = f"testsrc2=s=320x180:r=25:d=2,hue=h={50 * number}"
        _ffmpeg("-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p", str(films / f"{number}.mp4"))
    calm, job = (job_type(films, tmp_path / name, verb="cut") for name in ("calm", "killed"))
    calm.start()
    assert calm.wait() == 0, calm.log()
    job.start()
    job.until(lambda: job.kill("worker"))
    job.until(lambda: list_commits(job.clips))
    assert job.running(), job.log()
    assert job.kill("driver")
    job.wait()
    done = _commit_times(job)
    assert 1 <= len(done) < 4
    job.start()
    assert job.wait() == 0, job.log()
    assert done.items() <= _commit_times(job).items(), "finished groups were done again"
    assert job.files() == calm.files()
    assert verify(job.clips) == []


def _commit_times(job: Any) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in job.clips.glob("commits/*.json")}


def _ffmpeg(*arguments: str) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *arguments], check=True)
