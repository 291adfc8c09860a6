"""Tracks held against the truth: how often a person goes on under another's name."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from avatarmill.pipeline.types import Bytes, Float

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrackErrors:
    """Of one clip."""

    swaps: int
    """Times a track is found on another person than the last time: what it holds is two people."""
    breaks: int
    """Times a person is found in another track than the last time (CLEAR MOT's IDSW, Bernardin and
    Stiefelhagen 2008): by a swap, or because a track ended and another began."""
    found: int
    """Person-frames found in some track."""
    missed: int
    """Person-frames in none."""
    tracks: tuple[int, ...]
    """Tracks in which each person was found."""


def track_errors(agreement: Array, present: NDArray[np.bool_], *, least: float) -> TrackErrors:
    """Matches people and tracks one to one in every frame, with the most agreement, and counts.

    Args:
        agreement: [F, P, K] of every person with every track, 0..1.
        present: [F, P] which people could be found.
        least: agreement from which a match counts.
    """
    tracks: list[list[int]] = [[] for _ in range(agreement.shape[1])]
    people: list[list[int]] = [[] for _ in range(agreement.shape[2])]
    for table, there in zip(agreement, present, strict=True):
        for person, track in zip(*linear_sum_assignment(-table), strict=True):
            if table[person, track] >= least and there[person]:
                tracks[person].append(int(track))
                people[track].append(int(person))
    found = sum(map(len, tracks))
    return TrackErrors(
        _changes(people),
        _changes(tracks),
        found,
        int(present.sum()) - found,
        tuple(len(set(own)) for own in tracks),
    )


def _changes(rows: Sequence[Sequence[int]]) -> int:
    """Neighbours that differ, over all rows."""
    return sum(one != other for row in rows for one, other in pairwise(row))


def mask_agreement(truth: Sequence[Bytes], found: Sequence[Bytes]) -> Array:
    """[P, K] intersection over union of masks [H, W], 0..255, of one frame."""
    table = np.zeros((len(truth), len(found)))
    for i, true in enumerate(truth):
        for j, mask in enumerate(found):
            one, other = true > 127, mask > 127
            table[i, j] = (one & other).sum() / max((one | other).sum(), 1)
    return table


def box_agreement(truth: Float, found: Float) -> Array:
    """[P, K] intersection over union of boxes [P, 4] and [K, 4]: x0, y0, x1, y1."""
    low = np.maximum(truth[:, None, :2], found[None, :, :2])
    high = np.minimum(truth[:, None, 2:], found[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (truth, found)]
    union = areas[0][:, None] + areas[1][None] - shared
    table: Array = (shared / np.maximum(union, 1e-9)).astype(np.float64)
    return table
