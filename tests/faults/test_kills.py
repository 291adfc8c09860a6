"""kill -9 of the driver, of workers and of all of Ray: the shards are those of a calm run."""

import json
import random
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from avatarmill.records.commit import verify

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = [
    *(("driver", workers) for workers in (1, 2, 2, 4)),
    *(("worker", workers) for workers in (1, 2, 4)),
    *(("cluster", workers) for workers in (1, 2, 4)),
]
NewJob = Callable[[int], Any]
Calm = tuple[dict[str, bytes], float]


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


def _assert_same(job: Any, expected: dict[str, bytes]) -> None:
    found = job.files()
    assert found.keys() == expected.keys()
    assert [name for name, data in found.items() if data != expected[name]] == []
    assert verify(job.clips) == []
    summary = json.loads((job.clips / "summary.json").read_bytes())
    assert summary["inputs"] == sum(summary["states"].values()) == 5
    assert summary["states"] == {"kept": 3, "rejected": 1, "duplicate": 1, "failed": 0}
