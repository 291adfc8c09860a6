"""Frames, clips and broken files against the tools that others use, in the same run on one input.

Inputs are rendered people joined to films of three shots (or films of a folder, `--videos`). Every
peer runs in an environment of its own, filled by `make bench-peers` from its constraints file.

1. Frames: every frame of a folder as RGB uint8 in the process that takes its mean.
   Ours is a `FrameReader`, warm: two supervised children decode strictly into shared memory, one
   process takes the means. Ray Data is `read_videos`, warm, with
   the means taken by the driver or fused into the reading tasks, whichever is faster. PyAV is a
   warm pool of two processes that decode and take means, with its default or with one thread for
   colours, whichever is faster. Counts of frames must agree, means to 1.5 levels of 255: decord
   and FFmpeg turn chroma to RGB in different ways.
2. Clips: shots found, cut to the frame and put into tars with their metadata. Both sides decode
   each film twice and encode every frame again at its size with libx264.
   video2dataset is described in `peers_video2dataset.py`; ours is `avatarmill cut`, with its own
   encoder settings and, once on a few of the films, with video2dataset's. Ours also checks every
   frame, hashes the sources, writes an index, a reject table and a ledger, and commits each shard.
   `clips_ratio` is of whole commands; `net` of the seconds over the fixed start of each side,
   measured on one short film; `work` of the seconds a film that both sides count in their workers.
3. Broken files: six kinds beside good films. A good film counts as kept when all its frames arrive,
   a broken one as caught when nothing of it is handed on as good. Ours is the worse of frames and
   clips. Ray Data is asked twice: as it is, and told to skip errors (`max_errored_blocks=-1`).

Ratios are seconds of the peer over ours: above 1 we are faster. Medians of systems that take turns.
"""

import json
import operator
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from peers_films import (
    BROKEN_KINDS,
    FPS,
    SHOTS,
    TAKE_SECONDS,
    break_film,
    given_takes,
    join_films,
    render_takes,
)
from peers_systems import (
    Clips,
    Films,
    FrameSystem,
    cut_ours,
    cut_video2dataset,
    psnr,
    python_of,
)

from avatarmill.cli.console import say, table

CLIP_FILMS, ENCODER_FILMS, FRAME_FILMS, GOOD_FILMS, BROKEN_OF_A_KIND = 32, 8, 16, 6, 2
PASSES = {"ours": 4, "pyav_one_thread": 4}
"""In a round of frames, of the ways that take a few seconds; one of the others."""
MEAN_TOLERANCE = 1.5
PEER_ENCODER = ("--encode.preset", "medium", "--encode.crf", "23")
TARGETS = {
    "frames_ratio_ray": 1.0,
    "frames_ratio_pyav": 0.9,
    "clips_ratio_video2dataset": 1.0,
    "good_kept": 1.0,
    "broken_caught": 1.0,
}

Part = Literal["frames", "clips", "broken"]
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Config:
    """What to measure, on what."""

    parts: tuple[Part, ...] = ("frames", "clips", "broken")
    frame_rounds: int = 3
    """Of frames, systems taking turns."""
    clip_rounds: int = 2
    """Of clips, systems taking turns."""
    videos: Path | None = None
    """Take films of this folder in place of rendered ones."""


def main(config: Config) -> None:
    """Prints a table of each part and, last, one JSON object."""
    started = time.perf_counter()
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        takes = given_takes(config.videos, root) if config.videos else render_takes(root)
        films = join_films(takes, root / "films", CLIP_FILMS)
        if "frames" in config.parts:
            figures |= frames(films[:FRAME_FILMS], root, config.frame_rounds)
        if "clips" in config.parts:
            figures |= clips(films, takes[0], root, config.clip_rounds)
        if "broken" in config.parts:
            figures |= broken(films, root)
    figures["seconds"] = round(time.perf_counter() - started)
    rows = [
        [name, figures[name], f">= {limit:g}", "yes" if operator.ge(figures[name], limit) else "NO"]
        for name, limit in TARGETS.items()
        if name in figures
    ]
    table(["figure", "measured", "target", "met"], rows)
    say(json.dumps(figures))


def frames(films: list[Path], root: Path, rounds: int) -> Figures:
    """Frames a second of every way to them."""
    with (
        FrameSystem("peers_ours.py", Path(sys.executable), root / "ours.log") as ours,
        FrameSystem("peers_pyav.py", python_of("pyav"), root / "pyav.log") as pyav,
        FrameSystem("peers_ray.py", python_of("ray"), root / "ray.log") as ray,
    ):
        ways: dict[str, Callable[[list[Path]], tuple[float, Films]]] = {
            "ours": lambda paths: ours.frames(paths),
            "pyav": lambda paths: pyav.frames(paths, threads=0),
            "pyav_one_thread": lambda paths: pyav.frames(paths, threads=1),
            "ray": lambda paths: ray.frames(paths, fused=False, max_errored_blocks=0),
            "ray_fused": lambda paths: ray.frames(paths, fused=True, max_errored_blocks=0),
        }
        found = {name: way(films[:2])[1] for name, way in ways.items()}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for number in range(max(PASSES.values())):
                for name in (name for name in ways if number < PASSES.get(name, 1)):
                    spent, found[name] = ways[name](films)
                    seconds[name].append(spent)
    _check_agreement(found)
    count = sum(frames for frames, _, _ in found["ours"].values())
    middle = {name: statistics.median(spent) for name, spent in seconds.items()}
    table(
        ["every frame", "frames/s", "passes", "from, to"],
        [
            [n, round(count / s), len(seconds[n]), _spread(count, seconds[n])]
            for n, s in middle.items()
        ],
    )
    say()
    return {
        "frames_ratio_ray": _ratio(seconds, ("ray", "ray_fused")),
        "frames_ratio_pyav": _ratio(seconds, ("pyav", "pyav_one_thread")),
        **{f"frames_per_second_{name}": round(count / s, 1) for name, s in middle.items()},
    }


def _ratio(seconds: dict[str, list[float]], peers: tuple[str, ...]) -> float:
    """Median seconds of the fastest of a peer's ways over ours."""
    fastest = min(statistics.median(seconds[name]) for name in peers)
    return round(fastest / statistics.median(seconds["ours"]), 3)


def _spread(count: int, seconds: list[float]) -> str:
    return f"{count / max(seconds):.0f} to {count / min(seconds):.0f}"


def _check_agreement(found: dict[str, Films]) -> None:
    """Raises RuntimeError unless all have seen the same frames of the same films."""
    for name, films in found.items():
        for path, (count, mean, error) in found["ours"].items():
            other_count, other_mean, other_error = films.get(path, (0, 0.0, "is missing"))
            if count != other_count or abs(mean - other_mean) > MEAN_TOLERANCE or error:
                raise RuntimeError(
                    f"{Path(path).name}: ours has {count} frames of mean {mean:.2f} {error}, "
                    f"{name} {other_count} of {other_mean:.2f} {other_error}"
                )


def clips(films: list[Path], short: Path, root: Path, rounds: int) -> Figures:
    """Seconds from a folder to tars of clips."""
    one, few, many = (
        _linked(paths, root / name)
        for name, paths in (("one", [short]), ("few", films[:ENCODER_FILMS]), ("many", films))
    )
    ways: dict[str, Callable[[Path, Path], Clips]] = {
        "ours": lambda videos, out: cut_ours(videos, out),
        "video2dataset": cut_video2dataset,
    }
    starts = {}
    for name, way in ways.items():
        made = way(one, root / f"one-{name}")
        starts[name] = made.wall_seconds - made.busy_seconds
    made_by: dict[str, list[Clips]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            out = root / f"many-{name}-{number}"
            made_by[name].append(way(many, out))
            shutil.rmtree(out)
    same_encoder = cut_ours(few, root / "few-ours", *PEER_ENCODER)
    rows, figures = [], {}
    for name, runs in {**made_by, "ours_peers_encoder": [same_encoder]}.items():
        wall = statistics.median(run.wall_seconds for run in runs)
        work = statistics.median(run.busy_seconds for run in runs) / len(runs[0].videos)
        quality = psnr(films[0], runs[0].videos[films[0].name])
        megabytes = runs[0].num_bytes / 1e6
        rows.append([name, len(runs[0].videos), runs[0].num_clips, sum(runs[0].frames().values())])
        rows[-1] += [f"{wall:.1f}", f"{work:.2f}", f"{megabytes:.1f}", f"{quality:.2f}"]
        figures |= {
            f"clips_{name}": runs[0].num_clips,
            f"clips_seconds_{name}": round(wall, 2),
            f"clips_work_seconds_{name}": round(work, 3),
            f"clips_mb_{name}": round(megabytes, 2),
            f"clips_psnr_{name}": round(quality, 2),
        }
    header = ["shots, clips, tars", "films", "clips", "frames", "seconds", "work a film", "MB"]
    table([*header, "PSNR dB"], rows)
    say()
    figures |= {f"clips_startup_{name}": round(start, 2) for name, start in starts.items()}
    return _clip_ratios(made_by, starts) | _work_ratios(figures) | figures


def _linked(films: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for film in films:
        (folder / film.name).symlink_to(film)
    return folder


def _clip_ratios(made_by: dict[str, list[Clips]], starts: dict[str, float]) -> Figures:
    """Medians over rounds of whole commands, and of what they take longer than on one film."""
    pairs = list(zip(made_by["video2dataset"], made_by["ours"], strict=True))
    whole = [peer.wall_seconds / own.wall_seconds for peer, own in pairs]
    net = [
        (peer.wall_seconds - starts["video2dataset"]) / (own.wall_seconds - starts["ours"])
        for peer, own in pairs
    ]
    return {
        "clips_ratio_video2dataset": round(statistics.median(whole), 3),
        "clips_net_ratio_video2dataset": round(statistics.median(net), 3),
    }


def _work_ratios(figures: Figures) -> Figures:
    peer = figures["clips_work_seconds_video2dataset"]
    return {
        "clips_work_ratio_video2dataset": round(peer / figures["clips_work_seconds_ours"], 3),
        "clips_work_ratio_peers_encoder": round(
            peer / figures["clips_work_seconds_ours_peers_encoder"], 3
        ),
    }


def broken(films: list[Path], root: Path) -> Figures:
    """Shares of good films kept and of broken ones caught."""
    folder = root / "mixed"
    folder.mkdir()
    for number, film in enumerate(films[:GOOD_FILMS]):
        shutil.copy(film, folder / f"good-{number}.mp4")
    for number in range(BROKEN_OF_A_KIND):
        for kind in BROKEN_KINDS:
            film = films[GOOD_FILMS + number]
            break_film(film, kind, folder / f"{kind}-{number}.mp4", seed=number)
    paths = sorted(folder.iterdir())
    with FrameSystem("peers_ours.py", Path(sys.executable), root / "ours.log") as system:
        seen = {"ours frames": system.frames(paths)[1]}
    with FrameSystem("peers_pyav.py", python_of("pyav"), root / "pyav.log") as system:
        seen["pyav"] = system.frames(paths, threads=0)[1]
    with FrameSystem("peers_ray.py", python_of("ray"), root / "ray.log") as system:
        seen["ray"] = system.frames(paths, fused=False, max_errored_blocks=0)[1]
        seen["ray skipping"] = system.frames(paths, fused=False, max_errored_blocks=-1)[1]
    # What comes with an error is not used, in whatever way the error came.
    counts = {
        name: {Path(path).name: count for path, (count, _, error) in found.items() if not error}
        for name, found in seen.items()
    }
    counts["ours clips"] = cut_ours(folder, root / "mixed-ours").frames()
    counts["video2dataset"] = cut_video2dataset(folder, root / "mixed-v2d").frames()
    return _verdicts(counts, [path.name for path in paths])


def _verdicts(counts: dict[str, dict[str, int]], names: list[str]) -> Figures:
    """Table and shares; `counts` has the frames that each system hands on as good, by film."""
    whole = round(SHOTS * TAKE_SECONDS * FPS)
    good = [name for name in names if name.startswith("good-")]
    bad = [name for name in names if name not in good]
    rows, kept, caught = [], {}, {}
    for system, found in counts.items():
        kept[system] = sum(found.get(name, 0) == whole for name in good) / len(good)
        leaks = {name.rpartition("-")[0]: found[name] for name in bad if found.get(name)}
        caught[system] = sum(not found.get(name) for name in bad) / len(bad)
        words = ", ".join(f"{kind} ({frames} frames)" for kind, frames in leaks.items())
        rows.append([system, f"{kept[system]:.3f}", f"{caught[system]:.3f}", words or "-"])
    table(["broken files", "good kept", "broken caught", "handed on as good"], rows)
    say()
    own = ("ours frames", "ours clips")
    peers = [system for system in counts if system not in own]
    figures = {"good_kept": min(kept[s] for s in own), "broken_caught": min(caught[s] for s in own)}
    for system in peers:
        label = system.replace(" ", "_")
        figures[f"good_kept_{label}"] = round(kept[system], 3)
        figures[f"broken_caught_{label}"] = round(caught[system], 3)
    return figures


if __name__ == "__main__":
    main(tyro.cli(Config))
