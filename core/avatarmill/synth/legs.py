"""Legs that reach planned feet: how high the pelvis rides, and hips and knees in closed form."""

import numpy as np
from scipy.ndimage import convolve1d, minimum_filter1d
from scipy.spatial.transform import Rotation

from avatarmill.synth.gait import LEG_JOINTS, Array, Feet, Skeleton

_REACH = 0.998  # share of the stretched leg that is used: a fully straight knee pops
_SMOOTHING = 5  # frames at the rate that motions are made at
_PULLED_UP = -18.0  # degrees of dorsiflexion of a foot in the air


def pelvis_height(
    feet: Feet, pelvis_xz: Array, turn: Rotation, skeleton: Skeleton, *, bend: Array | float
) -> Array:
    """Height [F] of the pelvis joint that lets both legs reach their ankles, smoothly.

    A moving minimum followed by a weighted moving mean of the same width never exceeds what it
    smooths, so no leg is ever asked to stretch further than it can.

    Args:
        feet: the planned feet.
        pelvis_xz: [F, 2] world position of the pelvis joint.
        turn: [F] world rotation of the pelvis.
        bend: metres to sink below the highest reachable height, [F] or one number.
    """
    limits = []
    for side, chain in enumerate(LEG_JOINTS):
        offset = turn.apply(skeleton.joints[chain[0]] - skeleton.joints[0])
        flat = feet.ankle[side][:, [0, 2]] - pelvis_xz - offset[:, [0, 2]]
        reach = (_REACH * longest(skeleton, side)) ** 2 - (flat**2).sum(-1)
        limits.append(feet.ankle[side][:, 1] + np.sqrt(np.maximum(reach, 1e-4)) - offset[:, 1])
    lowest = minimum_filter1d(np.minimum(*limits) - bend, _SMOOTHING)
    kernel = np.hanning(_SMOOTHING + 2)[1:-1]
    smooth: Array = convolve1d(lowest, kernel / kernel.sum())
    return smooth


def longest(skeleton: Skeleton, side: int) -> float:
    """Length of a stretched leg from hip to ankle, metres."""
    hip, knee, ankle, _ = skeleton.joints[list(LEG_JOINTS[side])]
    return float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle))


def fill_legs(pose: Array, skeleton: Skeleton, feet: Feet, pelvis: Array, turn: Rotation) -> None:
    """Fill hips, knees, ankles and toes of `pose` so that the feet are where they were planned."""
    for side, (hip, knee, ankle, ball) in enumerate(LEG_JOINTS):
        at = pelvis + turn.apply(skeleton.joints[hip] - skeleton.joints[0])
        bend, flex = solve_leg(skeleton, side, at, turn, feet.ankle[side], feet.yaw[side])
        wanted = Rotation.from_euler("YX", np.stack([feet.yaw[side], feet.pitch[side]], axis=-1))
        pose[:, hip], pose[:, knee] = bend.as_rotvec(), flex.as_rotvec()
        foot = (turn * bend * flex).inv() * wanted
        pose[:, ankle] = _relaxed(foot, feet.air[side]).as_rotvec()
        # Toes stay flat on the ground while the heel is up.
        pose[:, ball, 0] = -np.maximum(feet.pitch[side], 0)


def _relaxed(foot: Rotation, air: Array) -> Rotation:
    """Ankle rotations whose foot, where it is in the air, is not pulled up further than it goes."""
    angles = foot.as_euler("XZY")
    low = np.deg2rad(_PULLED_UP)
    over = angles[:, 0] - low
    # A soft floor: the square root bends the corner.
    floored = low + 0.5 * (over + np.sqrt(over**2 + 0.04))
    angles[:, 0] += air * (floored - angles[:, 0])
    return Rotation.from_euler("XZY", angles)


def solve_leg(
    skeleton: Skeleton, side: int, hip: Array, turn: Rotation, ankle: Array, yaw: Array
) -> tuple[Rotation, Rotation]:
    """Local hip and knee rotations that put the ankle where it is wanted.

    The knee bends about the rest frame's x axis, so |hip to ankle| fixes its angle by one cosine
    equation; the hip then turns the bent leg onto the target with the knee pointing where the
    foot points.

    Args:
        side: 0 left, 1 right.
        hip: [F, 3] world hips.
        turn: [F] world rotation of the pelvis.
        ankle: [F, 3] world targets, within reach.
        yaw: [F] heading of the foot.
    """
    rest_hip, rest_knee, rest_ankle, _ = skeleton.joints[list(LEG_JOINTS[side])]
    thigh, shin = rest_knee - rest_hip, rest_ankle - rest_knee
    target = turn.inv().apply(ankle - hip)
    square = (target**2).sum(-1)
    along = thigh[1] * shin[1] + thigh[2] * shin[2]
    across = thigh[2] * shin[1] - thigh[1] * shin[2]
    cosine = (0.5 * (square - thigh @ thigh - shin @ shin) - thigh[0] * shin[0]) / np.hypot(
        along, across
    )
    angle = np.arctan2(across, along) + np.arccos(np.clip(cosine, -1, 1))
    knee = Rotation.from_euler("x", angle[:, None])
    foot_side = Rotation.from_euler("y", yaw[:, None]).apply([1.0, 0.0, 0.0])
    lateral = turn.inv().apply(foot_side)
    wanted = _frame(target, lateral)
    bent = _frame(thigh + knee.apply(shin), np.tile([1.0, 0.0, 0.0], (len(angle), 1)))
    return Rotation.from_matrix(wanted @ bent.transpose(0, 2, 1)), knee


def _frame(axis: Array, lateral: Array) -> Array:
    """Orthonormal frames [F, 3, 3] whose first column is `axis` and third leans to `lateral`."""
    first = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    third = lateral - (lateral * first).sum(-1, keepdims=True) * first
    third /= np.linalg.norm(third, axis=-1, keepdims=True)
    return np.stack([first, np.cross(third, first), third], axis=-1)
