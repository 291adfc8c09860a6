"""What speaks for the person at a pixel besides its neighbours: colours of the track, and limbs;
and where nothing speaks: under burnt-in text and on bars."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from avatarmill.pipeline.types import Bytes, Float

Flags = NDArray[np.bool_]
Window = tuple[slice, slice]

_BINS = 32
_SURE = 0.9
_COLOUR_FRAMES = 12
_COLOUR_LIMIT = 2.0
_BONES = (
    (11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (11, 23), (12, 24), (23, 24),
    (23, 25), (25, 27), (24, 26), (26, 28), (27, 31), (28, 32), (15, 19), (16, 20),
)  # fmt: skip
_FINGERS = (
    (0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (5, 9), (9, 10), (10, 11),
    (11, 12), (9, 13), (13, 14), (14, 15), (15, 16), (13, 17), (17, 18), (18, 19), (19, 20),
    (0, 17),
)  # fmt: skip
_FINGER_WIDTH = 0.12
"""Of the palm's width: less than a finger's, so that lines stay inside."""
_VISIBLE = 0.7
_BAR_SPREAD = 20
"""Grey levels that a row of a bar may differ by, noise of the encoder included."""
_LETTER_BRIGHTNESS, _LETTER_CONTRAST, _LETTER_CHANGE = 200, 90, 16
_STROKE = 0.012
"""Width of letter strokes, of the picture's longer side, that are found."""
_RIM = 0.006
"""Width of the rim of letters, of the same."""


def colour_ratio(images: Bytes, raw: Bytes, windows: list[Window]) -> Float:
    """[32768] log ratio of colour frequencies, person over background, over a track; see `bins`.

    Args:
        images: [T, H, W, 3].
        raw: [T, H, W] 0..255; colours are counted where it is sure.
        windows: T surroundings of the person.
    """
    counts = np.zeros((2, _BINS**3), np.float64)
    for row in np.unique(np.linspace(0, len(images) - 1, _COLOUR_FRAMES).astype(int)):
        y, x = windows[row]
        own, mask = bins(images[row, y, x]), raw[row, y, x]
        for side, where in enumerate((mask > _SURE * 255, mask < (1 - _SURE) * 255)):
            counts[side] += np.bincount(own[where], minlength=_BINS**3)
    smooth = [
        gaussian_filter(c.reshape(_BINS, _BINS, _BINS) / max(c.sum(), 1), 1.0) for c in counts
    ]
    floor = 1e-6
    ratio = np.log((smooth[0] + floor) / (smooth[1] + floor)).ravel()
    limited: Float = np.clip(ratio, -_COLOUR_LIMIT, _COLOUR_LIMIT).astype(np.float32)
    return limited


def bins(image: Bytes) -> NDArray[np.int32]:
    """[H, W] number of the colour of every pixel, 32 levels a channel."""
    coarse = (image >> 3).astype(np.int32)
    numbers: NDArray[np.int32] = (coarse[..., 0] * _BINS + coarse[..., 1]) * _BINS + coarse[..., 2]
    return numbers


def limbs(body: Float, hands: tuple[Float, ...], shape: tuple[int, ...]) -> Flags:
    """[h, w] the lines of bones between visible landmarks.

    Args:
        body: [33, 4] in the pixels of the canvas.
        hands: [21, 3] each; NaN where not found.
        shape: of the canvas.
    """
    canvas = np.zeros(shape, np.uint8)
    for a, b in _BONES:
        if min(body[a, 3], body[b, 3]) > _VISIBLE:
            cv2.line(canvas, _pixel(body[a]), _pixel(body[b]), 1, max(1, round(0.012 * max(shape))))
    for hand in hands:
        if np.isfinite(hand[:, :2]).all():
            palm = float(np.linalg.norm(hand[5, :2] - hand[17, :2]))
            for a, b in _FINGERS:
                width = max(1, round(_FINGER_WIDTH * palm))
                cv2.line(canvas, _pixel(hand[a]), _pixel(hand[b]), 1, width)
    return canvas > 0


def _pixel(point: Float) -> tuple[int, int]:
    x, y = np.clip(point[:2], -1e4, 1e4)
    return int(x), int(y)


def bars(bright: Bytes) -> Flags:
    """[H, W] rows and columns at the rim that show one flat colour all the time.

    Args:
        bright: [T, H, W] largest channel of a track. A person makes a row uneven, so none is cut.
    """
    some = bright[np.unique(np.linspace(0, len(bright) - 1, _COLOUR_FRAMES).astype(int))]
    flags = np.zeros(bright.shape[1:], np.bool_)
    for axis, view in ((1, flags), (0, flags.T)):
        low, high = some.min(0).min(axis), some.max(0).max(axis)
        flat = high.astype(np.int16) - low <= _BAR_SPREAD
        if not flat.all():
            view[: int(flat.argmin())] = True
            view[len(flat) - int(flat[::-1].argmin()) :] = True
    return flags


def lettering(bright: Bytes, row: int, window: Window) -> Flags:
    """[h, w] bright strokes of letters, with their rims, that stand still while people move.

    Their colours say nothing about who is behind. A stripe of cloth that is taken for a stroke
    costs little: there the raw mask decides.

    Args:
        bright: [T, H, W] largest channel of a track: letters may be vivid.
        row: whose letters.
        window: rows and columns to look at.
    """
    side = max(bright.shape[1:])
    own = bright[row][window]
    others = [t for t in (row - 1, row + 1, row - 2, row + 2) if 0 <= t < len(bright)][:3]
    if len(others) < 2:
        return np.zeros(own.shape, np.bool_)
    strokes = (2 * round(_STROKE * side) + 1,) * 2
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, strokes)
    thin = cv2.morphologyEx(own, cv2.MORPH_TOPHAT, kernel) > _LETTER_CONTRAST
    changes = [cv2.absdiff(own, bright[t][window]) for t in others]
    low, high = np.minimum(*changes[:2]), np.maximum(*changes[:2])
    # The second smallest: one other frame may differ.
    change = high if len(changes) == 2 else np.maximum(low, np.minimum(high, changes[2]))
    letters = thin & (own > _LETTER_BRIGHTNESS) & (change < _LETTER_CHANGE)
    rim = np.ones((2 * max(2, round(_RIM * side)) + 1,) * 2, np.uint8)
    found: Flags = cv2.dilate(letters.astype(np.uint8), rim) > 0
    return found


def person_parts(soft: Float, body: Float) -> Flags:
    """[h, w] the connected parts of an opacity that hold a visible landmark or much of the area."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((soft > 0.5).astype(np.uint8))
    if count <= 2:
        return np.ones(soft.shape, np.bool_)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[0] = 0
    keep = areas > 0.1 * areas.max()
    points = body[body[:, 3] > 0.5, :2].astype(int)
    inside = ((points >= 0) & (points < soft.shape[::-1])).all(1)
    keep[np.unique(labels[points[inside, 1], points[inside, 0]])] = True
    keep[0] = False
    # Soft borders lie outside the thresholded parts: keep what is near a kept part.
    near: Flags = cv2.dilate(keep[labels].astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    return near
