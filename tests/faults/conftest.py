"""Videos, undisturbed results and a job as a user runs it, for tests that break things."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
import pytest

from avatarmill.synth.job import SynthConfig
from avatarmill.synth.job import run as synth

UNSTABLE = {"summary.json", "report.html"}
"""They hold the seconds of the last start."""


@pytest.fixture(scope="session")
def actors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short films of one rendered actor each, a broken file and an exact copy."""
    root = tmp_path_factory.mktemp("actors")
    synth(SynthConfig("wild", count=3, seed=3, out=root, seconds=1.2))
    folder = root / "videos"
    first, second, _ = sorted(folder.iterdir())
    (folder / "cut.mp4").write_bytes(first.read_bytes()[: first.stat().st_size * 2 // 3])
    shutil.copy(second, folder / "twin.mp4")
    return folder


@dataclass(slots=True)
class Job:
    """`avatarmill curate`, or another job, in a process of its own, one source a group."""

    videos: Path
    out: Path
    workers: int = 1
    options: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    place: str = ""
    """Where the run goes if not to `out`: a URL."""
    verb: Literal["curate", "cut"] = "curate"
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def clips(self) -> Path:
        """Where the shards are."""
        return self.out / ("clips" if self.verb == "curate" else "shots")

    def command(self) -> list[str]:
        """The command line."""
        options = ["--videos", str(self.videos), "--out", self.place or str(self.out)]
        options += ["--group-size", "1", "--workers.cpu", str(self.workers), *self.options]
        return [sys.executable, "-P", "-m", "avatarmill.cli.main", self.verb, *options]

    def start(self) -> None:
        """Starts the job, for the first time or again."""
        with self.out.with_name(self.out.name + ".log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                env={**os.environ, **self.env},
                start_new_session=True,
            )

    def wait(self, seconds: float = 900.0) -> int:
        """Exit status of the job."""
        assert self.process is not None
        return self.process.wait(seconds)

    def log(self) -> str:
        """What all starts of the job wrote to the terminal."""
        return self.out.with_name(self.out.name + ".log").read_text()

    def files(self, folder: Path | None = None) -> dict[str, bytes]:
        """Name to bytes of every file of the clips that must not depend on what happened."""
        folder = folder or self.clips
        found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
        return {name: path.read_bytes() for name, path in found.items() if name not in UNSTABLE}

    def until(self, what: Callable[[], object], seconds: float = 600.0) -> None:
        """Waits until `what` is true, while the job runs or not."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)

    def running(self) -> bool:
        """Whether the driver is there."""
        return self.process is not None and self.process.poll() is None

    def family(self) -> list[psutil.Process]:
        """All descendants of the driver, the eldest first."""
        assert self.process is not None
        try:
            return list(psutil.Process(self.process.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def kill(self, what: str) -> bool:
        """kill -9 of the driver, of one worker, or of all of the Ray cluster but the driver.

        Returns False when there was nothing of the kind to kill.
        """
        assert self.process is not None
        family = self.family()
        if what == "driver":
            chosen = [self.process.pid]
        elif what == "worker":
            chosen = [p.pid for p in family if _name(p).startswith("ray::MapWorker")][:1]
        else:
            chosen = [p.pid for p in family] if any("raylet" in _name(p) for p in family) else []
        for pid in chosen:
            _kill(pid)
        return bool(chosen)


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture(scope="session")
def undisturbed(
    actors: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float]:
    """Every file of a run nobody disturbed, and how long it took."""
    job = Job(actors, tmp_path_factory.mktemp("undisturbed") / "run", workers=2)
    started = time.monotonic()
    job.start()
    assert job.wait() == 0, job.log()
    return job.files(), time.monotonic() - started


@pytest.fixture
def new_job(actors: Path, tmp_path: Path) -> Callable[[int], Job]:
    """A job over the actors with so many workers, not started."""
    return lambda workers: Job(actors, tmp_path / "run", workers)


@pytest.fixture
def job_type() -> type[Job]:
    """For jobs over other sources."""
    return Job
