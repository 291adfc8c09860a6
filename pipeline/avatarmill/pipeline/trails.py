"""What one tracker saw of one figure, and where the figure would be at another time."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.appearance import Appearance, total
from avatarmill.pipeline.figures import Array, Figure, similarity

CLOSE = 0.15
"""Similarity of two bodies of one frame above which either may be taken for the other."""
_MEMORY_SECONDS = 0.6
_COAST_SECONDS = 1.0
"""Time constant after which a walk that nobody saw is believed to have ended."""


@dataclass(slots=True)
class Trail:
    """A figure followed without a break: one row of the shot after the other."""

    slot: int
    rows: list[int] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    looks: list[Appearance] = field(default_factory=list)

    def add(self, row: int, figure: Figure, look: Appearance) -> None:
        """The figure in the next row."""
        self.rows.append(row)
        self.figures.append(figure)
        self.looks.append(look)

    def drop_last(self) -> None:
        """Takes the last row back."""
        for values in (self.rows, self.figures, self.looks):
            del values[-1]

    def part(self, start: int, stop: int) -> "Trail":
        """Its own rows [start, stop)."""
        part = slice(start, stop)
        return Trail(self.slot, self.rows[part], self.figures[part], self.looks[part])

    def look(self) -> Appearance:
        """The appearance over all its rows."""
        return total(self.looks)

    @property
    def size(self) -> float:
        """Median body size, pixels."""
        return float(np.median([figure.size for figure in self.figures]))


def close_rows(trails: Sequence[Trail]) -> list[NDArray[np.bool_]]:
    """For each trail, in which of its rows another trail's figure is `CLOSE` to its own."""
    present: dict[int, list[tuple[int, int]]] = {}
    close = [np.zeros(len(trail.rows), np.bool_) for trail in trails]
    for number, trail in enumerate(trails):
        for at, row in enumerate(trail.rows):
            for other, there in present.get(row, ()):
                theirs = trails[other].figures[there]
                if similarity(trail.figures[at].body, theirs.body) > CLOSE:
                    close[number][at] = close[other][there] = True
            present.setdefault(row, []).append((number, at))
    return close


def place_at(trail: Trail, times: NDArray[np.float64], when: float, *, end: int) -> Array:
    """[2, 2] torso that a trail would have at a time before it began (`end` 0) or after it ended
    (`end` -1): its own speed there, slowing down with time."""
    own = times[trail.rows]
    anchor = own[end]
    near = np.abs(own - anchor) <= _MEMORY_SECONDS
    torsos = np.stack([f.torso for f, used in zip(trail.figures, near, strict=True) if used])
    last: Array = trail.figures[end].torso
    if len(torsos) < 3:
        return last
    since = own[near] - own[near].mean()
    speed = (since[:, None, None] * torsos).sum(0) / max(float((since**2).sum()), 1e-9)
    # One speed for the whole torso: that of its ends differs by the noise of landmarks alone.
    away = abs(when - anchor)
    travelled = _COAST_SECONDS * (1 - np.exp(-away / _COAST_SECONDS)) * np.sign(when - anchor)
    place: Array = last + speed.mean(0) * travelled
    return place
