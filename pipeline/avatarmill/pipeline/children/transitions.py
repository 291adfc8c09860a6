"""Where one shot ends and the next begins: cuts, dissolves and fades of a film in one pass."""

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.cuts import CutDetector
from avatarmill.pipeline.children.dissolves import DissolveDetector
from avatarmill.pipeline.children.fades import fades
from avatarmill.pipeline.children.picture import Comparer, Picture


class TransitionDetector:
    """Transitions of a stream of frames.

    Args:
        fps: rate of the stream, or about.
        strength: unlikeness of two shots at a cut, see `picture.Comparer`.
        shortest_seconds: less than this between two transitions is no shot; they become one.
    """

    def __init__(self, fps: float, *, strength: float, shortest_seconds: float) -> None:
        comparer = Comparer()
        self._fps = fps
        self._shortest = max(1, round(shortest_seconds * fps))
        self._cuts = CutDetector(comparer, fps, strength)
        self._dissolves = DissolveDetector(comparer, fps)
        self._contrast: list[float] = []
        self._textured: list[float] = []

    def push(self, image: NDArray[np.uint8]) -> None:
        """Takes the next frame [H, W, 3] BGR, of any small size."""
        picture = Picture.of(image)
        self._contrast.append(picture.contrast)
        self._textured.append(picture.textured)
        self._cuts.push(picture)
        self._dissolves.push(picture)

    def transitions(self) -> NDArray[np.int64]:
        """[C, 2] rows [begin, end) that belong to no shot, rising; a hard cut has begin == end."""
        # What empties the picture and fills it again is no dissolve, and no cut within either.
        rows = fades(self._contrast, self._textured, self._fps)
        rows += [row for row in self._cuts.rows() if not any(_touch(row, fade) for fade in rows)]
        rows += self._dissolves.rows(rows)
        return np.array(_joined(sorted(rows), self._shortest), np.int64).reshape(-1, 2)


def _touch(row: tuple[int, int], other: tuple[int, int]) -> bool:
    return row[0] <= other[1] and other[0] <= row[1]


def _joined(rows: list[tuple[int, int]], shortest: int) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for begin, end in rows:
        if joined and begin - joined[-1][1] < shortest:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined
