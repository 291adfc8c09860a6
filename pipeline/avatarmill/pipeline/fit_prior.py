"""What bodies do when nobody looks: joint limits and a relaxed standing pose."""

from dataclasses import dataclass

import torch
from torch import Tensor

from avatarmill.pipeline.fit_kinematics import NUM_JOINTS

BODY_JOINTS = tuple(range(1, 22))
JAW, LEFT_EYE, RIGHT_EYE = 22, 23, 24
LEFT_HAND = tuple(range(25, 40))
RIGHT_HAND = tuple(range(40, 55))

# Left side and middle, in the rest frames of SMPL-X (parallel to the world, x to the person's
# left, y up, z forward): joint -> (lowest, highest, mean, sigma) per axis in radians. A right
# joint mirrors its left one: turns about y and z change sign. Ranges are those of anatomy with
# some slack for how SMPL-X shares a turn between clavicle and shoulder, or hip and spine.
_Axes = tuple[float, float, float]
_LEFT: dict[int, tuple[_Axes, _Axes, _Axes, _Axes]] = {
    1: ((-2.2, -0.9, -0.5), (0.7, 0.9, 0.9), (-0.05, 0.0, 0.05), (0.5, 0.3, 0.3)),
    3: ((-0.3, -0.4, -0.3), (0.7, 0.4, 0.3), (0.0, 0.0, 0.0), (0.25, 0.15, 0.15)),
    4: ((-0.05, -0.3, -0.2), (2.5, 0.3, 0.2), (0.1, 0.0, 0.0), (0.7, 0.1, 0.1)),
    6: ((-0.3, -0.4, -0.3), (0.6, 0.4, 0.3), (0.0, 0.0, 0.0), (0.2, 0.15, 0.15)),
    7: ((-0.7, -0.5, -0.4), (0.9, 0.5, 0.4), (0.0, 0.0, 0.0), (0.3, 0.2, 0.15)),
    9: ((-0.3, -0.4, -0.3), (0.4, 0.4, 0.3), (0.0, 0.0, 0.0), (0.15, 0.15, 0.15)),
    10: ((-0.4, -0.1, -0.1), (0.3, 0.1, 0.1), (0.0, 0.0, 0.0), (0.1, 0.05, 0.05)),
    12: ((-0.6, -0.8, -0.5), (0.6, 0.8, 0.5), (0.0, 0.0, 0.0), (0.25, 0.3, 0.2)),
    13: ((-0.3, -0.5, -0.4), (0.3, 0.4, 0.5), (0.0, 0.0, 0.0), (0.1, 0.15, 0.15)),
    15: ((-0.6, -0.8, -0.5), (0.6, 0.8, 0.5), (0.0, 0.0, 0.0), (0.25, 0.3, 0.2)),
    16: ((-1.6, -2.0, -1.6), (1.6, 1.0, 1.4), (0.0, -0.15, -1.1), (0.6, 0.8, 0.8)),
    18: ((-1.2, -2.6, -0.4), (1.2, 0.05, 0.4), (0.0, -0.3, 0.0), (0.4, 0.8, 0.2)),
    20: ((-1.2, -0.6, -1.3), (1.2, 0.6, 1.3), (0.0, 0.0, 0.0), (0.35, 0.25, 0.35)),
}
_MIDDLE = (3, 6, 9, 12, 15)
_RIGHT_OF = {1: 2, 4: 5, 7: 8, 10: 11, 13: 14, 16: 17, 18: 19, 20: 21}

# Fingers bend about z (towards the palm, which faces down): negative on the left hand.
_FINGER = ((-0.3, -0.35, -1.9), (0.3, 0.35, 0.3), (0.0, 0.0, -0.35), (0.12, 0.15, 0.5))
_KNUCKLE = ((-0.15, -0.1, -1.9), (0.15, 0.1, 0.1), (0.0, 0.0, -0.35), (0.06, 0.06, 0.5))
_THUMB = ((-0.9, -0.9, -0.7), (0.9, 0.9, 0.7), (0.1, 0.0, 0.0), (0.3, 0.3, 0.25))


@dataclass(frozen=True, slots=True)
class PosePrior:
    """Soft box and Gaussian over the axis-angle of the 55 joints; row 0 is not used."""

    low: Tensor
    """[55, 3] radians."""
    high: Tensor
    mean: Tensor
    sigma: Tensor
    limit_sigma: float = 0.03
    """Radians beyond the box that cost as much as one sigma."""


def pose_prior() -> PosePrior:
    """The prior of an unseen adult: standing, arms hanging, hands half open."""
    table = torch.zeros(4, NUM_JOINTS, 3, dtype=torch.float64)
    table[1], table[3] = 0.1, 0.05
    table[0] = -0.1
    for joint, rows in _LEFT.items():
        table[:, joint] = torch.tensor(rows, dtype=torch.float64)
        if joint not in _MIDDLE:
            table[:, _RIGHT_OF[joint]] = _mirror(table[:, joint])
    for index, joint in enumerate(LEFT_HAND):
        rows = _THUMB if index >= 12 else _FINGER if index % 3 == 0 else _KNUCKLE
        table[:, joint] = torch.tensor(rows, dtype=torch.float64)
        table[:, RIGHT_HAND[index]] = _mirror(table[:, joint])
    table[:, JAW] = torch.tensor(
        ((-0.02, -0.1, -0.1), (0.6, 0.1, 0.1), (0.0, 0.0, 0.0), (0.15, 0.05, 0.05))
    )
    table[:, [LEFT_EYE, RIGHT_EYE]] = torch.tensor(
        ((-0.5, -0.7, -0.05), (0.5, 0.7, 0.05), (0.0, 0.0, 0.0), (0.2, 0.3, 0.02))
    ).to(table)[:, None]
    return PosePrior(low=table[0], high=table[1], mean=table[2], sigma=table[3])


def _mirror(rows: Tensor) -> Tensor:
    """(low, high, mean, sigma) [4, 3] of the joint on the other side."""
    low, high, mean, sigma = rows.unbind(0)
    flip = torch.tensor((1.0, -1.0, -1.0), dtype=rows.dtype)
    turned_low, turned_high = low * flip, high * flip
    return torch.stack(
        (
            torch.minimum(turned_low, turned_high),
            torch.maximum(turned_low, turned_high),
            mean * flip,
            sigma,
        )
    )
