"""What somebody wears, as colour counts of trunk, thighs and head: what is left of an identity when
nobody has been watching."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.figures import Array, Figure
from avatarmill.pipeline.types import Bytes

_HEAD = slice(0, 11)
_THIGHS = ((23, 25), (24, 26))
_PARTS = ("trunk", "thighs", "head")
_IMPORTANCE = np.array([1.0, 0.7, 0.5])
_VISIBLE = 0.5
_SIDE = 96
"""Longer side, pixels, at which colours are counted: enough for a histogram, and always as fast."""
_BINS = (8, 14, 14)
_LOW, _HIGH = (0.0, 78.0, 78.0), (256.0, 178.0, 178.0)
"""Range of the counted Lab values; chroma beyond it falls into the outermost bin."""
_FEW = 12
"""Pixels of a part below which its colours say nothing."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """Colours of the parts of one person."""

    colours: Array
    """[3, K] histogram of each part, summing to 1; zeros where the part was not seen."""
    weights: Array
    """[3] how much each part has been seen, frames."""

    def __add__(self, other: "Appearance") -> "Appearance":
        weights = self.weights + other.weights
        total = self.colours * self.weights[:, None] + other.colours * other.weights[:, None]
        return Appearance(total / np.maximum(weights, 1e-9)[:, None], weights)


NOTHING = Appearance(np.zeros((3, int(np.prod(_BINS)))), np.zeros(3))


def total(appearances: Sequence[Appearance]) -> Appearance:
    """The mean of what was seen in several frames."""
    return sum(appearances, NOTHING)


def difference(first: Appearance, second: Appearance) -> float | None:
    """Hellinger distance, 0 alike to 1, over the parts seen of both; None where there is none."""
    seen = np.minimum(np.minimum(first.weights, second.weights), 1) * _IMPORTANCE
    if seen.sum() <= 0.25:
        return None
    shared = np.sqrt(first.colours * second.colours).sum(1)
    distance = np.sqrt(np.clip(1 - shared, 0, 1))
    return float((seen * distance).sum() / seen.sum())


def light_change(images: Bytes, row: int, before: int) -> float:
    """Hellinger distance, 0..1, of the colours of a whole frame of [F, H, W, 3] from those of up to
    so many frames before it: fades and exposure change everybody."""
    start = max(0, row - before)
    if start == row:
        return 0.0
    step = max(1, -(-max(images.shape[1:3]) // _SIDE))
    small = [np.ascontiguousarray(image[::step, ::step]) for image in images[start : row + 1]]
    counts = [_histogram(bin_numbers(picture).reshape(-1)) for picture in small]
    shared = np.sqrt(np.mean(counts[:-1], axis=0) * counts[-1]).sum()
    return float(np.sqrt(np.clip(1 - shared, 0, 1)))


def look_at(image: Bytes, figure: Figure) -> Appearance:
    """The appearance of a figure in its frame [H, W, 3], counted inside its mask."""
    y, x = figure.window()
    step = max(1, -(-max(figure.mask.shape) // _SIDE))
    mask = figure.mask[::step, ::step] > 127
    if not mask.any():
        return NOTHING
    pixels = np.ascontiguousarray(image[y, x][::step, ::step])
    bins = bin_numbers(pixels)
    body = figure.body.astype(np.float64)
    points = (body[:, :2] - figure.corner) / step
    colours, weights = np.zeros_like(NOTHING.colours), np.zeros(3)
    for row, stencil in enumerate(_stencils(points, body[:, 3], figure.size / step, mask.shape)):
        inside = (stencil > 0) & mask
        count = int(inside.sum())
        if count >= _FEW:
            colours[row] = _histogram(bins[inside])
            weights[row] = 1
    return Appearance(colours, weights)


def _stencils(
    points: Array, visibility: Array, size: float, shape: tuple[int, ...]
) -> list[NDArray[np.uint8]]:
    """Where trunk, thighs and head are; empty where they are not seen."""
    trunk, thighs, head = (np.zeros(shape[:2], np.uint8) for _ in _PARTS)
    neck, hips = points[[11, 12]].mean(0), points[[23, 24]].mean(0)
    if visibility[[11, 12]].mean() > _VISIBLE:
        _line(trunk, neck + 0.15 * (hips - neck), neck + 0.85 * (hips - neck), 0.36 * size)
    for hip, knee in _THIGHS:
        if min(visibility[hip], visibility[knee]) > _VISIBLE:
            end = points[hip] + 0.9 * (points[knee] - points[hip])
            _line(thighs, points[hip] + 0.25 * (end - points[hip]), end, 0.16 * size)
    if visibility[_HEAD].mean() > _VISIBLE:
        middle = points[_HEAD].mean(0) + 0.2 * (points[_HEAD].mean(0) - neck)
        _line(head, middle, middle, 0.6 * size)
    return [trunk, thighs, head]


def _line(stencil: NDArray[np.uint8], start: Array, stop: Array, width: float) -> None:
    # Points far outside, as extrapolated landmarks can be, would overflow OpenCV's integers.
    (x0, y0), (x1, y1) = ((int(v) for v in np.clip(np.rint(p), -4096, 4096)) for p in (start, stop))
    cv2.line(stencil, (x0, y0), (x1, y1), 1, max(1, min(255, round(width))))


def bin_numbers(image: Bytes) -> NDArray[np.int64]:
    """[H, W] the column of `Appearance.colours` that counts each pixel of [H, W, 3]."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    numbers = np.zeros(lab.shape[:2], np.int64)
    for channel, (count, low, high) in enumerate(zip(_BINS, _LOW, _HIGH, strict=True)):
        scaled = (lab[..., channel].astype(np.float32) - low) * (count / (high - low))
        numbers = numbers * count + np.clip(scaled, 0, count - 1).astype(np.int64)
    return numbers


def _histogram(numbers: NDArray[np.int64]) -> Array:
    """Counts blurred over neighbouring bins: a shade on their border is not two colours."""
    counts = np.bincount(numbers, minlength=int(np.prod(_BINS))).reshape(_BINS).astype(np.float64)
    for axis in range(3):
        padded = np.concatenate(
            [counts.take([0], axis), counts, counts.take([-1], axis)], axis=axis
        )
        low, high = (np.arange(counts.shape[axis]) + shift for shift in (0, 2))
        counts = 0.5 * counts + 0.25 * (padded.take(low, axis) + padded.take(high, axis))
    flat: Array = counts.reshape(-1) / counts.sum()
    return flat
