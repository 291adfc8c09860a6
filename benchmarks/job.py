"""The curation job against a plain loop over the same stages, and its memory as lists grow.

`overhead_ratio`: wall seconds of the job, from the first row read to the last commit, less the
fixed start, over the CPU seconds that the same stages take over the same files in a plain loop
without Ray, divided by cores. The job and the loops take turns (job_turns.py), or it would be a
quotient of two speeds of the machine. `peak_memory_ratio_8x`: peak of all processes and the object
store with 8 films, and with a film 8 times as long, over the peak of one film; one worker each,
beside each other. Memory grows with spans up to `shots.longest_seconds`: films are as long as that,
both scaled down.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Literal

import imageio_ffmpeg
import psutil
import tyro
from job_plain import PlainLoops
from job_turns import Stops, in_turns

from avatarmill.cli.console import say, table
from avatarmill.pipeline.runlog import read_log
from avatarmill.synth.job import SynthConfig
from avatarmill.synth.job import run as synth

FOLDER = Path(__file__).parent
# At the end of a list a worker waits for up to a film: many short ones, as a long list has.
FILMS, FILM_SECONDS = 2, 2.0
FASTEST_SECONDS = 2.5
"""No core does a film in less."""
JOB_TURN_SECONDS, LOOPS_TURN_SECONDS = 25.0, 15.0
MEMORY_SECONDS = 1.2
SAMPLE_SECONDS = 1.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

Part = Literal["overhead", "memory", "list"]


@dataclass(frozen=True, slots=True)
class Config:
    """What to measure, and how long."""

    parts: tuple[Part, ...] = ("overhead", "memory", "list")
    minutes: float = 4.0
    """Length of the plain loops, about; the job over the same films takes a little more."""


def main(config: Config) -> None:
    """Prints a table a part and, last, one JSON object."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if {"overhead", "memory"} & set(config.parts):
            synth(SynthConfig("wild", FILMS, seed=3, out=root / "films", seconds=FILM_SECONDS))
        films = sorted((root / "films" / "videos").glob("*.mp4"))
        if "overhead" in config.parts:
            figures |= _shown(overhead(films, root, config.minutes))
        if "memory" in config.parts:
            figures |= _shown(memory(films[0], root))
        if "list" in config.parts:
            figures |= _last_line([sys.executable, str(FOLDER / "job_list.py")])
    say(json.dumps(figures))


def _shown(figures: dict[str, float]) -> dict[str, float]:
    """Prints the figures of a part at once, so that they outlive a failure of the next."""
    table(("figure", "value"), [(name, f"{value:.4g}") for name, value in figures.items()])
    say()
    return figures


def overhead(films: Sequence[Path], root: Path, minutes: float) -> dict[str, float]:
    """The job's wall time against a plain loop's CPU time."""
    cores = os.cpu_count() or 1
    one = copies(films[:1], root / "one", 1)
    wall, summary = job(one, root / "run-one", cores)
    startup = wall - sum(summary["stage_seconds"].values())
    most = ceil(60 * minutes * cores / FASTEST_SECONDS / FILMS)
    with PlainLoops(copies(films, root / "all", most), root, cores, ONE_THREAD) as loops:
        films_of_all = loops.begin(60 * minutes)
        wall, summary = job(films_of_all, root / "run-many", cores, loops)
        cpu = loops.cpu_seconds()
    return {
        "overhead_ratio": (wall - startup) * cores / cpu,
        "startup_seconds": startup,
        "job_seconds": wall,
        "plain_cpu_seconds": cpu,
        "cores": cores,
        "films": summary["inputs"],
        "clips": summary["clips"],
    }


def memory(film: Path, root: Path) -> dict[str, float]:
    """Peaks of the job on one film, on 8 of them, and on one that is 8 times as long."""
    short = [cut(film, root / f"short-{film.name}", MEMORY_SECONDS)]
    lists = {
        "1x": copies(short, root / "m1", 1),
        "8x_films": copies(short, root / "m8", 8),
        "8x_length": copies(short, root / "l8", 1, loops=8),
    }
    with ThreadPoolExecutor(len(lists)) as pool:
        of = pool.map(lambda name: peak_bytes(lists[name], root / f"run-{name}", 1), lists)
        peaks = dict(zip(lists, of, strict=True))
    figures = {f"peak_mb_{name}": peak / 1e6 for name, peak in peaks.items()}
    worst = max(peaks["8x_films"], peaks["8x_length"]) / peaks["1x"]
    return {"peak_memory_ratio_8x": worst, **figures}


def job(
    videos: Path, out: Path, workers: int, loops: PlainLoops | None = None
) -> tuple[float, dict[str, dict[str, float]]]:
    """Seconds from the first row read to the last commit, and the summary of the run.

    Args:
        loops: go on in turns with the job.
    """
    command, stops = _curate(videos, out, workers), Stops()
    with (
        out.with_suffix(".log").open("wb") as log,
        subprocess.Popen(command, env=os.environ | ONE_THREAD, stderr=log) as process,
    ):
        if loops is not None:
            loops.go_on()
            stops = in_turns(process, JOB_TURN_SECONDS, loops.processes, LOOPS_TURN_SECONDS)
    if process.returncode:
        raise RuntimeError(f"the job ended with {process.returncode}; see {log.name}")
    events = [(str(e["event"]), _seconds(str(e["time"]))) for e in read_log(out)]
    started = min(time for name, time in events if name == "started")
    ended = max(time for name, time in events if name == "committed")
    summary: dict[str, dict[str, float]] = json.loads((out / "clips/summary.json").read_bytes())
    return ended - started - stops.within(started, ended), summary


def _curate(videos: Path, out: Path, workers: int) -> list[str]:
    options = ["--videos", str(videos), "--out", str(out), "--workers.cpu", str(workers)]
    # The films are copies of each other: looking for them would leave nothing to do.
    options += ["--near-duplicates.no-enabled", "--group-size", "4"]
    return [sys.executable, "-P", "-m", "avatarmill.cli.main", "curate", *options]


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def peak_bytes(videos: Path, out: Path, workers: int) -> float:
    """Peak of what all processes of a job hold, shared pages once, and its object store."""
    with (out.with_suffix(".log")).open("wb") as log:
        process = subprocess.Popen(
            [*_curate(videos, out, workers), "--shots.longest-seconds", str(MEMORY_SECONDS + 0.1)],
            env=os.environ | ONE_THREAD,
            stderr=log,
        )
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _held(process.pid))
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise RuntimeError(f"the job ended with {process.returncode}; see {log.name}")
    return peak


def _held(pid: int) -> float:
    """Bytes of a process and its descendants: their own and their share of what they share."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_pss(process.pid) for process in family)


def _pss(pid: int) -> float:
    """Proportional set size. Pages of the object store in use are mapped, hence part of it."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(1024.0 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def copies(films: Sequence[Path], folder: Path, times: int, loops: int = 1) -> Path:
    """A folder with each film `times` times, `loops` times as long, all of other bytes."""
    folder.mkdir()
    for number in range(times):
        for film in films:
            target = folder / f"{number:03d}-{film.stem}.mp4"
            again = ["-stream_loop", str(loops - 1), "-i", str(film)]
            _ffmpeg(*again, "-c", "copy", "-metadata", f"comment={number}", str(target))
    return folder


def cut(film: Path, target: Path, seconds: float) -> Path:
    """The beginning of a film."""
    _ffmpeg("-i", str(film), "-t", str(seconds), "-an", str(target))
    return target


def _ffmpeg(*arguments: str) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *arguments], check=True)


def _last_line(command: Sequence[str]) -> dict[str, float]:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    *lines, last = done.stdout.rstrip().splitlines()
    say("\n".join(lines))
    figures: dict[str, float] = json.loads(last)
    return figures


if __name__ == "__main__":
    main(tyro.cli(Config))
