"""A film as a strip of tiny grey pictures at a fixed rate: what near-duplicate search compares.

Made while shot detection looks at every frame anyway. Black bars are cut off, and frames that fall
into the same tick are averaged, so that another frame rate gives the same strip.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 16
"""Pixels of a picture's side; the aspect of the film is not kept."""
RATE = 4.0
"""Pictures a second of a film of at most `MAX_PICTURES` / `RATE` seconds."""
MAX_PICTURES = 1200
"""Longer films give fewer pictures a second: five minutes at full rate."""
_RAW_SIDE = 48
_BAR_LEVEL = 18
"""Luma of a bar at most; bars of limited-range films marked as full-range are 16."""
_MIN_LIT = 0.4
"""What is left between bars, as a fraction; else the film is dark and nothing is cut."""


class Strip:
    """Takes frames in order of time; memory is bounded by `MAX_PICTURES`."""

    def __init__(self) -> None:
        self._rate = RATE
        self._start = 0.0
        self._sums: dict[int, NDArray[np.float32]] = {}
        self._counts: dict[int, int] = {}
        self._rows, self._columns = np.zeros((2, _RAW_SIDE), np.float32)

    def push(self, image: NDArray[np.uint8], seconds: float, rotation: int = 0) -> None:
        """Takes a frame [H, W, 3] BGR, its time, and by how many degrees it must be turned back."""
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        small = cv2.resize(grey, (_RAW_SIDE, _RAW_SIDE), interpolation=cv2.INTER_AREA)
        small = np.rot90(small, rotation // 90).astype(np.float32)
        # Medians: a subtitle lies in a bar without lighting half of its width.
        self._rows = np.maximum(self._rows, np.median(small, 1))
        self._columns = np.maximum(self._columns, np.median(small, 0))
        if not self._sums:
            self._start = seconds
        tick = max(0, round((seconds - self._start) * self._rate))
        while tick >= MAX_PICTURES:
            self._halve()
            tick //= 2
        self._add(tick, small, 1)

    def _add(self, tick: int, total: NDArray[np.float32], count: int) -> None:
        self._sums[tick] = self._sums.get(tick, 0) + total
        self._counts[tick] = self._counts.get(tick, 0) + count

    def _halve(self) -> None:
        """Half as many pictures a second, each the mean of two."""
        sums, counts = self._sums, self._counts
        self._sums, self._counts, self._rate = {}, {}, self._rate / 2
        for tick, total in sums.items():
            self._add(tick // 2, total, counts[tick])

    def pictures(self) -> tuple[NDArray[np.uint8], float]:
        """[n, SIDE, SIDE] luma without the bars, and how many there are a second.

        Ticks in which no frame fell are interpolated; [0, SIDE, SIDE] where no frame came.
        """
        if not self._sums:
            return np.zeros((0, SIDE, SIDE), np.uint8), self._rate
        ticks = np.array(sorted(self._sums))
        raw = np.stack([self._sums[tick] / self._counts[tick] for tick in ticks.tolist()])
        down, across = _shrink(*_lit(self._rows)), _shrink(*_lit(self._columns))
        small = down @ raw @ across.T
        every = np.arange(ticks[-1] + 1)
        after = np.searchsorted(ticks, every)
        before = np.where(ticks[after] == every, after, after - 1)
        weight = (every - ticks[before]) / np.maximum(1, ticks[after] - ticks[before])
        mixed = small[before] + weight[:, None, None] * (small[after] - small[before])
        return np.rint(mixed).clip(0, 255).astype(np.uint8), self._rate


def _lit(levels: NDArray[np.float32]) -> tuple[int, int]:
    """First and past-the-last line between the bars."""
    lit = np.flatnonzero(levels > _BAR_LEVEL)
    if not len(lit) or lit[-1] + 1 - lit[0] < _MIN_LIT * len(levels):
        return 0, len(levels)
    # The line next to a bar is part of it as a rule: bars end between two lines.
    begin, end = int(lit[0]), int(lit[-1]) + 1
    return begin + (begin > 0), end - (end < len(levels))


def _shrink(begin: int, end: int) -> NDArray[np.float64]:
    """[SIDE, _RAW_SIDE] weights that average the lines [begin, end) into SIDE equal parts."""
    edges = np.linspace(begin, end, SIDE + 1)[:, None]
    lines = np.arange(_RAW_SIDE)
    overlap = np.minimum(edges[1:], lines + 1) - np.maximum(edges[:-1], lines)
    weights: NDArray[np.float64] = overlap.clip(0)
    return np.asarray(weights / weights.sum(1, keepdims=True))
