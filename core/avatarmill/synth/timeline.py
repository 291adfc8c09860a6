"""Which shots a clip's frames show: cuts, fades and dissolves, and when the frames are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BoundaryKind = Literal["cut", "fade", "dissolve"]
Change = Literal["camera", "place", "person"]
"""What is new after a boundary: the camera (same place, the motion goes on), the place too, or
everything."""
SHORTEST_SHOT = 8
"""Frames: no shot is planned shorter, transitions included, where the clip has that many."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where one shot gives way to the next."""

    kind: BoundaryKind
    first: int
    """First frame that is not purely the old shot; of a cut, the new shot's first frame."""
    last: int
    """Last frame that is not purely the new shot; of a cut, the same as `first`."""
    change: Change
    color: tuple[int, int, int] | None = None
    """sRGB of what a fade goes through."""

    @property
    def middle(self) -> int:
        """First frame that belongs to the new shot."""
        return (self.first + self.last + 1) // 2

    def shares(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How much of the old and of the new shot is in the frames `first` to `last`, 0..1."""
        count = self.last - self.first + 1
        new = (np.arange(1, count + 1) / (count + 1)).astype(np.float32)
        if self.kind == "cut":
            return np.zeros(1, np.float32), np.ones(1, np.float32)
        old = (1 - new).astype(np.float32)
        if self.kind == "dissolve":
            return old, new
        # Down to the colour, held for a moment, and up again.
        fall = np.clip(1 - 2.2 * new, 0, 1).astype(np.float32)
        return fall, fall[::-1].copy()


@dataclass(frozen=True, slots=True)
class Shot:
    """The frames of one camera position."""

    first: int
    last: int
    """Frames that belong to it; in a transition, those where it has the larger share."""
    begin: int
    end: int
    """Frames [begin, end) in which any of it is seen."""


def shots_between(num_frames: int, boundaries: Sequence[Boundary]) -> list[Shot]:
    """The shots that boundaries, in order, leave of a clip."""
    starts = [0, *(b.middle for b in boundaries), num_frames]
    begins = [0, *(b.first if b.kind == "dissolve" else b.middle for b in boundaries)]
    ends = [*(b.last + 1 if b.kind == "dissolve" else b.middle for b in boundaries), num_frames]
    return [
        Shot(first, stop - 1, begin, end)
        for first, stop, begin, end in zip(starts, starts[1:], begins, ends, strict=False)
    ]


def shot_shares(num_frames: int, boundaries: Sequence[Boundary]) -> NDArray[np.float32]:
    """Share [S, F] of every shot in every frame; what is missing to 1 is a fade's colour."""
    shares = np.zeros((len(boundaries) + 1, num_frames), np.float32)
    for row, shot in enumerate(shots_between(num_frames, boundaries)):
        shares[row, shot.first : shot.last + 1] = 1
    for row, boundary in enumerate(boundaries):
        frames = slice(boundary.first, boundary.last + 1)
        shares[row, frames], shares[row + 1, frames] = boundary.shares()
        if boundary.kind == "fade":  # each half shows one shot only
            shares[row, boundary.middle : boundary.last + 1] = 0
            shares[row + 1, boundary.first : boundary.middle] = 0
    return shares


def sample_boundaries(
    rng: np.random.Generator, num_frames: int, fps: float, kinds: Sequence[BoundaryKind]
) -> tuple[Boundary, ...]:
    """One boundary of each kind, in random order, evenly spread with some play.

    Raises:
        ValueError: the clip is too short for so many shots.
    """
    needed = (len(kinds) + 1) * SHORTEST_SHOT
    if kinds and num_frames < needed:
        raise ValueError(
            f"{num_frames} frames are too few for {len(kinds)} shot boundaries: at least {needed}"
        )
    order = list(rng.permutation(np.array(kinds, object)))
    spacing = num_frames / (len(order) + 1)
    changes: tuple[Change, ...] = ("camera", "camera", "place", "person")
    boundaries = []
    for index, kind in enumerate(order):
        middle = round(spacing * (index + 1) + rng.uniform(-0.15, 0.15) * spacing)
        change = changes[int(rng.integers(len(changes)))]
        if kind == "cut":
            boundaries.append(Boundary("cut", middle, middle, change))
            continue
        wanted = rng.uniform(0.3, 0.8) * fps * (1.4 if kind == "fade" else 1.0)
        half = int(np.clip(wanted / 2, 1, 0.3 * spacing))
        color = None
        if kind == "fade":
            color = (0, 0, 0) if rng.random() < 0.7 else (255, 255, 255)
        boundaries.append(Boundary(kind, middle - half, middle + half, change, color))
    return tuple(boundaries)
