"""How alike two films are by their strips of tiny pictures: the same pictures, moving alike.

Two takes of one person in one place have nearly the same pictures, so these alone prove nothing. A
copy also moves alike: what is left of its pictures without their average over two seconds agrees
with the original. Both are compared along straight lines through time (another start, another
speed), at the best of a few crops.

No library does this on pictures that are already decoded: `videohash` (64 bits a film, no parts
of a film, abandoned) and `vpdq` (frames one by one) open files themselves, outside our supervised
children.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.strip import SIDE
from avatarmill.pipeline.types import Bytes, Float
from avatarmill.records.canonical import png_array, png_bytes

_SPEEDS = np.arange(0.88, 1.121, 0.02)
"""Of a copy: between 0.9 and 1.1, and a little more."""
_SEGMENT_SECONDS = 10.0
_MAX_SEGMENTS = 8
"""Compared of a long film, evenly spread."""
_MIN_PICTURES = 4
"""Films of less than a second show too little motion to tell a copy from another take."""
_MEAN_SECONDS = 2.0
"""Window of the average that is taken from the pictures to see what moves."""
CROP = 0.95
"""Side of the cropped copies that are tried."""
_WORTH_CROPPING = 0.1
"""Likeness without crops below which no crop is tried: copies cropped in a corner have 0.2."""
_CELLS = 8
"""Side of the pictures whose likeness counts. A crop moves things by parts of a pixel and blurs one
of the two pictures; at half the side both are blurred alike."""
_STILL = 0.3
"""Grey levels (rms) below which nothing moves: the noise of rounding to whole levels."""
_STILL_LOOKS = 0.97
"""Pictures of two films without motion must agree this well: nothing else can tell them apart."""
_MIN_LOOKS = 0.85
"""Agreement of pictures without which nothing is a copy."""
_FIRST_LOOK, _MIN_FIRST_LOOKS = 16, 0.75
"""Pictures of a film that are looked for in the other before anything is aligned, and how well half
of them must be found there; copies have 0.85. A first look takes 0.04 ms, an alignment 10 ms."""


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """The strip of one film."""

    pictures: Bytes
    """[n, SIDE, SIDE] luma."""
    rate: float
    """Pictures a second."""

    def __post_init__(self) -> None:
        if self.pictures.shape[1:] != (SIDE, SIDE) or self.pictures.dtype != np.uint8:
            raise ValueError(f"pictures must be uint8 [n, {SIDE}, {SIDE}]")
        if self.rate <= 0:
            raise ValueError(f"rate is {self.rate}, must be positive")

    def to_png(self) -> bytes:
        """A grey PNG [n, SIDE * SIDE]; about half a kilobyte a second."""
        return png_bytes(self.pictures.reshape(len(self.pictures), -1))

    @classmethod
    def from_png(cls, data: bytes, rate: float) -> "Signature":
        """What `to_png` wrote. Raises ValueError for another picture."""
        return cls(png_array(data).reshape(-1, SIDE, SIDE), rate)


class Likeness(NamedTuple):
    """How a film, or a part of it, agrees with another."""

    value: float
    """Correlation of pictures times correlation of motion times `coverage`, 0 or less to 1."""
    coverage: float
    """Share of the film that agrees."""
    speed: float
    """Of the other film against this one."""


NOTHING = Likeness(0.0, 0.0, 1.0)


def likeness(film: Signature, other: Signature, threshold: float, overlap: float) -> Likeness:
    """How much of `film` is in `other`, and how alike those parts are.

    Args:
        film: the one that may be a copy.
        other: where it may come from.
        threshold: likeness from which a part counts as found.
        overlap: a part is compared where at least this share of it lies within `other`.
    """
    if min(len(film.pictures), len(other.pictures)) < _MIN_PICTURES or not _at_first(film, other):
        return NOTHING
    whole = _Features.of(other)
    parts = [_part_likeness(part, whole, overlap) for part in _segments(film)]
    found = [part for part in parts if part.value >= threshold]
    if not found:
        return max(parts)._replace(coverage=0.0)
    # What two takes have in common is short: the share of the film counts, too.
    coverage = sum(part.coverage for part in found) / len(parts)
    alike = float(np.mean([part.value for part in found]))
    return Likeness(alike * coverage, coverage, float(np.median([part.speed for part in found])))


def _at_first(film: Signature, other: Signature) -> bool:
    """Whether half of the film, or more, has pictures like it anywhere in the other."""
    count = len(film.pictures)
    chosen = np.linspace(0, count - 1, min(count, _FIRST_LOOK)).round().astype(int)
    mine, theirs = (
        _normal(_halved(pictures.reshape(len(pictures), -1).astype(np.float32)))
        for pictures in (film.pictures[chosen], other.pictures)
    )
    return float(np.median((mine @ theirs.T).max(1))) >= _MIN_FIRST_LOOKS


@dataclass(frozen=True, slots=True)
class _Features:
    """A strip, and what moves in it."""

    pictures: Float
    """[n, SIDE * SIDE]."""
    motion: Float
    """[n, SIDE * SIDE] pictures less their average over some time around."""
    rate: float

    @classmethod
    def of(cls, signature: Signature) -> "_Features":
        flat = signature.pictures.reshape(len(signature.pictures), -1).astype(np.float32)
        return cls(flat, flat - _running_mean(flat, signature.rate), signature.rate)

    def coarse(self) -> "_Features":
        """At half the side, for a first look: a crop moves things less than a pixel."""
        return _Features(_halved(self.pictures), _halved(self.motion), self.rate)

    def cropped(self, crop: Float) -> "_Features":
        return _Features(self.pictures @ crop.T, self.motion @ crop.T, self.rate)

    def take(self, ticks: NDArray[np.floating]) -> "_Features":
        """At fractional ticks, which must lie inside."""
        before = np.floor(ticks).astype(int)
        after = np.minimum(before + 1, len(self.pictures) - 1)
        weight = (ticks - before).astype(np.float32)[:, None]

        def mix(rows: Float) -> Float:
            return np.asarray((1 - weight) * rows[before] + weight * rows[after], np.float32)

        return _Features(mix(self.pictures), mix(self.motion), self.rate)


def _running_mean(rows: Float, rate: float) -> Float:
    half = max(1, round(_MEAN_SECONDS * rate / 2))
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, 0, np.float64)])
    at = np.arange(len(rows))
    low, high = np.maximum(0, at - half), np.minimum(len(rows), at + half + 1)
    mean: Float = ((sums[high] - sums[low]) / (high - low)[:, None]).astype(np.float32)
    return mean


def _halved(rows: Float) -> Float:
    half = SIDE // 2
    smaller: Float = rows.reshape(-1, half, 2, half, 2).mean((2, 4)).reshape(len(rows), -1)
    return smaller


def _segments(film: Signature) -> list[_Features]:
    """Equal parts of at most ten seconds, at most eight of them."""
    features = _Features.of(film)
    # A long film has fewer pictures a second: its parts are as many pictures, so longer.
    most = round(_SEGMENT_SECONDS * 4.0)
    count = -(-len(features.pictures) // most)
    edges = np.linspace(0, len(features.pictures), count + 1).round().astype(int)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MAX_SEGMENTS)).round().astype(int))
    return [
        _Features(features.pictures[a:b], features.motion[a:b], features.rate)
        for a, b in ((edges[k], edges[k + 1]) for k in chosen)
    ]


def _part_likeness(part: _Features, whole: _Features, overlap: float) -> Likeness:
    line = _alignment(part.coarse(), whole.coarse(), overlap)
    if line[0] == 0:
        return NOTHING
    found, line = _best_line(part, whole, line)
    if found.value > _WORTH_CROPPING:
        mine, theirs = _aligned(part, whole, line)
        own, other = max(
            _crop_pairs(),
            key=lambda crops: _agreement(mine.cropped(crops[0]), theirs.cropped(crops[1])),
        )
        part, whole = part.cropped(own), whole.cropped(other)
        found, line = _best_line(part, whole, line)
    if found.looks < _MIN_LOOKS:
        return NOTHING
    coverage = len(_aligned(part, whole, line)[0].pictures) / len(part.pictures)
    return Likeness(found.value, coverage, line[0] * part.rate / whole.rate)


Line = tuple[float, float]
"""Ticks of the other film for each tick of this one, and the tick at this one's first."""


def _best_line(part: _Features, whole: _Features, line: Line) -> tuple["_Agreement", Line]:
    """The best of the lines around one, at half the steps of the search and less."""
    near = [
        (line[0] * (1 + turn), line[1] + shift)
        for turn in (-0.02, -0.01, 0.0, 0.01, 0.02)
        for shift in (-0.5, -0.25, 0.0, 0.25, 0.5)
    ]
    return max((_agreement(*_aligned(part, whole, line)), line) for line in near)


def _aligned(part: _Features, whole: _Features, line: Line) -> tuple[_Features, _Features]:
    """Rows of both along a line, as far as it lies inside."""
    ticks = np.arange(len(part.pictures)) * line[0] + line[1]
    inside = (ticks >= 0) & (ticks <= len(whole.pictures) - 1)
    mine = _Features(part.pictures[inside], part.motion[inside], part.rate)
    return mine, whole.take(ticks[inside])


def _alignment(part: _Features, whole: _Features, overlap: float) -> Line:
    """The line along which pictures and motion agree best; speed 0 when none is long enough."""
    own, others = _normal(part.pictures), _normal(whole.pictures)
    looks, moves = own @ others.T, part.motion @ whole.motion.T
    energy = (whole.motion**2).sum(1)
    own_energy = (part.motion**2).sum(1)
    count, length = looks.shape
    rows = np.arange(count)
    offsets = np.arange(-count, length, 0.5)
    best: tuple[float, Line] = (-2.0, (0.0, 0.0))
    for speed in _SPEEDS * whole.rate / part.rate:
        ticks = rows * speed + offsets[:, None]
        inside = (ticks >= 0) & (ticks <= length - 1)
        enough = inside.sum(1) >= max(1, overlap * count)
        if not enough.any():
            continue
        ticks, inside = ticks[enough], inside[enough]
        before = np.clip(np.floor(ticks).astype(int), 0, length - 1)
        near = np.where(ticks - before > 0.5, np.minimum(before + 1, length - 1), before)
        alike = (looks[rows, near] * inside).sum(1) / inside.sum(1)
        power = (energy[near] * inside).sum(1) * (own_energy * inside).sum(1)
        total = alike + (moves[rows, near] * inside).sum(1) / np.sqrt(power + 1e-3)
        top = int(total.argmax())
        if total[top] > best[0]:
            best = float(total[top]), (float(speed), float(offsets[enough][top]))
    return best[1]


class _Agreement(NamedTuple):
    value: float
    """Correlation of pictures times correlation of motion."""
    looks: float
    """Correlation of pictures."""


def _agreement(mine: _Features, theirs: _Features) -> _Agreement:
    """How two strips agree that are aligned already."""
    if not len(mine.pictures):
        return _Agreement(0.0, 0.0)
    looks = float((_normal(mine.pictures) * _normal(theirs.pictures)).sum(1).mean())
    power = [float((side.motion**2).mean()) for side in (mine, theirs)]
    if max(power) < _STILL**2:
        return _Agreement(looks if looks >= _STILL_LOOKS else 0.0, looks)
    moves = float((mine.motion * theirs.motion).mean()) / float(np.sqrt(power[0] * power[1] + 1e-6))
    return _Agreement(looks * moves, looks)


def _normal(rows: Float) -> Float:
    """Each row with mean 0 and length 1: brightness and contrast do not count."""
    centred = rows - rows.mean(1, keepdims=True)
    return np.asarray(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-3), np.float32)


@cache
def _crop_pairs() -> list[tuple[Float, Float]]:
    """Crops of this film and of the other: none, or one of nine of either.

    Operators [_CELLS * _CELLS, SIDE * SIDE].
    """
    starts = (0.0, (1 - CROP) / 2, 1 - CROP)
    axes = [averages(start, start + CROP, _CELLS) for start in starts]
    whole = np.kron(averages(0, 1, _CELLS), averages(0, 1, _CELLS))
    crops = [np.kron(down, across) for down in axes for across in axes]
    return [(whole, whole), *((whole, crop) for crop in crops), *((crop, whole) for crop in crops)]


def averages(begin: float, end: float, cells: int) -> Float:
    """[cells, SIDE] averages of equal parts of [begin, end) of a row of pixels of length 1.

    Beyond its ends the row goes on as its last pixels.
    """
    edges = np.linspace(begin * SIDE, end * SIDE, cells + 1)[:, None]
    low, high = np.arange(SIDE, dtype=np.float64), np.arange(1, SIDE + 1, dtype=np.float64)
    low[0], high[-1] = -SIDE, 2 * SIDE
    overlap = (np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)).clip(0)
    return np.asarray(overlap / overlap.sum(1, keepdims=True), np.float32)
