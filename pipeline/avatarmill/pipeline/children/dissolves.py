"""Dissolves: frames that are a mixture of what came before and what comes after."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avatarmill.pipeline.children.picture import COARSE_SIZE, Comparer, Picture

_HALF_WIDTHS = (3, 5, 8, 12, 18)
"""Frames on each side of the middle: dissolves of 4 to 40 frames."""
_FASTEST = 30.0
"""Frames a second that are looked at."""
_LEAST_CHANGE = 5.0
"""Difference of the two sides, root mean square of 255."""
_MOST_RESIDUAL = 0.45
"""What no mixture of the sides explains of an inner frame, relative to their difference."""
_LEAST_SHARE = 0.25
"""Of each side in the middle."""
_MOST_CONTRAST = 0.95
"""Variance of the middle over that of the sides: a mixture of two pictures has half of it, one of
two instants of a moving picture keeps it. Changing light keeps it over the geometric mean."""
_MOST_UNEXPLAINED = 0.5
"""Of the middle's structure by both sides, relative to the better of them alone."""
_LEAST_STRUCTURE = 0.02
"""What the better side alone must leave unexplained."""
_UNLIKE = 0.38
"""Unlikeness of the two sides."""
_PURE = 0.06
"""Share of the other shot in a frame that still counts as pure."""


@dataclass(frozen=True, slots=True)
class _Hit:
    """A window of frames [first, last] that looks like a dissolve."""

    first: int
    last: int
    change: float
    begin: int
    end: int
    """Frames [begin, end) in it that hold a visible share of both sides."""


class DissolveDetector:
    """Takes pictures in order and keeps the last 37.

    Products and distances of all pairs of pictures in memory are kept up to date, one row a frame;
    the rules are arithmetic on them.
    """

    def __init__(self, comparer: Comparer, fps: float) -> None:
        self._comparer = comparer
        self._stride = max(1, round(fps / _FASTEST))
        size = 2 * max(_HALF_WIDTHS) + 1
        self._ring: deque[Picture] = deque(maxlen=size)
        self._colors = np.zeros((size, COARSE_SIZE), np.float32)
        self._products = np.zeros((size, size))
        self._distances = np.zeros((size, size))
        self._pushed = self._count = 0
        self._hits: list[_Hit] = []

    def push(self, picture: Picture) -> None:
        """Takes the next frame."""
        self._pushed += 1
        if (self._pushed - 1) % self._stride:
            return
        self._ring.append(picture)
        slot = self._count % len(self._colors)
        self._colors[slot] = picture.coarse
        row = self._colors @ picture.coarse
        self._products[slot], self._products[:, slot] = row, row
        distances = row[slot] + np.diag(self._products) - 2 * self._products[slot]
        self._distances[slot], self._distances[:, slot] = distances, distances
        self._count += 1
        for half in _HALF_WIDTHS:
            if 2 * half < self._count:
                change = self._change(half)
                if change > 0:
                    self._hits.append(self._hit(half, change))

    def rows(self, cuts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """[begin, end) of every dissolve found so far, in order.

        Args:
            cuts: rows of other transitions; a window that has one in it is no dissolve.
        """
        found = []
        for group in self._groups(cuts):
            # The narrowest window that sees nearly the whole change spans the dissolve.
            most = max(hit.change for hit in group)
            wide = [hit for hit in group if hit.change >= 0.9 * most]
            best = min(wide, key=lambda hit: (hit.last - hit.first, -hit.change))
            found.append((best.begin * self._stride, best.end * self._stride))
        return found

    def _groups(self, cuts: Sequence[tuple[int, int]]) -> list[list[_Hit]]:
        """Hits of one dissolve: what they call mixed overlaps."""
        groups: list[list[_Hit]] = []
        reach = 0
        for hit in sorted(self._hits, key=lambda hit: hit.begin):
            first, last = hit.first * self._stride, hit.last * self._stride
            if any(first < end + 1 and begin <= last for begin, end in cuts):
                continue
            if groups and hit.begin < reach:
                groups[-1].append(hit)
            else:
                groups.append([hit])
                reach = 0
            reach = max(reach, hit.end)
        return groups

    def _hit(self, half: int, change: float) -> _Hit:
        last = self._count - 1
        first, middle = last - 2 * half, last - half
        begin, end = first + 1, last
        while begin < middle and self._share(first, begin, last) < _PURE:
            begin += 1
        while end > middle + 1 and self._share(first, end - 1, last) > 1 - _PURE:
            end -= 1
        return _Hit(first, last, change, begin, end)

    def _product(self, one: int, other: int) -> float:
        size = len(self._colors)
        return float(self._products[one % size, other % size])

    def _change(self, half: int) -> float:
        """Difference of the two sides when the frames between are their mixture, else 0."""
        last = self._count - 1
        first, middle, quarter = last - 2 * half, last - half, (half + 1) // 2
        squared = self._distance(first, last)
        change = float(np.sqrt(max(0.0, squared) / COARSE_SIZE))
        if change < _LEAST_CHANGE:
            return 0.0
        shares = []
        for inner in (middle - quarter, middle, middle + quarter):
            share = self._share(first, inner, last)
            if self._distance(first, inner) / squared - share * share > _MOST_RESIDUAL**2:
                return 0.0
            shares.append(share)
        mixed = _LEAST_SHARE < shares[1] < 1 - _LEAST_SHARE and shares[0] < shares[1] < shares[2]
        if not mixed or not self._lost_contrast(half) or not self._structure(first, middle, last):
            return 0.0
        ring = self._ring
        unlike = self._comparer.unlikeness(ring[-1 - 2 * half], ring[-1])
        return change if unlike > _UNLIKE else 0.0

    def _share(self, first: int, inner: int, last: int) -> float:
        """How far a picture is on the straight way from the first to the last."""
        toward, whole = self._distance(first, inner), self._distance(first, last)
        return (toward + whole - self._distance(inner, last)) / (2 * whole)

    def _distance(self, one: int, other: int) -> float:
        """Squared distance of two pictures' colours."""
        size = len(self._colors)
        return self._distances.item(one % size, other % size)

    def _lost_contrast(self, half: int) -> bool:
        before, middle, after = (
            self._ring[row].mean_variance for row in (-1 - 2 * half, -1 - half, -1)
        )
        return middle < _MOST_CONTRAST * min((before + after) / 2, float(np.sqrt(before * after)))

    def _structure(self, first: int, middle: int, last: int) -> bool:
        """Both sides together explain the middle much better than the better one of them."""
        rows = [first, middle, last]
        means = self._colors[[row % len(self._colors) for row in rows]].mean(1)
        gram = np.array([[self._product(a, b) for b in rows] for a in rows])
        gram -= COARSE_SIZE * np.outer(means, means)
        sides, toward, own = gram[::2, ::2], gram[::2, 1], gram[1, 1]
        if min(own, sides[0, 0], sides[1, 1]) <= 0:
            return False
        alone = float((1 - toward**2 / (own * np.diag(sides))).min())
        ridge = 1e-6 * np.trace(sides) * np.eye(2)
        both = float(1 - toward @ np.linalg.solve(sides + ridge, toward) / own)
        return alone > _LEAST_STRUCTURE and both < _MOST_UNEXPLAINED * alone
