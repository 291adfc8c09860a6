"""Two lots of processes in turns on one machine: while one runs, the other is stopped.

Shared machines are faster at one time than at another, by a tenth within minutes. What is measured
in turns has met the same machine.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import psutil


@dataclass(frozen=True, slots=True)
class Stops:
    """When the job was stopped."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the epoch."""

    def within(self, start: float, end: float) -> float:
        """Seconds of a span during which the job was stopped."""
        return sum(max(0.0, min(end, b) - max(start, a)) for a, b in self.spans)


def in_turns(
    job: "subprocess.Popen[bytes]",
    job_turn: float,
    others: Callable[[], Iterable[psutil.Process]],
    others_turn: float,
) -> Stops:
    """Runs a job to its end; whenever it has run for a turn, the others have theirs.

    Args:
        job: just started.
        job_turn: seconds.
        others: those that still run. All are left running when the job has ended.
        others_turn: seconds.
    """
    stops = Stops()
    _signal(others(), signal.SIGSTOP)
    try:
        while not _ended(job, job_turn):
            if not list(others()):
                continue
            start = time.time()
            _signal([psutil.Process(job.pid)], signal.SIGSTOP)
            _signal(others(), signal.SIGCONT)
            time.sleep(others_turn)
            _signal(others(), signal.SIGSTOP)
            _signal([psutil.Process(job.pid)], signal.SIGCONT)
            stops.spans.append((start, time.time()))
    finally:
        _signal(others(), signal.SIGCONT)
        if job.poll() is None:
            _signal([psutil.Process(job.pid)], signal.SIGCONT)
    return stops


def _ended(job: "subprocess.Popen[bytes]", seconds: float) -> bool:
    try:
        job.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """To processes and all their descendants; parents first, so that none start others."""
    for process in processes:
        for one in (process, *process.children(recursive=True)):
            try:
                one.send_signal(number)
            except psutil.NoSuchProcess:
                continue
