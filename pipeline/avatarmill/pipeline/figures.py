"""One person in one frame, as the trackers know it, and how alike two of them are."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.steadiness import HIPS, SHOULDERS, body_size
from avatarmill.pipeline.types import Bytes, Float, Landmarks

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Detection:
    """Somebody found in a whole frame; pixels."""

    score: float
    region: Array
    """[5] where to look for landmarks: centre x, y, width, height, clockwise radians."""
    torso: Array
    """[2, 2] the middle of the hips and of the shoulders."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Landmarks and mask of somebody in one frame; pixels."""

    landmarks: Landmarks
    """Of one frame: every array is [1, ...]."""
    region: Array
    """[5] where to look in the next frame."""
    mask: Bytes
    """[h, w] 0..255, zero outside."""
    corner: tuple[int, int]
    """x, y of the mask's first pixel."""

    @property
    def body(self) -> Float:
        """[33, 4]"""
        body: Float = self.landmarks.body[0]
        return body

    @property
    def torso(self) -> Array:
        """[2, 2] the middle of the hips and of the shoulders."""
        return torso(self.body)

    @property
    def size(self) -> float:
        """Body size in pixels, see `steadiness.body_size`."""
        return float(body_size(self.landmarks.body)[0])

    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the frame that the mask covers."""
        x, y = self.corner
        return slice(y, y + self.mask.shape[0]), slice(x, x + self.mask.shape[1])


def torso(body: Float) -> Array:
    """[..., 2, 2] the middle of the hips and of the shoulders of bodies [..., 33, 4]."""
    ends = [body[..., HIPS, :2].mean(-2), body[..., SHOULDERS, :2].mean(-2)]
    return np.stack(ends, axis=-2).astype(np.float64)


_JOINTS = np.array([0, 11, 12, 13, 14, 23, 24, 25, 26, 27, 28])
"""Nose, shoulders, elbows, hips, knees, ankles."""
_SPREAD = np.array([0.15, 0.15, 0.15, 0.3, 0.3, 0.15, 0.15, 0.3, 0.3, 0.4, 0.4])
"""Distance at which a point counts 0.6, in body sizes: limbs may differ, the trunk may not."""


def similarity(first: Float, second: Float) -> float:
    """How far two bodies [33, 4] of one frame are one: 1 the same, 0 apart.

    Object keypoint similarity with the larger body as the measure, over the points that are visible
    in either.
    """
    size = float(body_size(np.stack([first, second])).max())
    apart = np.linalg.norm(first[_JOINTS, :2] - second[_JOINTS, :2], axis=-1) / size
    weight = np.maximum(first[_JOINTS, 3], second[_JOINTS, 3]) + 1e-3
    alike = np.exp(-0.5 * (apart / _SPREAD) ** 2)
    return float((weight * alike).sum() / weight.sum())


def distance(figure: Figure, detection: Detection) -> float:
    """Mean distance of a detection's torso from a figure's, in the figure's body sizes."""
    return float(np.linalg.norm(figure.torso - detection.torso, axis=-1).mean() / figure.size)


def shoulder_distance(figure: Figure, torso: Array) -> float:
    """Distance of the middle of some shoulders from a figure's, in the figure's body sizes."""
    return float(np.linalg.norm(figure.torso[1] - torso[1]) / figure.size)


def join(figures: list[Figure]) -> Landmarks:
    """Landmarks over the frames of several figures, in their order."""
    return Landmarks(
        **{
            part.name: np.concatenate([getattr(f.landmarks, part.name) for f in figures])
            for part in fields(Landmarks)
        }
    )
