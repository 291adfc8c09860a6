"""Fades: the picture empties into one colour, and another one comes out of it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_EMPTY_CONTRAST, _EMPTY_TEXTURE = 0.45, 0.4
"""Of what the picture has before and after: text that stays on top keeps some of it."""
_WINDOW_SECONDS = 1.0
"""How far from an empty frame the full picture is looked for."""
_SHORTEST_SECONDS = 0.3
"""Shorter ones are flashes, or cuts through one, which are found as cuts."""
_RISE = 1.015
"""Contrast grows by so much a frame while a fade goes on."""


def fades(
    contrast: Sequence[float], textured: Sequence[float], fps: float
) -> list[tuple[int, int]]:
    """[begin, end) of the frames of every fade, in order; one fade through a colour is one row."""
    full = np.asarray(contrast, np.float64)
    window = max(2, round(_WINDOW_SECONDS * fps))
    empty = (full < _EMPTY_CONTRAST * _around(full, window)) & (
        np.asarray(textured) < _EMPTY_TEXTURE * _around(np.asarray(textured), window)
    )
    found: list[tuple[int, int]] = []
    for first, last in _runs(empty):
        begin, end = first, last + 1
        while begin > 0 and first - begin < window and full[begin - 1] > _RISE * full[begin]:
            begin -= 1
        while end < len(full) and end - last <= window and full[end] > _RISE * full[end - 1]:
            end += 1
        # The walk ends at the first frame of the full picture.
        begin, end = min(first, begin + 1), max(last + 1, end - 1)
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return [row for row in found if row[1] - row[0] >= _SHORTEST_SECONDS * fps]


def _around(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The smaller of the greatest values shortly before and shortly after."""
    padded = np.concatenate([np.full(window, -np.inf), values, np.full(window, -np.inf)])
    greatest = np.lib.stride_tricks.sliding_window_view(padded, window + 1).max(1)
    return np.asarray(np.minimum(greatest[: len(values)], greatest[window:]))


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]
