"""Near duplicates: copies made with ffmpeg against other takes of the same people and places.

Films are rendered in pairs: two takes of one actor in one place, before the same camera, moving in
the same manner. They come from seeds that no limit was chosen on. Web clips join them, cut to a few
seconds; their two halves stand for two takes. Every film is copied in several ways; all go through
`find_copies` in one list (halves in one of their own, as they are parts of the films). A copy that
is found in its own original is a hit; anything else that is called a copy is a false one.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from avatarmill.cli.console import say, table
from avatarmill.pipeline.children.supervise import Child
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.likeness import Signature
from avatarmill.pipeline.near_duplicates import NearDuplicateConfig, find_copies
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.shots import ShotConfig, scan
from avatarmill.pipeline.types import Reject
from avatarmill.records.canonical import json_bytes
from avatarmill.synth.actor import sample_actor
from avatarmill.synth.clock import Clock, perform
from avatarmill.synth.frames import camera_extent
from avatarmill.synth.motion import MotionKind
from avatarmill.synth.render import RenderConfig, render_cast
from avatarmill.synth.scenery import SceneKind, sample_scene
from avatarmill.synth.staging import wild_views
from avatarmill.synth.video import write_video

ROOT = Path(__file__).parents[1]
COPIES = {
    "re-encoded": ("null", 35),
    "resized": ("scale=trunc(iw/4)*2:-2", 26),
    "cropped": ("crop=iw*0.95:ih*0.95", 24),
    "cropped in a corner": ("crop=iw*0.95:ih*0.95:0:0", 24),
    "faster": ("setpts=PTS/1.1", 24),
    "slower": ("setpts=PTS/0.9", 24),
    "fewer frames": ("fps=8", 24),
    "trimmed": ("trim=start=0.4:end={end},setpts=PTS-STARTPTS", 24),
    "in black bars": ("pad=iw:ih*4/3:0:(oh-ih)/2", 26),
    "all at once": ("crop=iw*0.95:ih*0.95,scale=160:-2,setpts=PTS/1.08,fps=10", 33),
    "all that and more": (
        "trim=start=0.4:end={end},setpts=(PTS-STARTPTS)/0.92,crop=iw*0.95:ih*0.95:iw*0.05:0,"
        "scale=144:-2,pad=iw:ih*4/3:0:(oh-ih)/2,eq=brightness=0.05:contrast=1.1",
        30,
    ),
}
HALVES = {
    "first half": ("trim=end={middle}", 20),
    "second half": ("trim=start={middle},setpts=PTS-STARTPTS", 20),
}
PLACES: tuple[SceneKind, ...] = ("room", "hall", "street", "park")
STAYING: tuple[MotionKind, ...] = ("gesture", "idle", "dance", "turn")
MOTIONS: tuple[MotionKind, ...] = (*STAYING, "walk")
SECONDS, FPS, SIDE = 4.0, 12.0, 160
"""Rendered films: small, because a strip has 16 x 16 pixels and four pictures a second."""
REAL_SECONDS, REAL_SIDE = 4.0, 256


@dataclass(frozen=True, slots=True)
class Film:
    """A film in the list."""

    name: str
    place: str
    """Films of one place show the same people there."""
    way: str
    """How it was copied; empty for an original."""
    signature: Signature


def main() -> None:
    """Prints a table of the ways to copy, and the figures of the section as JSON."""
    options = argparse.ArgumentParser()
    options.add_argument("--videos", type=Path, default=ROOT.parent / "shared" / "videos")
    options.add_argument("--seed", type=int, default=21, help="of the first rendered place")
    options.add_argument("--places", type=int, default=10, help="rendered, two takes in each")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name, video_child(ProbeConfig()) as child:
        folder = Path(name)
        rendered = list(render_takes(folder, given.seed, given.places))
        real = list(shortened(folder, given.videos))
        films = [film for at in rendered + real for film in signatures(child, *at, COPIES)]
        halves = [film for at in real for film in signatures(child, *at, HALVES) if film.way]
    sys.stdout.write(json_bytes(figures(films, halves)).decode() + "\n")


def render_takes(folder: Path, seed: int, count: int) -> Iterator[tuple[Path, str]]:
    """Two takes of each of `count` places: same actor, camera and manner, another motion.

    In every other place the camera stands on a tripod; elsewhere it is held and turns about the
    actor the same way in both takes, but sways differently.
    """
    for number in range(seed, seed + count):
        rng = np.random.default_rng([number, 7])
        actor = sample_actor(rng)
        tripod = number % 2 == 0
        kinds = STAYING if tripod else MOTIONS
        clock = Clock.even(round(SECONDS * FPS), FPS)
        scene, first = None, None
        for take in range(2):
            own = np.random.default_rng([number, 7, take])
            motion = perform(own, actor, (kinds[number // 2 % len(kinds)],), clock)
            views = wild_views(
                np.random.default_rng([number, 7, 9]),
                actor,
                motion,
                framing="half" if number % 3 == 0 else "full",
                width=SIDE,
                height=SIDE,
                times=clock.times + 60 * take,
            )
            first = first or views[0]
            views = [first] * len(views) if tripod else views
            if scene is None:
                place = PLACES[number % len(PLACES)]
                scene = sample_scene(rng, place, extent=camera_extent(views) + 1)
            images = render_cast((actor,), [motion], views, scene, RenderConfig()).images
            path = folder / f"take_{number:04d}_{take}.mp4"
            write_video(path, images, fps=FPS)
            yield path, f"rendered {number}"


def shortened(folder: Path, videos: Path) -> Iterator[tuple[Path, str]]:
    """The first seconds of every clip of a folder, small; none where there is no folder."""
    for path in sorted(videos.glob("*.mp4")) if videos.is_dir() else ():
        target = folder / f"real_{path.stem}.mp4"
        span = ("-t", f"{REAL_SECONDS}")
        encode(path, target, f"scale={REAL_SIDE}:-2", 18, *span)
        yield target, f"real {path.stem}"


def signatures(
    child: Child, path: Path, place: str, ways: dict[str, tuple[str, int]]
) -> Iterator[Film]:
    """A film and its copies."""
    found = sign(child, path)
    if found is None:
        return
    yield Film(path.stem, place, "", found)
    seconds = len(found.pictures) / found.rate
    for way, (filters, quality) in ways.items():
        target = path.with_name("copy.mp4")
        filters = filters.format(end=seconds - 0.4, middle=seconds / 2)
        encode(path, target, f"{filters},crop=trunc(iw/2)*2:trunc(ih/2)*2", quality)
        if copied := sign(child, target):
            yield Film(path.stem, place, way, copied)


def sign(child: Child, path: Path) -> Signature | None:
    """What the first pass of a job keeps of a film."""
    (source,) = list_sources(path)
    facts = probe(child, source, ProbeConfig())
    if isinstance(facts, Reject):
        return None
    found = scan(child, source, facts, ShotConfig(), ProbeConfig())
    return None if isinstance(found, Reject) else found.signature


def encode(source: Path, target: Path, filters: str, quality: int, *span: str) -> None:
    """A copy of a video by way of ffmpeg's filters."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin", "-threads", "1"]
    command += [*span, "-i", str(source), "-an", "-vf", filters, "-c:v", "libx264"]
    command += ["-preset", "ultrafast", "-crf", str(quality), "-threads", "1"]
    subprocess.run([*command, "-pix_fmt", "yuv420p", str(target)], check=True, timeout=120)


def figures(films: Sequence[Film], halves: Sequence[Film]) -> dict[str, float]:
    """Prints the hits of every way to copy; returns the figures of the section."""
    hits: Counter[tuple[str, str]] = Counter()
    made = Counter((kind(film), film.way) for film in films if film.way)
    false: Counter[str] = Counter()
    for listed in (films, halves):
        # Originals first: they stay.
        ordered = sorted(listed, key=lambda film: (film.way != "", film.way, film.name))
        found = find_copies(len(ordered), [f.signature for f in ordered].__getitem__, LIMITS)
        for at, copy in found.items():
            film, other = ordered[at], ordered[copy.of]
            if film.way in COPIES and film.name == other.name:
                hits[kind(film), film.way] += 1
            else:
                false[kind(film)] += 1
                say(f"false: {film.name} {film.way} in {other.name}: {copy.likeness}")
    header = ("copies", "rendered", "found", "real", "found")
    kinds = ("rendered", "real")
    table(header, [(w, *(n for k in kinds for n in (made[k, w], hits[k, w]))) for w in COPIES])
    return {
        "near_duplicate_f1": f1(sum(hits.values()), made.total(), false.total()),
        **{
            f"near_duplicate_f1_{name}": f1(
                sum(n for (k, _), n in hits.items() if k == name),
                sum(n for (k, _), n in made.items() if k == name),
                false[name],
            )
            for name in kinds
        },
        "near_duplicate_recall": round(hits.total() / max(1, made.total()), 4),
        "near_duplicate_false": false.total(),
        "near_duplicate_copies": made.total(),
        "near_duplicate_hard_pairs": hard_pairs(films) + hard_pairs(halves),
        "near_duplicate_pairs": pairs(len(films)) + pairs(len(halves)),
    }


LIMITS = NearDuplicateConfig()


def kind(film: Film) -> str:
    """`rendered` or `real`."""
    return film.place.split()[0]


def f1(hits: int, made: int, false: int) -> float:
    """Harmonic mean of precision and recall."""
    return round(2 * hits / max(1, made + hits + false), 4)


def pairs(count: int) -> int:
    """Of `count` films."""
    return count * (count - 1) // 2


def hard_pairs(films: Sequence[Film]) -> int:
    """Pairs of films of one place that show different takes, copies of them included."""
    places = Counter(film.place for film in films)
    takes = Counter(
        (film.place, film.name if film.way in {"", *COPIES} else film.way) for film in films
    )
    return sum(map(pairs, places.values())) - sum(map(pairs, takes.values()))


if __name__ == "__main__":
    main()
