"""Procedural legs: footsteps planned along a path, feet that stay where they are planted.

Body motion follows the feet, never the other way round: a planted foot is a fixed point in the
world, the pelvis rides at the height both legs can reach, and each leg is solved in closed form.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d, uniform_filter1d
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

LEG_JOINTS = ((1, 4, 7, 10), (2, 5, 8, 11))
"""SMPL-X hip, knee, ankle and ball of the left and the right foot."""
STANCE_SHARE = 0.62
_REACH = 0.998  # share of the stretched leg that is used: a fully straight knee pops
_MARGIN_SECONDS = 3.0  # path planned before and after the clip, for steps that straddle its ends
_PATH_RATE = 120


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What motion needs to know of an actor: rest joints and where the soles are."""

    joints: Array
    """[55, 3] metres, T-pose."""
    sole: float
    """Height of the soles in the rest frame, metres."""

    @property
    def leg(self) -> float:
        """Length of the stretched left leg from hip to ankle, metres."""
        hip, knee, ankle = self.joints[list(LEG_JOINTS[0][:3])]
        return float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle))


@dataclass(frozen=True, slots=True)
class Walk:
    """How an actor gets about: a speed of zero with `stride_seconds` steps on the spot."""

    speed: float
    """Metres a second."""
    turn: float
    """Mean turning rate, radians a second, positive to the actor's left."""
    stride_seconds: float
    """Seconds between two strikes of one foot; infinite for standing still."""
    width: float
    """Distance of each footstep from the path, metres."""
    toe_out: float
    lift: float
    """Height of a swinging foot, metres."""
    roll: float
    """0..1, how far the foot rolls from heel to toe."""


@dataclass(frozen=True, slots=True)
class Feet:
    """Ankles and feet of both legs over time; the first axis is left, right."""

    ankle: Array
    """[2, F, 3] world metres."""
    yaw: Array
    """[2, F] heading of the foot."""
    pitch: Array
    """[2, F] rotation about the foot's lateral axis, positive lifts the heel."""
    planted: NDArray[np.bool_]
    """[2, F] true where the ball of the foot is fixed to the ground: flat, or with the heel up."""


@dataclass(frozen=True, slots=True)
class Path:
    """Position and heading of the pelvis on the ground, callable at any time of the clip."""

    times: Array
    points: Array
    """[N, 2] x and z."""
    heading: Array

    def at(self, times: Array) -> tuple[Array, Array]:
        """Points [F, 2] and headings [F] (radians, 0 faces +z) at `times` seconds."""
        points = np.stack(
            [np.interp(times, self.times, self.points[:, axis]) for axis in (0, 1)], axis=-1
        )
        return points, np.interp(times, self.times, self.heading)


def smoothstep(x: Array) -> Array:
    """The cubic 0 to 1 ramp of x clipped to 0..1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def plan_path(rng: np.random.Generator, walk: Walk, seconds: float) -> Path:
    """A path with a gently wandering heading that is at the origin, facing +z, mid-clip."""
    count = int((seconds + 2 * _MARGIN_SECONDS) * _PATH_RATE) + 1
    times = np.linspace(-_MARGIN_SECONDS, seconds + _MARGIN_SECONDS, count)
    wander = 0.25 if walk.speed > 0 else 0.0
    rate = walk.turn + wander * np.sin(rng.uniform(0.3, 0.9) * times * 2 + rng.uniform(0, 6.28))
    heading = np.cumsum(rate) / _PATH_RATE
    forward = np.stack([np.sin(heading), np.cos(heading)], axis=-1)
    points = np.cumsum(forward * walk.speed, axis=0) / _PATH_RATE
    middle = int(np.searchsorted(times, seconds / 2))
    turn = heading[middle]
    c, s = np.cos(turn), np.sin(turn)
    points = (points - points[middle]) @ np.array([[c, s], [-s, c]])
    return Path(times, points, heading - turn)


def straight_path(speed: float, seconds: float) -> Path:
    """A straight path along +z that leaves the origin at time 0."""
    times = np.array([-_MARGIN_SECONDS, seconds + _MARGIN_SECONDS])
    points = np.stack([np.zeros(2), speed * times], axis=-1)
    return Path(times, points, np.zeros(2))


def stride_seconds(speed: float, skeleton: Skeleton) -> float:
    """Seconds a stride: cadence grows with the root of speed (Grieve and Gear, 1966)."""
    scale = float(np.sqrt(skeleton.leg / 0.82))
    return 1.12 * scale * (1.2 * scale / max(speed, 0.3)) ** 0.5


def plan_feet(
    rng: np.random.Generator, walk: Walk, path: Path, skeleton: Skeleton, times: Array
) -> Feet:
    """Footsteps of both feet along a path, rolled from heel to toe and swung between steps."""
    phase = rng.uniform(0, 1)
    legs = [_plan_leg(walk, path, skeleton, times, side, phase) for side in (0, 1)]
    return Feet(*(np.stack(part) for part in zip(*legs, strict=True)))


def _plan_leg(
    walk: Walk, path: Path, skeleton: Skeleton, times: Array, side: int, phase: float
) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    if not np.isfinite(walk.stride_seconds):
        step = np.zeros(len(times))
        ankle, yaw, pitch = _stance(walk, path, skeleton, side, step, step + 0.5, still=True)
        return ankle, yaw, pitch, np.ones(len(times), bool)
    cycle = times / walk.stride_seconds + phase + 0.5 * side
    index, share = np.floor(cycle), cycle % 1
    start = (index - phase - 0.5 * side) * walk.stride_seconds
    stance = share < STANCE_SHARE
    ankle, yaw, pitch = _stance(walk, path, skeleton, side, start, share / STANCE_SHARE)
    swung = _swing(walk, path, skeleton, side, start, (share - STANCE_SHARE) / (1 - STANCE_SHARE))
    return (
        np.where(stance[:, None], ankle, swung[0]),
        np.where(stance, yaw, swung[1]),
        np.where(stance, pitch, swung[2]),
        # While only the heel touches, the sole still turns about it.
        stance & (pitch >= 0),
    )


def _stance(
    walk: Walk,
    path: Path,
    skeleton: Skeleton,
    side: int,
    start: Array,
    share: Array,
    *,
    still: bool = False,
) -> tuple[Array, Array, Array]:
    """Ankle, yaw and pitch of a foot that landed at `start`, at `share` 0..1 of its stance."""
    middle = start if still else start + 0.5 * STANCE_SHARE * walk.stride_seconds
    point, heading = path.at(middle)
    sign = 1 - 2 * side
    left = np.stack([np.cos(heading), -np.sin(heading)], axis=-1)
    point = point + sign * walk.width * left
    yaw = heading + sign * walk.toe_out
    pitch = walk.roll * (
        0.6 * smoothstep((share - 0.55) / 0.45) - 0.3 * (1 - smoothstep(share / 0.18))
    )
    _, _, ankle_joint, ball_joint = skeleton.joints[list(LEG_JOINTS[side])]
    rise = ankle_joint[1] - skeleton.sole
    # The foot turns about the ball joint when the heel is up, so that the toes, which the joint
    # keeps level, do not move; and about the heel's edge when the toes are up.
    ball = ball_joint - ankle_joint
    heel = np.array([0.0, -rise, -0.25 * ball[2]])
    pivot = np.where(pitch[:, None] > 0, ball, heel)
    spun = Rotation.from_euler("YX", np.stack([yaw, pitch], axis=-1))
    flat = Rotation.from_euler("Y", yaw[:, None])
    ground = np.stack([point[:, 0], np.full(len(yaw), rise), point[:, 1]], axis=-1)
    return ground + flat.apply(pivot) - spun.apply(pivot), yaw, pitch


def _swing(
    walk: Walk, path: Path, skeleton: Skeleton, side: int, start: Array, share: Array
) -> tuple[Array, Array, Array]:
    """The foot in the air: cubic Hermite from toe-off to the next strike, with a lift."""
    share = np.clip(share, 0, 1)
    one, eps = np.ones_like(share), 0.02
    following = start + walk.stride_seconds
    leave, leave_yaw, leave_pitch = _stance(walk, path, skeleton, side, start, one)
    before, _, _ = _stance(walk, path, skeleton, side, start, one - eps)
    land, land_yaw, land_pitch = _stance(walk, path, skeleton, side, following, 0 * one)
    after, _, _ = _stance(walk, path, skeleton, side, following, 0 * one + eps)
    # Velocities per unit of swing, from shares of stance.
    scale = (1 - STANCE_SHARE) / STANCE_SHARE / eps
    s = share[:, None]
    ankle = (
        (2 * s**3 - 3 * s**2 + 1) * leave
        + (s**3 - 2 * s**2 + s) * (leave - before) * scale
        + (3 * s**2 - 2 * s**3) * land
        + (s**3 - s**2) * (after - land) * scale
    )
    ankle[:, 1] += walk.lift * np.sin(np.pi * share) ** 2
    blend = smoothstep(share)
    return (
        ankle,
        leave_yaw + blend * (land_yaw - leave_yaw),
        leave_pitch + blend * (land_pitch - leave_pitch),
    )


def pelvis_height(
    feet: Feet, pelvis_xz: Array, turn: Rotation, skeleton: Skeleton, *, bend: float
) -> Array:
    """Height [F] of the pelvis joint that lets both legs reach their ankles, smoothly.

    A moving minimum followed by a moving mean of the same width never exceeds what it smooths,
    so no leg is ever asked to stretch further than it can.

    Args:
        feet: the planned feet.
        pelvis_xz: [F, 2] world position of the pelvis joint.
        turn: [F] world rotation of the pelvis.
        bend: metres to sink below the highest reachable height.
    """
    limits = []
    for side, chain in enumerate(LEG_JOINTS):
        offset = turn.apply(skeleton.joints[chain[0]] - skeleton.joints[0])
        flat = feet.ankle[side][:, [0, 2]] - pelvis_xz - offset[:, [0, 2]]
        reach = (_REACH * _longest(skeleton, side)) ** 2 - (flat**2).sum(-1)
        limits.append(feet.ankle[side][:, 1] + np.sqrt(np.maximum(reach, 1e-4)) - offset[:, 1])
    highest = np.minimum(*limits)
    width = 5
    return uniform_filter1d(minimum_filter1d(highest, width), width) - bend


def _longest(skeleton: Skeleton, side: int) -> float:
    hip, knee, ankle, _ = skeleton.joints[list(LEG_JOINTS[side])]
    return float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle))


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
