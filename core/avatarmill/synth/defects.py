"""What is wrong with videos from the web, on demand: which defects a clip has, and how strong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from avatarmill.synth.overlay import Letterbox, Text, sample_letterbox, sample_texts
from avatarmill.synth.timeline import Boundary, BoundaryKind, sample_boundaries
from avatarmill.synth.video import Encoding, FieldOrder, Timing

DefectKind = Literal[
    "half_body",
    "occluder",
    "cut",
    "fade",
    "dissolve",
    "two_people",
    "letterbox",
    "captions",
    "low_bitrate",
    "odd_rate",
    "variable_rate",
    "rotation",
    "interlace",
]
DEFECTS: tuple[DefectKind, ...] = get_args(DefectKind)
_CONFLICTS: tuple[tuple[DefectKind, DefectKind], ...] = (
    ("interlace", "rotation"),
    ("interlace", "variable_rate"),
    ("odd_rate", "variable_rate"),
)
_SHOT_KINDS: tuple[BoundaryKind, ...] = ("cut", "fade", "dissolve")
_ODD_RATES = (24000 / 1001, 30000 / 1001, 12.5, 15.0)
_FIELD_RATES = (25.0, 30000 / 1001)
# Uneven clips: phones that drop frames and screen recorders that skip still moments.
_UNEVEN_SCALE = 90_000
_DROPPED, _JITTER = 0.18, 0.18
_MANY = 3  # at most so many defects of `all` in a clip
_SHORTEST = 40  # frames: shorter clips get no shot boundaries from `all`


def check_defects(defects: Sequence[str]) -> None:
    """Refuse unknown defects and pairs that no file has.

    Raises:
        ValueError: with the name and what is allowed.
    """
    for name in defects:
        if name not in DEFECTS:
            raise ValueError(f"defect {name!r} is not one of {', '.join(DEFECTS)}")
    for one, other in _CONFLICTS:
        if one in defects and other in defects:
            raise ValueError(f"defects {one} and {other} exclude each other: leave one out")


def draw_defects(rng: np.random.Generator, num_frames: int) -> tuple[DefectKind, ...]:
    """A tasteful mix for one clip: none in one clip of eight, else one to three that go together.

    Args:
        rng: consumed.
        num_frames: of the clip; short ones keep one shot.
    """
    if rng.random() < 0.125:
        return ()
    # A whole ranking that fits together first, then its head: every defect is as likely.
    drawn: list[DefectKind] = []
    for index in rng.permutation(len(DEFECTS)):
        name = DEFECTS[int(index)]
        clash = any(name in pair and set(pair) & set(drawn) for pair in _CONFLICTS)
        # One kind of boundary a clip: real edits have a style.
        edited = name in _SHOT_KINDS and (
            bool(set(drawn) & set(_SHOT_KINDS)) or num_frames < _SHORTEST
        )
        if not clash and not edited:
            drawn.append(name)
    chosen = set(drawn[: int(rng.integers(1, _MANY + 1))])
    return tuple(name for name in DEFECTS if name in chosen)


@dataclass(frozen=True, slots=True)
class Format:
    """Everything about a clip but the people and places in it."""

    width: int
    height: int
    """Of the upright picture, bars included."""
    fps: float
    """Nominal frame rate."""
    encoding: Encoding
    timing: Timing
    boundaries: tuple[Boundary, ...]
    letterbox: Letterbox | None
    texts: tuple[Text, ...]

    @property
    def num_frames(self) -> int:
        """Frames of the clip."""
        return len(self.timing.ticks)

    @property
    def fields(self) -> int:
        """Instants that a frame shows: two in interlaced clips."""
        return 1 if self.encoding.field_order == "progressive" else 2

    @property
    def inner(self) -> tuple[int, int]:
        """Width and height of the picture without bars."""
        if self.letterbox is None:
            return self.width, self.height
        return self.letterbox.right - self.letterbox.left, (
            self.letterbox.bottom - self.letterbox.top
        )


def sample_format(
    rng: np.random.Generator,
    defects: Sequence[DefectKind],
    *,
    num_frames: int,
    fps: float,
    width: int,
    height: int,
) -> Format:
    """The format of a clip with certain defects; without any, the plain one that is asked for.

    Args:
        rng: consumed.
        defects: that fit together, see `check_defects`.
        num_frames: of the clip; another rate keeps the length in seconds.
        fps: rate, unless a defect sets another.
        width, height: of the upright picture.

    Raises:
        ValueError: too few frames for the shot boundaries.
    """
    seconds = num_frames / fps
    fps = _rate(rng, defects, fps)
    num_frames = max(1, round(seconds * fps))
    timing = Timing.regular(num_frames, fps)
    if "variable_rate" in defects:
        timing = _uneven(rng, seconds, fps)
        num_frames = len(timing.ticks)
    kinds = [kind for kind in _SHOT_KINDS if kind in defects]
    box = sample_letterbox(rng, width, height) if "letterbox" in defects else None
    return Format(
        width=width,
        height=height,
        fps=fps,
        encoding=replace(_encoding(rng, defects), timing=timing),
        timing=timing,
        boundaries=sample_boundaries(rng, num_frames, fps, kinds),
        letterbox=box,
        texts=sample_texts(rng, num_frames, width, height) if "captions" in defects else (),
    )


def plain_format(num_frames: int, fps: float, width: int, height: int) -> Format:
    """The format of a clip that nothing is wrong with."""
    timing = Timing.regular(num_frames, fps)
    return Format(width, height, fps, Encoding(timing=timing), timing, (), None, ())


def _rate(rng: np.random.Generator, defects: Sequence[DefectKind], fps: float) -> float:
    if "odd_rate" in defects:
        return _ODD_RATES[int(rng.integers(len(_ODD_RATES)))]
    if "interlace" in defects:
        return _FIELD_RATES[int(rng.integers(len(_FIELD_RATES)))]
    return fps


def _uneven(rng: np.random.Generator, seconds: float, fps: float) -> Timing:
    """Times of frames that come early or late, some of them dropped."""
    step = _UNEVEN_SCALE / fps
    # Frames sit near a regular grid, as cameras aim at one; at most 0.36 of a step is lost between
    # neighbours, so times ascend.
    grid = np.arange(max(2, round(seconds * fps)))
    kept = np.concatenate([grid[:1], grid[1:][rng.random(len(grid) - 1) >= _DROPPED]])
    late = rng.uniform(-_JITTER, _JITTER, len(kept))
    late[0] = 0
    ticks = np.round((kept + late) * step).astype(np.int64)
    return Timing(ticks, _UNEVEN_SCALE, fps, uneven=True)


def _encoding(rng: np.random.Generator, defects: Sequence[DefectKind]) -> Encoding:
    orders: tuple[FieldOrder, ...] = ("tff", "bff")
    return Encoding(
        crf=int(rng.integers(36, 43)) if "low_bitrate" in defects else 19,
        rotation=int(rng.choice([90, 180, 270])) if "rotation" in defects else 0,
        field_order=orders[int(rng.integers(2))] if "interlace" in defects else "progressive",
    )
