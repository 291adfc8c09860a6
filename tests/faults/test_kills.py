"""kill -9 of the driver, of workers and of all of Ray: the shards are those of a calm run."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from avatarmill.records.commit import list_commits, verify

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

KILLS = [
    *(("driver", workers) for workers in (1, 2, 2, 4)),
    *(("worker", workers) for workers in (1, 2, 4)),
    *(("cluster", workers) for workers in (1, 2, 4)),
]
NewJob = Callable[[int], Any]
Calm = tuple[dict[str, bytes], float]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "what", "workers"), [(number, *kill) for number, kill in enumerate(KILLS)]
)
def test_a_kill_at_a_random_moment_leaves_no_trace(
    new_job: NewJob, undisturbed: Calm, number: int, what: str, workers: int
) -> None:
    expected, seconds = undisturbed
    job = new_job(workers)
    job.start()
    time.sleep(random.Random(number).uniform(0.15, 0.95) * seconds)
    family = job.family()
    job.until(lambda: job.kill(what) or not job.running(), 60)
    code = job.wait()
    if what == "worker":
        assert code == 0, job.log()
    else:
        job.start()
        assert job.wait() == 0, job.log()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, "processes outlive their driver"
    _assert_same(job, expected)


def test_a_job_killed_in_every_way_in_turn(new_job: NewJob, undisturbed: Calm) -> None:
    """A worker first, which the job survives; then all of Ray; then the driver."""
    job = new_job(2)
    job.start()
    job.until(lambda: (job.clips / "sources.parquet").exists())
    job.until(lambda: job.kill("worker"), 60)
    time.sleep(2)
    assert job.running(), job.log()
    assert job.kill("cluster")
    assert job.wait(120) != 0
    job.start()
    job.until(lambda: list_commits(job.clips))
    finished = _commit_times(job.clips)
    assert job.kill("driver")
    job.wait()
    job.start()
    assert job.wait() == 0, job.log()
    assert finished.items() <= _commit_times(job.clips).items(), "a finished group was done again"
    _assert_same(job, undisturbed[0])


def _commit_times(clips: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (clips / "commits").glob("*.json")}


def _assert_same(job: Any, expected: dict[str, bytes]) -> None:
    found = job.files()
    assert found.keys() == expected.keys()
    assert [name for name, data in found.items() if data != expected[name]] == []
    assert verify(job.clips) == []
    summary = json.loads((job.clips / "summary.json").read_bytes())
    assert summary["inputs"] == sum(summary["states"].values()) == 5
    assert summary["states"] == {"kept": 3, "rejected": 1, "duplicate": 1, "failed": 0}
