"""Where one shot ends and the next begins: hard cuts by PySceneDetect, dissolves and fades by ours.

PySceneDetect compares neighbouring frames and is blind to a slow dissolve. A dissolve has a sharper
mark: its middle frame is the mean of what came before and what comes after, which no moving camera
and no moving person imitates.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray
from scenedetect.common import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

Image = NDArray[np.uint8]

_HALF_WIDTHS = (4, 8, 16)
"""Frames on each side of the middle: dissolves of about 8 to 40 frames."""
_MIN_CHANGE = 12.0
"""Mean absolute difference of the two sides, of 255: below it nothing has dissolved."""
_MAX_RESIDUAL = 0.25
"""Distance of the inner frames from the blend of the two sides, relative to the sides' distance."""
_MAX_CORRELATION = 0.6
"""Of the two sides' structure: a change of exposure keeps it, another shot does not."""


class DissolveDetector:
    """Feeds on small frames in order; keeps the last 33."""

    def __init__(self) -> None:
        self._ring: deque[NDArray[np.float32]] = deque(maxlen=2 * max(_HALF_WIDTHS) + 1)
        self._count = 0
        self._hits: list[tuple[int, int, float]] = []

    def push(self, image: Image) -> None:
        """Takes the next frame."""
        self._ring.append(image.astype(np.float32))
        self._count += 1
        for half in _HALF_WIDTHS:
            strength = self._strength(half)
            if strength > 0:
                self._hits.append((self._count - 1 - half, half, strength))

    def transitions(self) -> list[tuple[int, int]]:
        """Rows [begin, end) of every dissolve found so far, in order."""
        found: list[tuple[int, int]] = []
        for group in self._groups():
            # The narrowest window that sees nearly the whole change spans the dissolve.
            most = max(strength for _, _, strength in group)
            width = min(half for _, half, strength in group if strength >= 0.9 * most)
            middle = max((h for h in group if h[1] == width), key=lambda hit: hit[2])[0]
            found.append((max(0, middle - width), min(self._count, middle + width)))
        return found

    def _groups(self) -> list[list[tuple[int, int, float]]]:
        """Hits of one dissolve: their windows overlap."""
        groups: list[list[tuple[int, int, float]]] = []
        for hit in sorted(self._hits):
            if groups and hit[0] - groups[-1][-1][0] <= max(hit[1], groups[-1][-1][1]):
                groups[-1].append(hit)
            else:
                groups.append([hit])
        return groups

    def _strength(self, half: int) -> float:
        """Difference of the two sides when the frames between are their blend, else 0."""
        if len(self._ring) < 2 * half + 1:
            return 0.0
        before, after = self._ring[-1 - 2 * half], self._ring[-1]
        change = float(np.abs(after - before).mean())
        if change < _MIN_CHANGE or _correlation(before, after) > _MAX_CORRELATION:
            return 0.0
        weights: list[float] = []
        delta = after - before
        for step in (half // 2, half, half + half // 2):
            inner = self._ring[-1 - 2 * half + step] - before
            weight = float((inner * delta).sum() / (delta * delta).sum())
            if float(np.abs(inner - weight * delta).mean()) > _MAX_RESIDUAL * change:
                return 0.0
            weights.append(weight)
        # Rising weights with a true mixture in the middle; a hard cut jumps from 0 to 1.
        mixed = 0.2 < weights[1] < 0.8 and weights[0] < weights[1] < weights[2]
        return change if mixed else 0.0


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


class TransitionDetector:
    """Cuts and dissolves of a stream of small BGR frames."""

    def __init__(self, fps: float, *, threshold: float, shortest_seconds: float) -> None:
        self._fps = fps
        self._shortest = max(2, round(shortest_seconds * fps))
        self._cuts = AdaptiveDetector(adaptive_threshold=threshold, min_scene_len=self._shortest)
        self._dissolves = DissolveDetector()
        self._rows: list[int] = []
        self._count = 0

    def push(self, image: Image) -> None:
        """Takes the next frame."""
        timecode = FrameTimecode(self._count, self._fps)
        self._rows += [cut.frame_num for cut in self._cuts.process_frame(timecode, image)]
        self._dissolves.push(image)
        self._count += 1

    def transitions(self) -> NDArray[np.int64]:
        """[C, 2] rows [begin, end) that belong to no shot, rising; a hard cut has begin == end."""
        dissolves = self._dissolves.transitions()
        end = FrameTimecode(self._count, self._fps)
        rows = {*self._rows, *(cut.frame_num for cut in self._cuts.post_process(end))}
        cuts = [(r, r) for r in rows if not any(a <= r <= b for a, b in dissolves)]
        merged = sorted(cuts + dissolves)
        return np.array(merged, np.int64).reshape(-1, 2)
