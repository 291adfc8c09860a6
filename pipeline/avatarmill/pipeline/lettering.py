"""Finds lines of text burnt into a picture: flat, high-contrast letters of one size in a row."""

import cv2
import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.lettering_rows import ALIKE, Boxes, Letters, leftmost_row
from avatarmill.pipeline.types import Bytes

_STROKE = 0.022
"""Widest stroke of a letter over the shorter side of the picture."""
_CONTRAST = 70
"""Least difference of a letter to what surrounds it, of 255."""
_SMALLEST, _TALLEST = 0.014, 0.16
"""Height of letters over the shorter side of the picture."""
_LEAST_LETTERS = 4
_VARIETY = 0.08
"""Least deviation of the widths of letters over their mean."""
_STACKED = 3
"""Lines with so many others above and below them are rows of a pattern, not of a text."""
_FLAT = ALIKE / 2
"""Largest deviation of a channel inside a letter."""
_BODY = 0.8
"""Share of the highest contrast of a letter above which a pixel is no part of its soft rim."""
_LARGEST_SIDE = 720
"""Pictures are shrunk to it first: what can be read needs no more."""


def text_lines(image: Bytes) -> Boxes:
    """Boxes [n, 4] (x0, y0, x1, y1 in pixels) of the lines of burnt-in text of a picture.

    Letters are connected pieces that stand out from what is around them, of one flat colour, the
    same along the line (Epshtein et al. 2010 group strokes in this way); folds and patterns of
    clothes are neither flat nor in a row.

    Args:
        image: [H, W, 3] sRGB.
    """
    scale = min(1.0, _LARGEST_SIDE / max(image.shape[:2]))
    small = image
    if scale < 1:
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    lines = [line for bright in (True, False) for line in _lines(_letters(small, bright=bright))]
    if not lines:
        return np.zeros((0, 4), np.int64)
    boxes: Boxes = np.round(np.stack(lines) / scale).astype(np.int64)
    return boxes


def lettering_mask(image: Bytes) -> NDArray[np.bool_]:
    """[H, W] true inside the boxes of `text_lines`."""
    covered: NDArray[np.bool_] = np.zeros(image.shape[:2], np.bool_)
    for x0, y0, x1, y1 in text_lines(image):
        covered[max(y0, 0) : y1, max(x0, 0) : x1] = True
    return covered


def _letters(image: Bytes, *, bright: bool) -> Letters:
    """Pieces lighter (or darker) than their surroundings, of the size and flatness of letters."""
    side = min(image.shape[:2])
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    width = 2 * max(2, round(_STROKE * side)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    how = cv2.MORPH_TOPHAT if bright else cv2.MORPH_BLACKHAT
    contrast = cv2.morphologyEx(grey, how, kernel)
    strokes = (contrast > _CONTRAST).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(strokes, connectivity=8)
    tall, wide = stats[:, cv2.CC_STAT_HEIGHT], stats[:, cv2.CC_STAT_WIDTH]
    fits = (tall >= max(6, _SMALLEST * side)) & (tall <= _TALLEST * side) & (wide <= 2.5 * tall)
    fits &= (wide >= 2) & (stats[:, cv2.CC_STAT_AREA] >= 8)
    fits[0] = False
    mean, deviation = _colors(image, labels, contrast, count)
    chosen = np.flatnonzero(fits & (deviation.max(-1) <= _FLAT))
    x, y = stats[chosen, cv2.CC_STAT_LEFT], stats[chosen, cv2.CC_STAT_TOP]
    boxes = np.stack([x, y, x + wide[chosen], y + tall[chosen]], -1).astype(np.int64)
    return Letters(boxes, mean[chosen])


def _colors(
    image: Bytes, labels: NDArray[np.int32], contrast: Bytes, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation [count, 3] of the body of each labelled piece, less its soft rim."""
    at = np.flatnonzero(labels)
    of, own = labels.ravel()[at], contrast.ravel()[at]
    most = np.zeros(count, np.uint8)
    np.maximum.at(most, of, own)
    body = own > _BODY * most[of]
    of, pixels = of[body], image.reshape(-1, 3)[at[body]].astype(np.float64)
    size = np.maximum(np.bincount(of, minlength=count), 1)[:, None]
    sums = [np.bincount(of, pixels[:, k], count) for k in range(3)]
    squares = [np.bincount(of, pixels[:, k] ** 2, count) for k in range(3)]
    mean = np.stack(sums, -1) / size
    return mean, np.sqrt(np.maximum(np.stack(squares, -1) / size - mean**2, 0))


def _lines(letters: Letters) -> list[NDArray[np.int64]]:
    """Boxes [4] of rows of at least so many letters alike in colour, height and place."""
    found = []
    rest = letters.take(np.argsort(letters.boxes[:, 0], kind="stable"))
    while len(rest.boxes) >= _LEAST_LETTERS:
        row = leftmost_row(rest)
        boxes = rest.boxes[row]
        if len(row) >= _LEAST_LETTERS and _varied(boxes):
            found.append(np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)]))
        left = np.ones(len(rest.boxes), np.bool_)
        left[row] = False
        rest = rest.take(left)
    return _without_patterns(found) if found else []


def _varied(boxes: Boxes) -> bool:
    """Whether pieces differ in width as letters do, and dots of a pattern do not."""
    width = (boxes[:, 2] - boxes[:, 0]).astype(np.float64)
    return bool(width.std() >= _VARIETY * width.mean())


def _without_patterns(lines: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """The lines less those that are stacked like the rows of dots or checks on cloth."""
    boxes = np.stack(lines)
    shared = np.minimum(boxes[:, None, 2], boxes[:, 2]) - np.maximum(boxes[:, None, 0], boxes[:, 0])
    whole = np.maximum(boxes[:, None, 2], boxes[:, 2]) - np.minimum(boxes[:, None, 0], boxes[:, 0])
    others = (shared > 0.6 * whole).sum(1) - 1
    return [line for line, count in zip(lines, others, strict=True) if count < _STACKED]
