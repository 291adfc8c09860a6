"""What one tracker saw of one figure, and where the figure would be at another time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.appearance import Appearance, total
from avatarmill.pipeline.figures import Array, Figure, similarity

CLOSE = 0.15
"""Similarity of two bodies of one frame above which either may be taken for the other."""
RECENT = 16
"""Rows in which somebody's appearance is what they look like now."""
_GHOST = 0.6
"""Distance in body sizes within which an unseen person may be what a tracker holds."""
_GHOST_SECONDS = 1.0
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

    def recent_look(self) -> Appearance:
        """The appearance over its last rows."""
        return total(self.looks[-RECENT:])

    @property
    def size(self) -> float:
        """Median body size, pixels."""
        return float(np.median([figure.size for figure in self.figures]))


def close_rows(trails: Sequence[Trail], times: NDArray[np.float64]) -> list[NDArray[np.bool_]]:
    """For each trail, in which of its rows its figure may be somebody else's.

    That is where another figure is `CLOSE`, or where somebody should be whose trail has just ended
    or is about to begin: a tracker may have gone over to them.
    """
    present: dict[int, list[tuple[int, int]]] = {}
    close = [np.zeros(len(trail.rows), np.bool_) for trail in trails]
    for number, trail in enumerate(trails):
        for at, row in enumerate(trail.rows):
            for other, there in present.get(row, ()):
                theirs = trails[other].figures[there]
                if similarity(trail.figures[at].body, theirs.body) > CLOSE:
                    close[number][at] = close[other][there] = True
            present.setdefault(row, []).append((number, at))
    for trail in trails:
        for end, step in ((0, -1), (-1, 1)):
            edge = trail.rows[end]
            witnesses = {number for number, _ in present[edge]}
            for row, place in _coast(trail, times, end, step):
                for number, at in present.get(row, ()):
                    if number in witnesses and trails[number] is not trail:
                        apart = np.linalg.norm(trails[number].figures[at].torso - place, axis=-1)
                        close[number][at] |= apart.mean() < _GHOST * trail.size
    return close


def _coast(
    trail: Trail, times: NDArray[np.float64], end: int, step: int
) -> Iterator[tuple[int, Array]]:
    """Rows just before (`end` 0) or after (`end` -1) a trail, and its torso there."""
    row = trail.rows[end] + step
    while 0 <= row < len(times) and abs(times[row] - times[trail.rows[end]]) <= _GHOST_SECONDS:
        yield row, place_at(trail, times, float(times[row]), end=end)
        row += step


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


UNKNOWN_LOOK = 0.25
"""Difference assumed between appearances that cannot be compared."""
_LOOK_SCALE = 0.3
"""Difference of appearances that makes two figures as unlike as a stray of its scale does."""


def misfit(strayed: float, gap_seconds: float, changed: float | None) -> float:
    """How badly a figure continues another: 0 perfectly, from about 3 certainly not.

    Args:
        strayed: distance from where it was expected, in body sizes.
        gap_seconds: since it was seen last.
        changed: difference of appearance, None where unknown.
    """
    look = UNKNOWN_LOOK if changed is None else changed
    return strayed / (0.3 + 0.7 * gap_seconds) + look / _LOOK_SCALE
