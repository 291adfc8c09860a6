"""The stages of curation in plain loops without Ray, one process a core.

The first films of a loop say how many it can do in the time it is given. It then waits, its models
loaded, until it is told to go on with the others.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import psutil

from avatarmill.cli.console import say
from avatarmill.pipeline.executor import run_here
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.job import CurateConfig
from avatarmill.pipeline.scanning import scan_stages
from avatarmill.pipeline.stages import curation_stages
from avatarmill.pipeline.work import Scanned, Work, shot_parts

QUARTERS = 4


class PlainLoops:
    """Loops over equal shares of a folder, as a context manager."""

    def __init__(self, videos: Path, root: Path, loops: int, env: Mapping[str, str]) -> None:
        self._root, self._env = root, os.environ | env
        films = sorted(videos.iterdir())
        self._shares = [films[number::loops] for number in range(loops)]
        self._running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        for number, share in enumerate(self._shares):
            folder = _linked(share, self._root / f"share-{number}")
            self._running.append(
                subprocess.Popen(
                    [sys.executable, "-P", __file__, str(folder)],
                    env=self._env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
            process.communicate()

    def begin(self, seconds: float) -> Path:
        """A folder of the films that the loops will do; they have done a quarter of them by now.

        Args:
            seconds: for all films of a loop, about.
        """
        self._tell(f"{seconds / QUARTERS}")
        counts = [int(self._line(process)) for process in self._running]
        films = [
            film
            for share, count in zip(self._shares, counts, strict=True)
            for film in share[: QUARTERS * count]
        ]
        return _linked(films, self._root / "list")

    def go_on(self) -> None:
        """Lets the loops do the other films."""
        self._tell("go on")

    def cpu_seconds(self) -> float:
        """Waits for the loops: CPU seconds of all of them, over all films."""
        return sum(float(self._line(process)) for process in self._running)

    def processes(self) -> list[psutil.Process]:
        """The loops that still run, without their children."""
        return [psutil.Process(loop.pid) for loop in self._running if loop.poll() is None]

    def _tell(self, word: str) -> None:
        for process in self._running:
            assert process.stdin is not None
            process.stdin.write(word + "\n")
            process.stdin.flush()

    def _line(self, process: "subprocess.Popen[str]") -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"a plain loop ended with {process.wait()} before its time")
        return line


def _linked(films: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for film in films:
        os.link(film, folder / film.name)
    return folder


def main(videos: Path) -> None:
    """Says how many films the first quarter had and, at the end, the CPU seconds of all four.

    They are those of this process and its children, less what loads the models: the job's fixed
    start is not counted either.
    """
    stages = CurateConfig(videos, videos).stages()
    loaded = 0.0

    def works() -> Iterator[Work]:
        # Asked for its first film when all stages are built.
        nonlocal loaded
        films = list_sources(videos)
        seconds = float(input())
        loaded, end = _cpu(), time.monotonic() + seconds
        count = 0
        while time.monotonic() < end and count < len(films) // QUARTERS:
            yield Work(films[count])
            count += 1
        say(str(count))
        input()
        yield from (Work(film) for film in films[count : QUARTERS * count])

    scanned = run_here(works(), scan_stages(stages))
    parts = (
        part
        for work in scanned
        if isinstance(work.content, Scanned)
        for part in shot_parts(work.source, work.content.scan)
    )
    for _ in run_here(parts, curation_stages(stages)):
        pass
    say(f"{_cpu() - loaded:.3f}")


def _cpu() -> float:
    """CPU seconds of this process and of all its children, those that live and those that ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    living = (child.cpu_times() for child in psutil.Process().children(recursive=True))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + sum(
        times.user + times.system + times.children_user + times.children_system for times in living
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
