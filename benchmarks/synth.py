"""How many frames a second one core renders: wild video with its encoding, and studio views.

Frames a second and core are frames over CPU seconds, of this process with all its threads and of
ffmpeg. Everything a clip costs is in them: sampling and dressing the actor, motion, place,
rendering, truth, and for wild clips H.264; only the compilation of kernels is not. Rendering runs
on one thread, as when every core makes clips of its own; what all threads together reach is given
beside it in wall time. Prints a table and, last, one JSON object.
"""

import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from numba import get_num_threads, set_num_threads

from avatarmill.cli.console import say, table
from avatarmill.synth.frames import StudioConfig, WildConfig, synth_studio, synth_wild
from avatarmill.synth.video import write_video

# A wild clip of the job is 3 to 5 seconds long; a studio session has 6 cameras and 36 instants.
WILD = WildConfig(num_frames=96, fps=24.0, width=512, height=512)
STUDIO = StudioConfig(num_views=6, num_instants=36, fps=12.0, size=256)
SEEDS = (11, 12, 13)


@dataclass(frozen=True, slots=True)
class Cost:
    """What some frames took."""

    frames: int
    cpu_seconds: float
    wall_seconds: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.frames + other.frames,
            self.cpu_seconds + other.cpu_seconds,
            self.wall_seconds + other.wall_seconds,
        )

    @property
    def per_core(self) -> float:
        """Frames a second of CPU time."""
        return self.frames / self.cpu_seconds

    @property
    def wall(self) -> float:
        """Frames a second of wall time."""
        return self.frames / self.wall_seconds


def cpu_seconds() -> float:
    """CPU time so far of this process, its threads and the children it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(make: Callable[[], int]) -> Cost:
    """Cost of the frames that `make` says it made."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    frames = make()
    return Cost(frames, cpu_seconds() - cpu, time.perf_counter() - wall)


def wild(seed: int, path: Path, config: WildConfig = WILD) -> int:
    """Render and encode one clip."""
    return write_video(path, synth_wild(seed, config).images, fps=config.fps)


def studio(seed: int, config: StudioConfig = STUDIO) -> int:
    """Render one actor from all sides."""
    return len(synth_studio(seed, config))


def total(costs: list[Cost]) -> Cost:
    """Their sum."""
    return sum(costs, Cost(0, 0.0, 0.0))


def main() -> None:
    """Measures and prints."""
    threads = get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        wild(0, path, WildConfig(num_frames=2))
        studio(0, StudioConfig(num_views=2))
        together = measure(lambda: wild(SEEDS[0], path))
        set_num_threads(1)
        clips = total([measure(partial(wild, seed, path)) for seed in SEEDS])
        views = total([measure(partial(studio, seed)) for seed in SEEDS])
        frames = synth_wild(SEEDS[0], WILD).images
        encoding = measure(lambda: write_video(path, frames, fps=WILD.fps))
    figures = {
        "wild_fps_per_core": round(clips.per_core, 1),
        "studio_fps_per_core": round(views.per_core, 1),
        "wild_ms_a_frame": round(1000 / clips.per_core, 1),
        "encoding_ms_a_frame": round(1000 / encoding.per_core, 1),
        "studio_ms_a_frame": round(1000 / views.per_core, 1),
        "wild_fps_wall": round(together.wall, 1),
        "threads": threads,
    }
    table(["figure", "value"], [[name, value] for name, value in figures.items()])
    say(json.dumps(figures))


if __name__ == "__main__":
    main()
