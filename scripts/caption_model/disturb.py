"""Truth disturbed as much as the curation chain errs on rendered films."""

import cv2
import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.crops import Crops
from avatarmill.records.clip import Clip

Float = NDArray[np.float32]

_DEGREES = {
    **{0: 3, 1: 5, 2: 5, 3: 1.5, 4: 4, 5: 4, 6: 1.5, 7: 3, 8: 3, 9: 1.5, 12: 3, 13: 2, 14: 2},
    **{15: 4, 16: 6, 17: 6, 18: 6, 19: 6, 20: 5, 21: 5},
}
"""Joint: deviation of its angles, about the errors of the fit on development films."""
_METRES = np.array((0.015, 0.015, 0.06), np.float32)
_SHAPE = 0.5


def disturbed(clip: Clip, rng: np.random.Generator, level: float) -> Crops:
    """Three or four frames of a clip with other poses, masks, light and confidences.

    Args:
        clip: rendered, with true parameters.
        rng: consumed.
        level: multiple of the usual errors.
    """
    count = min(clip.num_frames, int(rng.integers(3, 5)))
    keep = np.sort(rng.choice(clip.num_frames, size=count, replace=False))
    angles = np.zeros((55, 1), np.float32)
    angles[list(_DEGREES)] = np.radians(list(_DEGREES.values()))[:, None]
    pose = clip.pose[keep] + level * angles * _shared_noise(rng, (count, 55, 3))
    moved = clip.translation[keep] + level * _METRES * _shared_noise(rng, (count, 3))
    confidence = clip.confidence[keep].copy()
    doubted = rng.random(55) < 0.04 * level
    doubted[15] = False
    confidence[:, doubted] = 0.1
    return Crops(
        images=_relit(clip.images[keep], rng, level),
        masks=np.stack([_frayed(mask, rng, level) for mask in clip.masks[keep]]),
        intrinsics=clip.intrinsics[keep],
        pose=pose.astype(np.float32),
        shape=clip.shape + np.float32(level * _SHAPE) * rng.normal(size=20).astype(np.float32),
        expression=clip.expression[keep],
        translation=moved.astype(np.float32),
        confidence=confidence,
        face_boxes=clip.face_boxes[keep],
        hand_boxes=clip.hand_boxes[keep],
        pts_seconds=tuple(float(row) for row in keep),
        squares=((0, 0, clip.masks.shape[-1]),) * count,
    )


def _shared_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Float:
    """Normal noise, half of its variance the same in all frames: a fit errs in the same way."""
    noise = rng.normal(size=(1, *shape[1:])) + rng.normal(size=shape)
    return (np.sqrt(0.5) * noise).astype(np.float32)


def _relit(images: NDArray[np.uint8], rng: np.random.Generator, level: float) -> NDArray[np.uint8]:
    gain = np.exp(level * rng.normal(0, 0.06)) * np.exp(level * rng.normal(0, 0.025, 3))
    return np.clip(images.astype(np.float32) * gain, 0, 255).astype(np.uint8)


def _frayed(mask: NDArray[np.uint8], rng: np.random.Generator, level: float) -> NDArray[np.uint8]:
    """A mask whose border wanders by a few pixels."""
    noise = cv2.GaussianBlur(rng.normal(size=mask.shape).astype(np.float32), (0, 0), 6)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.0) / 255
    frayed: NDArray[np.uint8] = np.where(
        soft + level * 0.18 * noise / noise.std() > 0.5, 255, 0
    ).astype(np.uint8)
    return frayed
