"""How far the landmarks of a frame support each joint of the fit."""

import torch
from torch import Tensor

from avatarmill.pipeline.fit_kinematics import NUM_JOINTS
from avatarmill.pipeline.fit_landmarks import FACE_ROWS, LEFT_HAND_ROWS, RIGHT_HAND_ROWS
from avatarmill.pipeline.fit_prior import LEFT_HAND, RIGHT_HAND

# Joint -> body landmarks that pin its rotation down: the joint itself and the bone it turns.
_SUPPORT: dict[int, tuple[int, ...]] = {
    0: (11, 12, 23, 24),
    1: (23, 25),
    2: (24, 26),
    3: (11, 12, 23, 24),
    4: (25, 27),
    5: (26, 28),
    6: (11, 12, 23, 24),
    7: (27, 29, 31),
    8: (28, 30, 32),
    9: (11, 12, 23, 24),
    10: (29, 31),
    11: (30, 32),
    12: (0, 7, 8, 11, 12),
    13: (11,),
    14: (12,),
    15: (0, 2, 5, 7, 8),
    16: (11, 13),
    17: (12, 14),
    18: (13, 15),
    19: (14, 16),
    20: (15, 17, 19),
    21: (16, 18, 20),
}
_FIT_SCALE = 0.06
"""Metres of reprojection error that halve the confidence."""


def joint_confidence(trust: Tensor, error: Tensor) -> Tensor:
    """Confidence [T, 55] in 0..1.

    A joint is as good as the mean of its supporting landmarks, each its trust (visibility,
    inside the image) discounted by how badly the fit reprojects it.

    Args:
        trust: [T, L] of the landmarks, 0..1.
        error: [T, L] reprojection error in metres at the depth of the person.
    """
    support = trust / (1 + (error / _FIT_SCALE) ** 2)
    confidence = torch.zeros(len(trust), NUM_JOINTS, dtype=trust.dtype)
    for joint, rows in _SUPPORT.items():
        confidence[:, joint] = support[:, rows].mean(-1)
    for joints, points in ((LEFT_HAND, LEFT_HAND_ROWS), (RIGHT_HAND, RIGHT_HAND_ROWS)):
        confidence[:, joints] = support[:, points].mean(-1, keepdim=True)
    confidence[:, 22:25] = support[:, FACE_ROWS].mean(-1, keepdim=True)
    return confidence
