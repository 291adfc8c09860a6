"""How far a row of detections behaves like one human body: measures, free of thresholds.

All lengths are relative to the body's own size in the image, so that the measures mean the same for
a figure 60 pixels tall and for a face that fills the frame.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.types import Bytes, Float, Landmarks

NOSE, FACE_NOSE = 0, 1
SHOULDERS, HIPS = (11, 12), (23, 24)
WRISTS = (15, 16)
CORE = (NOSE, *SHOULDERS, *HIPS)
_LIMBS = np.array(
    [
        (11, 13), (13, 15), (23, 25), (25, 27), (11, 23),
        (12, 14), (14, 16), (24, 26), (26, 28), (12, 24),
        (11, 12), (23, 24),
    ]
)  # fmt: skip
"""Rows 0-4 are of the left side, 5-9 their mirror images, 10-11 across."""
_VISIBLE = 0.5
_MOSTLY = 0.5
_EARS = (7, 8)
_FRONTAL = 0.12
"""Distance of the ears, in body sizes, from which a head is seen from the front: profiles have
0.03-0.06, faces from 0.2."""
_OWN_FACE = 0.35
"""Distance of a face, in body sizes, above which it is somebody else's and says nothing."""


@dataclass(frozen=True, slots=True)
class Steadiness:
    """Measures of one piece of a track; smaller is better unless stated."""

    limb_deviation: float
    """Median relative deviation of visible 3D limb lengths from their median over the piece."""
    limb_asymmetry: float
    """Median relative difference of left and right limbs in 3D, visible ones."""
    face_distance: float
    """Median distance of the face mesh's nose from the body's, in body sizes, over frames that show
    the head from the front; 0 unless these are half of all: the mesh of a profile is guesswork."""
    plane_residual: float
    """Median distance of 3D landmarks, projected flat, from the 2D ones, in body sizes."""
    mask_support: float
    """Mean raw mask, 0..1, at visible landmarks of trunk and head. Larger is better."""
    core_visibility: float
    """Mean visibility of nose and shoulders, 0..1. Larger is better."""


def body_size(body: Float) -> NDArray[np.float32]:
    """[F] size in pixels of bodies [F, 33, 4]: the longer of shoulder width and trunk."""
    shoulders, hips = body[:, SHOULDERS, :2], body[:, HIPS, :2]
    width = np.linalg.norm(shoulders[:, 0] - shoulders[:, 1], axis=-1)
    trunk = np.linalg.norm(shoulders.mean(1) - hips.mean(1), axis=-1)
    size: NDArray[np.float32] = np.maximum(np.maximum(width, trunk), 1.0)
    return size


def measure(landmarks: Landmarks, masks: Bytes) -> Steadiness:
    """Measures over F detected frames; `masks` [F, H, W] are MediaPipe's, 0..255."""
    size = body_size(landmarks.body)
    visible = landmarks.body[..., 3] > _VISIBLE
    lengths = _limb_lengths(landmarks.body_world)
    both = visible[:, _LIMBS[:, 0]] & visible[:, _LIMBS[:, 1]]
    return Steadiness(
        limb_deviation=_median(_deviation(lengths, both)),
        limb_asymmetry=_median(_asymmetry(lengths, both)),
        face_distance=_face_distance(landmarks, size),
        plane_residual=_median(_plane_residual(landmarks, size)),
        mask_support=_mask_support(landmarks.body, masks),
        core_visibility=float(landmarks.body[:, (NOSE, *SHOULDERS), 3].mean()),
    )


def face_distance(landmarks: Landmarks, size: NDArray[np.float32]) -> NDArray[np.float32]:
    """[F] distance of the face mesh's nose from the body's, in body sizes; NaN without a face."""
    offset = landmarks.face[:, FACE_NOSE, :2] - landmarks.body[:, NOSE, :2]
    distance: NDArray[np.float32] = np.linalg.norm(offset, axis=-1) / size
    return distance


def _face_distance(landmarks: Landmarks, size: NDArray[np.float32]) -> float:
    distance = face_distance(landmarks, size)
    ears = np.linalg.norm(np.diff(landmarks.body[:, _EARS, :2], axis=1)[:, 0], axis=-1)
    own = distance[(distance < _OWN_FACE) & (ears > _FRONTAL * size)]
    return _median(own) if len(own) >= _MOSTLY * len(distance) else 0.0


def core_motion(body: Float) -> NDArray[np.float32]:
    """[F - 1] mean displacement of head and trunk between neighbours, in body sizes.

    Divided by the smaller of the two sizes, so that a jump to a much smaller figure counts fully.
    """
    size = body_size(body)
    core = body[:, CORE, :2]
    step = np.linalg.norm(np.diff(core, axis=0), axis=-1).mean(1)
    motion: NDArray[np.float32] = step / np.minimum(size[1:], size[:-1])
    return motion


def _limb_lengths(world: Float) -> NDArray[np.float32]:
    ends = world[:, _LIMBS]
    lengths: NDArray[np.float32] = np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=-1)
    return np.maximum(lengths, 1e-3)


def _deviation(lengths: NDArray[np.float32], both: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Relative deviations of visible limbs, as one row of values."""
    logs = np.log(lengths)
    centre = np.array(
        [np.median(logs[seen, i]) if seen.any() else np.nan for i, seen in enumerate(both.T)]
    )
    deviation: NDArray[np.float32] = np.abs(logs - centre)[both]
    return deviation


def _asymmetry(lengths: NDArray[np.float32], both: NDArray[np.bool_]) -> NDArray[np.float32]:
    ratio = np.abs(np.log(lengths[:, :5] / lengths[:, 5:10]))
    asymmetry: NDArray[np.float32] = ratio[both[:, :5] & both[:, 5:10]]
    return asymmetry


def _plane_residual(landmarks: Landmarks, size: NDArray[np.float32]) -> NDArray[np.float64]:
    """[F] residual of the best scale and shift from 3D x, y to pixels, weighted by visibility."""
    weight = landmarks.body[..., 3:4]
    weight = weight / weight.sum(1, keepdims=True).clip(1e-6)
    flat, pixels = landmarks.body_world[..., :2], landmarks.body[..., :2]
    flat = flat - (weight * flat).sum(1, keepdims=True)
    pixels = pixels - (weight * pixels).sum(1, keepdims=True)
    scale = (weight * flat * pixels).sum((1, 2)) / (weight * flat * flat).sum((1, 2)).clip(1e-9)
    miss = ((pixels - scale[:, None, None] * flat) ** 2 * weight).sum((1, 2))
    residual: NDArray[np.float64] = np.sqrt(miss) / size
    return residual


def _mask_support(body: Float, masks: Bytes) -> float:
    points = body[:, CORE]
    height, width = masks.shape[1:]
    columns, rows = points[..., 0], points[..., 1]
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    frame, point = np.nonzero(inside & (points[..., 3] > _VISIBLE))
    if len(frame) == 0:
        return 0.0
    x, y = columns[frame, point].astype(int), rows[frame, point].astype(int)
    return float(masks[frame, y, x].mean() / 255)


def _median(values: NDArray[np.float32] | NDArray[np.float64]) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else 0.0
