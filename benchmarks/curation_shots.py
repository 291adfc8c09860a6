"""How well shot boundaries are found, on rendered films and on real clips joined.

Three kinds of films, encoded as H.264 and read back: films of synth with a cut, a fade and a
dissolve each and one other defect of web video; real clips joined by cuts, fades and dissolves,
also to other framings of themselves; real single shots with what is mistaken for a cut: flashes,
exposure, captions, shaking, somebody close to the camera. Prints a table and, last, one JSON
object.
"""

import argparse
import functools
import json
import os
import runpy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from avatarmill.cli.console import say, table
from avatarmill.pipeline.children.supervise import Child
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.shots import ShotConfig, find_shots
from avatarmill.pipeline.types import Reject
from avatarmill.synth.defects import DefectKind
from avatarmill.synth.film import Film, FilmConfig
from avatarmill.synth.frames import WildConfig
from avatarmill.synth.render import RenderConfig
from avatarmill.synth.video import write_video

Images = NDArray[np.uint8]
Kind = Literal["cut", "camera cut", "fade", "dissolve"]

VIDEOS = Path(
    os.environ.get("AVATARMILL_VIDEOS", Path(__file__).resolve().parents[2] / "shared" / "videos")
)
DEVELOPMENT_SEEDS, HELD_OUT_SEEDS = range(1, 21), range(21, 51)
DEVELOPMENT_CLIPS = (
    "fullbody_juggle", "fullbody_squat", "halfbody_chef", "noperson_jeep", "talking_head",
    "two_people_shop",
)  # fmt: skip
HELD_OUT_CLIPS = (
    "cartoon", "fullbody_snow_walk", "fullbody_tennis", "fullbody_turn", "halfbody_host",
    "noperson_kitchen", "portrait_red_dress", "two_people_skyline",
)  # fmt: skip
WITH: tuple[tuple[DefectKind, ...], ...] = (
    (), ("captions",), ("low_bitrate",), ("letterbox",), ("variable_rate",), ("odd_rate",),
    ("interlace",), ("rotation",), ("two_people",), ("occluder",), ("half_body",),
)  # fmt: skip
"""What a rendered film has besides its three boundaries, by its seed."""
WEB_DISSOLVES = {"fullbody_squat": ((90, 100), (159, 170), (228, 239), (364, 375))}
"""First and last frame of dissolves that real clips came with, found by eye."""
USABLE = {"fullbody_squat": (240, 360), "noperson_jeep": (0, 150)}
"""Frames [begin, end) of one shot, where a clip has more than that."""
SIZE = (384, 216)
_FPS = 25.0
_MOST_FRAMES = 120
_TOLERANCE = 2


@dataclass(frozen=True, slots=True)
class Edge:
    """A true boundary: frames first..last are mixed; a cut has the new shot's first frame."""

    kind: Kind
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Case:
    """A film with known boundaries."""

    group: str
    name: str
    path: Path
    edges: tuple[Edge, ...]


@dataclass(slots=True)
class Score:
    """Counts over films."""

    films: int = 0
    true: int = 0
    found: int = 0
    false: int = 0

    @property
    def f1(self) -> float:
        """Of hits, misses and false boundaries."""
        return 2 * self.found / max(1, self.true + self.found + self.false)


# --- rendered films


def synth_case(seed: int, folder: Path) -> Case:
    """A rendered film with a cut, a fade and a dissolve."""
    more = WITH[seed % len(WITH)]
    wild = WildConfig(width=320, height=192, render=RenderConfig(supersample=1, shadow_size=160))
    film = Film(seed, FilmConfig(wild, ("cut", "fade", "dissolve", *more), anchors=0))
    path = folder / f"synth_{seed}.mp4"
    write_video(path, film.frames(), fps=film.form.fps, encoding=film.form.encoding)
    edges = tuple(
        Edge("camera cut" if (b.kind, b.change) == ("cut", "camera") else b.kind, b.first, b.last)
        for b in film.form.boundaries
    )
    return Case("synth", f"{seed} {' '.join(more)}", path, edges)


# --- real clips


@functools.lru_cache(maxsize=32)
def clip(name: str) -> Images:
    """[F, H, W, 3] frames of one shot of a real clip, cut to `SIZE`."""
    begin, end = USABLE.get(name, (0, 10**9))
    width, height = SIZE
    kept: list[Images] = []
    with av.open(str(VIDEOS / f"{name}.mp4")) as container:
        stream = container.streams.video[0]
        scale = max(width / stream.width, height / stream.height)
        wide, high = round(stream.width * scale), round(stream.height * scale)
        for row, frame in enumerate(container.decode(stream)):
            if row < begin:
                continue
            if row >= end or len(kept) == _MOST_FRAMES:
                break
            image = frame.to_ndarray(width=wide, height=high, format="rgb24", interpolation="AREA")
            left, top = (wide - width) // 2, (high - height) // 3
            kept.append(image[top : top + height, left : left + width].copy())
    return np.stack(kept)


def reframed(images: Images, rng: np.random.Generator) -> Images:
    """The same film by another camera: nearer, aside, sometimes mirrored."""
    width, height = SIZE
    share = rng.uniform(0.4, 0.65)
    wide, high = round(width * share), round(height * share)
    left, top = int(rng.integers(width - wide)), int(rng.integers((height - high) // 2 + 1))
    part = images[:, top : top + high, left : left + wide]
    if rng.random() < 0.3:
        part = part[:, :, ::-1]
    return np.stack([cv2.resize(image, SIZE, interpolation=cv2.INTER_CUBIC) for image in part])


def joined(names: Sequence[str], seed: int) -> tuple[Images, tuple[Edge, ...]]:
    """Five shots of real clips, one joined to another framing of itself."""
    rng = np.random.default_rng([seed, 77])
    order = [names[int(i)] for i in rng.permutation(len(names))[:4]]
    shots = [_part(clip(name), rng) for name in order]
    again = int(rng.integers(len(shots)))
    shots.insert(again + 1, reframed(_part(clip(order[again]), rng), rng))
    kinds: list[Kind] = ["cut", "dissolve", "fade", "cut"]
    kinds = [kinds[int(i)] for i in rng.permutation(4)]
    film, edges = shots[0], []
    for row, (kind, shot) in enumerate(zip(kinds, shots[1:], strict=True)):
        if row == again:  # another camera: cut to it, sometimes dissolve
            kind = "camera cut" if rng.random() < 0.75 else "dissolve"
        film, edge = _join(film, shot, kind, rng)
        edges.append(edge)
    return film, tuple(edges)


def _part(images: Images, rng: np.random.Generator) -> Images:
    length = int(rng.integers(36, 56))
    begin = int(rng.integers(max(1, len(images) - length)))
    return images[begin : begin + length]


def _join(a: Images, b: Images, kind: Kind, rng: np.random.Generator) -> tuple[Images, Edge]:
    """Film a, then b, and the boundary between them."""
    if kind in ("cut", "camera cut"):
        return np.concatenate([a, b]), Edge(kind, len(a), len(a))
    if kind == "dissolve":
        length = int(rng.integers(6, 20))
        share = (np.arange(1, length + 1) / (length + 1))[:, None, None, None]
        mixed = (1 - share) * a[-length:] + share * b[:length]
        film = np.concatenate([a[:-length], np.rint(mixed).astype(np.uint8), b[length:]])
        return film, Edge(kind, len(a) - length, len(a) - 1)
    half, hold = int(rng.integers(4, 12)), int(rng.integers(1, 6))
    color = 255.0 if rng.random() < 0.3 else 0.0
    share = (np.arange(1, half + 1) / (half + 1))[:, None, None, None]
    fall = (1 - share) * a[-half:] + share * color
    rise = share * b[:half] + (1 - share) * color
    flat = np.full((hold, *a.shape[1:]), color)
    mixed = np.rint(np.concatenate([fall, flat, rise])).astype(np.uint8)
    first = len(a) - half
    return np.concatenate([a[:-half], mixed, b[half:]]), Edge(kind, first, first + len(mixed) - 1)


# --- what is mistaken for a cut


def flash(images: Images, rng: np.random.Generator) -> Images:
    """Photographers: one to three frames nearly white, twice."""
    out = images.astype(np.float32)
    for at in (len(images) // 3, 2 * len(images) // 3):
        for k, strength in enumerate((0.85, 0.6, 0.25)[: int(rng.integers(1, 4))]):
            out[at + k] += strength * (255 - out[at + k])
    return np.rint(out).astype(np.uint8)


def exposure(images: Images, rng: np.random.Generator) -> Images:
    """Darker within half a second and back, as cameras do; a lamp switched on near the end."""
    gain = np.interp(np.arange(len(images)) / len(images), (0.2, 0.3, 0.5, 0.6), (1, 0.45, 0.45, 1))
    gain[4 * len(gain) // 5 :] *= rng.uniform(1.5, 1.9)
    return np.clip(images * gain[:, None, None, None], 0, 255).astype(np.uint8)


def captions(images: Images, rng: np.random.Generator) -> Images:
    """A panel with text over the lower third, text in the middle, both within one frame."""
    out, width, height = images.copy(), *SIZE
    third = len(out) // 4
    for image in out[third : 3 * third]:
        cv2.rectangle(image, (0, 2 * height // 3), (width, height), (20, 30, 140), -1)
        cv2.putText(image, "BREAKING NEWS", (20, height - 25), 0, 1.3, (255, 255, 255), 3)
    for image in out[2 * third :]:
        cv2.putText(image, "subscribe", (40, height // 2), 0, 1.9, (255, 230, 0), 6)
    return out


def shaking(images: Images, rng: np.random.Generator) -> Images:
    """A hand-held camera that is knocked about."""
    width, height = SIZE
    at = np.cumsum(rng.normal(0, 6, (len(images), 2)), 0)
    at -= np.linspace(0, 1, len(at))[:, None] * at[-1]
    out = []
    for image, (dx, dy) in zip(images, at.clip(-24, 24), strict=True):
        left, top = round(width * 0.1 + dx), round(height * 0.1 + dy * 0.8)
        part = image[max(0, top) :, max(0, left) :][: round(height * 0.8), : round(width * 0.8)]
        out.append(cv2.resize(part, SIZE))
    return np.stack(out)


def passer(images: Images, rng: np.random.Generator) -> Images:
    """Somebody walks by close to the camera: most of the picture is hidden for a moment."""
    width, height = SIZE
    out, begin, length = images.copy(), len(images) // 3, 14
    cloth = cv2.resize(rng.integers(20, 90, (9, 7, 3), np.uint8), (round(width * 0.7), height))
    for step in range(length):
        left = round(-cloth.shape[1] + (width + cloth.shape[1]) * (step + 1) / (length + 1))
        a, b = max(0, left), min(width, left + cloth.shape[1])
        out[begin + step, :, a:b] = cloth[:, a - left : b - left]
    return out


def whip(images: Images, rng: np.random.Generator) -> Images:
    """The camera turns quickly: half of the picture's width within eight frames."""
    width = SIZE[0]
    wide = round(width * 0.55)
    path = np.interp(np.arange(len(images)), (len(images) // 2, len(images) // 2 + 8), (0, 1))
    lefts = np.rint(path * (width - wide)).astype(int)
    pairs = zip(images, lefts, strict=True)
    return np.stack([cv2.resize(image[:, at : at + wide], SIZE) for image, at in pairs])


MISTAKEN: dict[str, Callable[[Images, np.random.Generator], Images]] = {
    "as it is": lambda images, _: images,
    "flash": flash,
    "exposure": exposure,
    "captions": captions,
    "three times the speed": lambda images, _: images[::3],
    "shaking": shaking,
    "passer": passer,
    "whip": whip,
    "every frame twice": lambda images, _: np.repeat(images[:80], 2, 0),
    "stutter": lambda images, _: np.repeat(images[::5], 5, 0),
}


# --- cases and scores


def cases(folder: Path, *, development: bool) -> Iterator[Case]:
    """All films, made one after another; the real ones only where there are real clips."""
    seeds = DEVELOPMENT_SEEDS if development else HELD_OUT_SEEDS
    names = DEVELOPMENT_CLIPS if development else HELD_OUT_CLIPS
    for seed in seeds:
        yield synth_case(seed, folder)
    if not all((VIDEOS / f"{name}.mp4").is_file() for name in names):
        say(f"no real clips in {VIDEOS}; AVATARMILL_VIDEOS names another folder")
        return
    for number in range(16):
        film, edges = joined(names, number + 100 * (not development))
        yield _written("joined", f"{number}", film, edges, folder)
    for row, name in enumerate(names):
        for column, (defect, change) in enumerate(MISTAKEN.items()):
            rng = np.random.default_rng([row, column, development])
            film = change(clip(name), rng)
            yield _written("single", f"{name} {defect}", film, (), folder)
    for name, rows in WEB_DISSOLVES.items():
        edges = tuple(Edge("dissolve", first, last) for first, last in rows)
        yield Case("web", name, VIDEOS / f"{name}.mp4", edges)


def _written(group: str, name: str, film: Images, edges: tuple[Edge, ...], folder: Path) -> Case:
    path = folder / f"{group}_{name.replace(' ', '_')}.mp4"
    write_video(path, film, fps=_FPS, crf=24)
    return Case(group, name, path, edges)


def boundaries(child: Child, path: Path) -> list[tuple[float, float]]:
    """What the pipeline finds: where shots end and the next begin, in frames of the file.

    A cut is (f, f), f the new shot's first frame; a transition (first, last) of what is left out.
    """
    (source,) = list_sources(path)
    facts = probe(child, source, ProbeConfig())
    assert not isinstance(facts, Reject), facts
    shots = find_shots(child, source, facts, ShotConfig(longest_seconds=1e6), ProbeConfig())
    assert not isinstance(shots, Reject), shots
    with av.open(str(path)) as container:
        times = np.sort([float(p.pts * p.time_base) for p in container.demux(video=0) if p.size])
    found = []
    for before, after in zip(shots, shots[1:], strict=False):
        first, stop = np.searchsorted(
            times, [before.stop_seconds - 1e-4, after.start_seconds - 1e-4]
        )
        found.append((float(first), float(max(first, stop - 1))))
    return found


def matched(edges: Sequence[Edge], found: Sequence[tuple[float, float]]) -> tuple[list[bool], int]:
    """Which edges are hit, and how many found boundaries hit none; each may hit one.

    A cut is hit within two frames, a fade or a dissolve inside its length, by the middle of what
    was found.
    """
    hits, free = [], list(found)
    for edge in edges:
        slack = _TOLERANCE if edge.first == edge.last else 0
        own = [f for f in free if edge.first - slack <= (f[0] + f[1]) / 2 <= edge.last + slack]
        hits.append(bool(own))
        if own:
            free.remove(own[0])
    return hits, len(free)


def figures(*, development: bool = False) -> dict[str, float]:
    """Prints a table; returns the section's figures."""
    by_kind: dict[tuple[str, str], Score] = {}
    by_group: dict[str, Score] = {}
    with tempfile.TemporaryDirectory() as name, video_child(ProbeConfig()) as child:
        for case in cases(Path(name), development=development):
            found = boundaries(child, case.path)
            hits, false = matched(case.edges, found)
            group = by_group.setdefault(case.group, Score())
            group.films, group.false = group.films + 1, group.false + false
            for edge, hit in zip(case.edges, hits, strict=True):
                kind = by_kind.setdefault((case.group, edge.kind), Score())
                for score in (group, kind):
                    score.true, score.found = score.true + 1, score.found + hit
            if false or not all(hits):
                true = ", ".join(f"{e.kind} {e.first}-{e.last}" for e in case.edges) or "none"
                say(f"{case.group} {case.name}: found {found}, true {true}")
            if case.path.is_relative_to(name):
                case.path.unlink()
    rows = [[*key, s.true, s.found, ""] for key, s in sorted(by_kind.items())]
    rows += [[key, "all", s.true, s.found, s.false] for key, s in by_group.items()]
    table(("films", "boundary", "true", "found", "false"), rows)
    counts = ("films", "true", "found", "false")
    total = Score(*(sum(getattr(s, name) for s in by_group.values()) for name in counts))
    return {
        "shot_f1": round(total.f1, 4),
        **{f"shot_f1_{name}": round(s.f1, 4) for name, s in by_group.items() if s.true},
        "shot_boundaries": total.true,
        "shot_missed": total.true - total.found,
        "shot_false": total.false,
        "shot_films": total.films,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", action="store_true", help="only what needs a quiet machine")
    parser.add_argument(
        "--development", action="store_true", help="the films that rules are tuned on"
    )
    options = parser.parse_args()
    if options.speed:
        runpy.run_path(
            str(Path(__file__).with_name("curation_shots_speed.py")), run_name="__main__"
        )
        return
    say(json.dumps(figures(development=options.development)))


if __name__ == "__main__":
    main()
