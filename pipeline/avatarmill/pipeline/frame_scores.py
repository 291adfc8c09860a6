"""What is known of each frame of a track before any is chosen: numbers, no pictures."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FrameScores:
    """n measured frames of a track; with a `SelectConfig` this is all that choosing needs."""

    rows: NDArray[np.int64]
    """[n] rows of the track, rising."""
    pts_seconds: Array
    """[n] times of the source."""
    extent: Array
    """[n] longer side of the mask's box, pixels."""
    sharpness: Array
    """[n] energy of fine detail over that of the picture, in the person's box."""
    brightness: Array
    """[n] 0..1 what the lightest twentieth of the person's box reaches."""
    clipped: Array
    """[n] share of the person's pixels burnt out to white."""
    inside: Array
    """[n] share of the fitted body's surface that lies inside the image."""
    agreement: Array
    """[n] share of the fitted body inside the image, less hidden parts, that the mask covers."""
    spill: Array
    """[n] share of the mask far from the fitted body."""
    occluded: Array
    """[n] share of the fitted body inside the image that lies in parts the mask leaves out."""
    landmarks: Array
    """[n] share of the visible landmarks that the mask holds; 1 where none is visible."""
    residual: Array
    """[n] reprojection error over extent."""
    confidence: Array
    """[n] mean over the body joints."""
    face: Array
    """[n] confidence of the face."""
    lettering: Array
    """[n] share of the person under lines of burnt-in text."""
    motion: Array
    """[n] speed of the median landmark, extents a second."""
    looks: Array
    """[n, D] view and pose, in which frames should differ."""

    def __post_init__(self) -> None:
        for one in fields(self):
            if len(getattr(self, one.name)) != len(self.rows):
                raise ValueError(
                    f"{one.name} has {len(getattr(self, one.name))} frames, rows {len(self.rows)}"
                )

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, keep: NDArray[np.bool_]) -> "FrameScores":
        """The frames where `keep` [n] is true."""
        return FrameScores(*(getattr(self, one.name)[keep] for one in fields(self)))


SCORE_NAMES = tuple(
    one.name for one in fields(FrameScores) if one.name not in ("rows", "pts_seconds", "looks")
)
"""Scores that are one number a frame."""
