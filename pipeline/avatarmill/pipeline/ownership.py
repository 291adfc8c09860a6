"""Whose a pixel is that two people's masks claim: bones and colours decide."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.appearance import Appearance, bin_numbers
from avatarmill.pipeline.figures import Array, Figure
from avatarmill.pipeline.types import Bytes, Float

_BONES = (
    (11, 12, 0.2), (11, 23, 0.2), (12, 24, 0.2), (23, 24, 0.2),
    (11, 13, 0.12), (12, 14, 0.12), (13, 15, 0.1), (14, 16, 0.1), (15, 19, 0.08), (16, 20, 0.08),
    (23, 25, 0.16), (24, 26, 0.16), (25, 27, 0.11), (26, 28, 0.11), (27, 31, 0.1), (28, 32, 0.1),
)  # fmt: skip
"""Both ends of a limb, and how far its flesh reaches from the bone, in body sizes."""
_HEAD_RADIUS = 0.3
_SEEN = 0.3
_CLAIMED = 25
"""Mask value, of 255, above which a pixel is claimed."""
_SIDE = 160
"""Longer side, pixels, at which the question is decided."""
_NEAR = 0.08
"""Distance from the flesh, in body sizes, that speaks as loud as a colour e times as likely."""
_COLOUR_FLOOR = 0.003
_COLOUR_LIMIT = 3.0
_ABSENT, _ABSENT_COLOUR = -1.5, -0.5
"""Preference, and share of the colour in it, below which a pixel is left to somebody who is not
there to claim it."""
_POINTS = np.array([0, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])


def share_pixels(
    image: Bytes, figures: Sequence[Figure], looks: Sequence[Appearance]
) -> list[Figure]:
    """The figures of one frame with masks that no longer overlap.

    Args:
        image: [H, W, 3].
        figures: of different people.
        looks: their appearance over the whole shot.
    """
    shared = [replace(figure, mask=figure.mask.copy()) for figure in figures]
    for i, first in enumerate(shared):
        for j in range(i + 1, len(shared)):
            _divide(image, (first, shared[j]), (looks[i], looks[j]))
    return shared


def own_pixels(
    image: Bytes, figure: Figure, look: Appearance, absent: Appearance
) -> NDArray[np.bool_]:
    """[h, w] where the mask of a figure is its own, rather than of somebody who is near, but was
    not found in this frame.

    Args:
        image: [H, W, 3].
        figure: in it.
        look: the figure's appearance over the shot.
        absent: appearance of the other.
    """
    window = figure.window()
    claimed: NDArray[np.bool_] = figure.mask > _CLAIMED
    if not claimed.any():
        return claimed
    step = max(1, -(-max(claimed.shape) // _SIDE))
    small = np.ascontiguousarray(image[window][::step, ::step])
    colour = _colour_preference(small, (look, absent))
    flesh = _flesh_distance(figure, np.array(figure.corner), step, small.shape) / _NEAR
    # What nobody is there to claim is only given away for its colour.
    score = np.where(colour < _ABSENT_COLOUR, colour - flesh, 0)
    return claimed & (_enlarged(score, claimed.shape) > _ABSENT)


def hidden_share(figure: Figure, others: Sequence[Figure]) -> float:
    """Share of a figure's joints that lie in the masks of others, after `share_pixels`."""
    points = figure.body[_POINTS, :2]
    hidden = np.zeros(len(points), np.bool_)
    for other in others:
        x, y = (points - other.corner).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < other.mask.shape[1]) & (y < other.mask.shape[0])
        hidden[inside] |= other.mask[y[inside], x[inside]] > 127
    return float(hidden.mean())


def _divide(
    image: Bytes, pair: tuple[Figure, Figure], looks: tuple[Appearance, Appearance]
) -> None:
    """Takes every pixel claimed twice from one of a pair, in place."""
    common = _common_window(*pair)
    if common is None:
        return
    views = [_view(figure, common) for figure in pair]
    claimed = np.minimum(views[0], views[1]) > _CLAIMED
    if not claimed.any():
        return
    for_first = _preference(image[common], pair, looks, common)
    views[0][claimed & (for_first <= 0)] = 0
    views[1][claimed & (for_first > 0)] = 0


def _common_window(first: Figure, second: Figure) -> tuple[slice, slice] | None:
    """Rows and columns that both masks cover."""
    sides = []
    for one, other in zip(first.window(), second.window(), strict=True):
        start, stop = max(one.start, other.start), min(one.stop, other.stop)
        if start >= stop:
            return None
        sides.append(slice(start, stop))
    return sides[0], sides[1]


def _view(figure: Figure, window: tuple[slice, slice]) -> Bytes:
    x, y = figure.corner
    rows, columns = window
    return figure.mask[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]


def _preference(
    image: Bytes,
    pair: tuple[Figure, Figure],
    looks: tuple[Appearance, Appearance],
    window: tuple[slice, slice],
) -> Float:
    """[h, w] above 0 where a pixel of the window is rather the first's."""
    step = max(1, -(-max(image.shape[:2]) // _SIDE))
    small = np.ascontiguousarray(image[::step, ::step])
    corner = np.array([window[1].start, window[0].start])
    score = _colour_preference(small, looks)
    for figure, sign in zip(pair, (-1, 1), strict=True):
        score += sign * _flesh_distance(figure, corner, step, small.shape) / _NEAR
    return _enlarged(score, image.shape)


def _enlarged(score: Float, shape: tuple[int, ...]) -> Float:
    smooth = cv2.GaussianBlur(score, (0, 0), 1.5)
    large: Float = cv2.resize(smooth, shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return large


def _colour_preference(image: Bytes, looks: tuple[Appearance, Appearance]) -> Float:
    bins = bin_numbers(image)
    first, second = (np.log(look.colours.max(0)[bins] + _COLOUR_FLOOR) for look in looks)
    ratio: Float = np.clip(first - second, -_COLOUR_LIMIT, _COLOUR_LIMIT).astype(np.float32)
    return ratio


def _flesh_distance(figure: Figure, corner: Array, step: int, shape: tuple[int, ...]) -> Float:
    """[h, w] distance from the visible limbs of a figure, in body sizes."""
    outside = np.ones(shape[:2], np.uint8)
    points = np.clip((figure.body[:, :2] - corner) / step, -4096, 4096)
    seen = figure.body[:, 3] > _SEEN
    size = figure.size / step
    for start, stop, radius in _BONES:
        if seen[start] and seen[stop]:
            width = max(1, min(255, round(2 * radius * size)))
            cv2.line(outside, _pixel(points[start]), _pixel(points[stop]), 0, width)
    if seen[0]:
        cv2.circle(outside, _pixel(points[:11].mean(0)), max(1, round(_HEAD_RADIUS * size)), 0, -1)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, 3)
    return np.asarray(distance / size, np.float32)


def _pixel(point: NDArray[np.floating]) -> tuple[int, int]:
    return int(round(float(point[0]))), int(round(float(point[1])))
