"""How far human joints bend: one table in degrees, and how much a pose exceeds it.

The ranges are the clinical ones of the American Academy of Orthopaedic Surgeons (Joint Motion,
1965), rounded; those of the spine and of the neck are divided over their joints.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatarmill.avatar.body import JOINT_NAMES

Array = NDArray[np.float64]
Range = tuple[float, float]
Order = Literal["XYZ", "XZY", "YXZ", "YZX", "ZYX"]

# Joint: intrinsic Euler order and the range of its three angles, degrees, for the left side and
# the middle; right joints are their mirror image. Rest is the T-pose, axes are the world's.
LIMITS: dict[str, tuple[Order, Range, Range, Range]] = {
    "hip": ("XZY", (-125, 30), (-30, 50), (-45, 45)),  # flexion is negative; abduction; rotation
    "knee": ("XZY", (-5, 150), (-1, 1), (-1, 1)),
    "ankle": ("XZY", (-35, 60), (-30, 30), (-35, 35)),  # plantar flexion is positive
    "foot": ("XZY", (-70, 40), (-5, 5), (-5, 5)),
    "spine1": ("YXZ", (-20, 20), (-20, 35), (-20, 20)),  # twist, flexion, side bend
    "spine2": ("YXZ", (-20, 20), (-20, 35), (-20, 20)),
    "spine3": ("YXZ", (-20, 20), (-20, 35), (-20, 20)),
    "neck": ("YXZ", (-45, 45), (-40, 40), (-30, 30)),
    "head": ("YXZ", (-40, 40), (-35, 35), (-25, 25)),
    "collar": ("ZYX", (-15, 40), (-25, 25), (-15, 15)),
    "elbow": ("YZX", (-150, 2), (-5, 5), (-90, 90)),
    "wrist": ("ZYX", (-80, 75), (-30, 35), (-25, 25)),  # palmar flexion is negative
    "jaw": ("XYZ", (-2, 25), (-8, 8), (-3, 3)),
    "eye": ("YXZ", (-40, 40), (-30, 30), (-5, 5)),
    "finger1": ("ZYX", (-95, 30), (-25, 25), (-15, 15)),
    "finger2": ("ZYX", (-115, 5), (-2, 2), (-2, 2)),
    "finger3": ("ZYX", (-90, 10), (-2, 2), (-2, 2)),
    "thumb1": ("ZYX", (-45, 45), (-50, 60), (-45, 45)),
    "thumb2": ("ZYX", (-30, 30), (-20, 60), (-30, 30)),
    "thumb3": ("ZYX", (-30, 30), (-20, 80), (-30, 30)),
}

# The upper arm has no singularity-free angles: its direction (x outward, z forward) and its twist
# against the shortest turn from the T-pose are limited instead.
SHOULDER_BACK = 60.0
"""Degrees the upper arm may point behind the frontal plane."""
SHOULDER_ACROSS = 55.0
"""Degrees the upper arm may point across the body's midline."""
SHOULDER_TWIST = 115.0
"""Degrees the upper arm may turn about its own axis, to either side."""


def row_of(joint: int) -> str | None:
    """The row of `LIMITS` for an SMPL-X joint, None for the root and the shoulders."""
    name = JOINT_NAMES[joint].removeprefix("left_").removeprefix("right_")
    if name[:-1] in ("index", "middle", "ring", "pinky"):
        name = f"finger{name[-1]}"
    return name if name in LIMITS else None


def soft_clamp(value: Array, low: float, high: float) -> Array:
    """`value` where it is well inside low..high, bent smoothly so that it never leaves it."""
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    knee = 0.7  # share of the range that stays as it is
    offset = (value - middle) / half
    beyond = np.maximum(np.abs(offset) - knee, 0)
    bent = np.minimum(np.abs(offset), knee) + (1 - knee) * np.tanh(beyond / (1 - knee))
    clamped: Array = middle + half * np.sign(offset) * bent
    return clamped


def clamp_joint(rotvec: Array, joint: int) -> Array:
    """Axis-angle [F, 3] of one joint of `LIMITS`, bent smoothly into its range."""
    row = row_of(joint)
    if row is None:
        raise ValueError(f"joint {JOINT_NAMES[joint]} has no row of Euler angles in LIMITS")
    order, *ranges = LIMITS[row]
    mirror = _mirror(joint)
    angles = Rotation.from_rotvec(rotvec * mirror).as_euler(order, degrees=True)
    inside = [soft_clamp(angles[:, k], *ranges[k]) for k in range(3)]
    turn = Rotation.from_euler(order, np.stack(inside, axis=-1), degrees=True)
    return np.asarray(turn.as_rotvec() * mirror)


def excess_degrees(pose: NDArray[np.floating]) -> Array:
    """How far each joint is outside its limits: [F, 55] degrees, 0 inside.

    Args:
        pose: [F, 55, 3] axis-angle in SMPL-X order.
    """
    excess = np.zeros(pose.shape[:2])
    for joint in range(1, pose.shape[1]):
        local = Rotation.from_rotvec(pose[:, joint].astype(np.float64) * _mirror(joint))
        row = row_of(joint)
        if row is None:
            excess[:, joint] = _shoulder_excess(local)
            continue
        order, *ranges = LIMITS[row]
        angles = local.as_euler(order, degrees=True)
        low, high = np.array(ranges).T
        excess[:, joint] = np.maximum(np.maximum(low - angles, angles - high), 0).max(1)
    return excess


def _shoulder_excess(local: Rotation) -> Array:
    way = local.apply([1.0, 0.0, 0.0])
    back = np.degrees(np.arcsin(np.clip(-way[:, 2], -1, 1))) - SHOULDER_BACK
    across = np.degrees(np.arcsin(np.clip(-way[:, 0], -1, 1))) - SHOULDER_ACROSS
    x, _, _, w = local.as_quat().T
    twist = np.abs((np.degrees(2 * np.arctan2(x, w)) + 180) % 360 - 180) - SHOULDER_TWIST
    worst: Array = np.maximum(np.stack([back, across, twist]).max(0), 0)
    return worst


def _mirror(joint: int) -> Array:
    # The mirror image of a rotation vector across the body's midline is (x, -y, -z).
    sign = -1.0 if JOINT_NAMES[joint].startswith("right_") else 1.0
    return np.array([1.0, sign, sign])
