"""A whole body that follows its feet: pelvis, trunk, head, arms, hands and face of a plan."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatarmill.synth.faces import expressions, gaze
from avatarmill.synth.gait import Array, Feet, Path, Skeleton, Steps, Walk, place_feet
from avatarmill.synth.gestures import (
    ARM_JOINTS,
    arm_rotations,
    arm_tracks,
    clear_trunk,
    dance_tracks,
    swing_arms,
)
from avatarmill.synth.hands import HAND_STARTS, finger_rotations
from avatarmill.synth.legs import fill_legs, pelvis_height
from avatarmill.synth.limits import clamp_joint
from avatarmill.synth.wander import wander

_SPINE, _NECK = (3, 6, 9), (12, 15)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the feet go, and how lively the rest is."""

    walk: Walk
    path: Path
    """Of the pelvis."""
    steps: list[Steps]
    """Left, right."""
    lively: float
    """0..1, the chance of gestures, hand shapes and moods out of the ordinary."""
    beat: float | None = None
    """Seconds a beat of a dance; None for everything else."""


@dataclass(frozen=True, slots=True)
class Performance:
    """A plan carried out at some times; in double precision."""

    pose: Array
    """[F, 55, 3] axis-angle."""
    pelvis: Array
    """[F, 3] world position of the pelvis joint."""
    expression: Array
    """[F, 52] in 0..1."""
    planted: NDArray[np.bool_]
    """[F, 2] left, right."""


def perform(rng: np.random.Generator, plan: Plan, skeleton: Skeleton, times: Array) -> Performance:
    """Everything the body does at `times` [F], a fine and even sequence of seconds.

    Legs come first and exactly, since planted feet do not move. The trunk undoes most of what the
    pelvis does, and the head undoes the rest, because people keep their eyes level.
    """
    feet = place_feet(plan.steps, plan.walk, skeleton, times)
    pelvis, turn = _pelvis(rng, plan, feet, skeleton, times)
    pose = np.zeros((len(times), 55, 3))
    pose[:, 0] = turn.as_rotvec()
    fill_legs(pose, skeleton, feet, pelvis, turn)
    heading = plan.path.at(times)[1]
    _torso(rng, pose, plan, times, turn, heading)
    _arms(rng, pose, plan, times, _lead(feet, turn, skeleton), skeleton)
    pose[:, 23:25], lids = gaze(rng, times, lively=plan.lively)
    action = np.clip(expressions(rng, times, lively=plan.lively) + lids, 0, 1)
    return Performance(pose, pelvis, action, feet.planted.T.copy())


def _pelvis(
    rng: np.random.Generator, plan: Plan, feet: Feet, skeleton: Skeleton, times: Array
) -> tuple[Array, Rotation]:
    """World position [F, 3] of the pelvis joint and its rotation, riding on the feet."""
    point, heading = plan.path.at(times)
    walk, sway = plan.walk, wander(rng, times, 6, rate=0.25)
    moving, dancing = np.isfinite(walk.stride_seconds), plan.beat is not None
    # The pelvis follows the foot that leads and leans over the one that carries.
    forward = np.stack([np.sin(heading), np.cos(heading)], axis=-1)
    left = np.stack([np.cos(heading), -np.sin(heading)], axis=-1)
    ahead = feet.ankle[0] - feet.ankle[1]
    lead = (ahead[:, [0, 2]] * forward).sum(-1) if moving else 0.0
    lifted = 0.1 * np.tanh((feet.ankle[0][:, 1] - feet.ankle[1][:, 1]) / 0.1)
    twist = -0.16 * lead + (0.14 if dancing else 0.04) * sway[:, 0]
    lean = 0.4 * lifted + (0.06 if dancing else 0.015) * sway[:, 1]
    tilt = walk.lean + (0.06 if dancing else 0.02) * sway[:, 2]
    turn = Rotation.from_euler("YXZ", np.stack([heading + twist, tilt, lean], axis=-1))
    shift = -0.18 * lifted + (0.004 if moving else 0.014) * sway[:, 3]
    point = point + shift[:, None] * left
    if not moving:
        point = point + 0.008 * sway[:, [4]] * forward
    bend = _bend(rng, plan, skeleton, times, sway[:, 5], _lead(feet, turn, skeleton))
    height = pelvis_height(feet, point, turn, skeleton, bend=bend)
    return np.stack([point[:, 0], height, point[:, 1]], axis=-1), turn


def _bend(
    rng: np.random.Generator,
    plan: Plan,
    skeleton: Skeleton,
    times: Array,
    sway: Array,
    lead: Array,
) -> Array | float:
    """How far the pelvis is below the height that stretched legs would give it, metres."""
    if plan.beat is not None:
        bounce = 0.5 - 0.5 * np.cos(2 * np.pi * times / plan.beat + rng.uniform(0, 6.28))
        depth, squat = rng.uniform(0.008, 0.03), rng.uniform(0.01, 0.06)
        dip: Array = skeleton.leg * (0.004 + depth * bounce + squat * np.maximum(sway, 0) ** 2)
        return dip
    if plan.walk.stance < 0.5:
        # Runners are lowest over the foot that carries, highest in flight.
        give: Array = skeleton.leg * (0.01 + 0.05 * (1 - np.minimum(lead**2, 1)))
        return give
    return skeleton.leg * float(0.002 if plan.walk.speed > 0 else rng.uniform(0.0, 0.005))


def _lead(feet: Feet, turn: Rotation, skeleton: Skeleton) -> Array:
    """How far the left foot is ahead of the right one: [F], 1 at the longest usual step."""
    forward = turn.apply([0.0, 0.0, 1.0])
    lead = ((feet.ankle[0] - feet.ankle[1]) * forward).sum(-1) / skeleton.leg
    farthest = np.abs(lead).max()
    normal: Array = lead / max(farthest, 0.5)
    return normal


def _torso(
    rng: np.random.Generator,
    pose: Array,
    plan: Plan,
    times: Array,
    turn: Rotation,
    heading: Array,
) -> None:
    """Spine, neck and head: the chest turns against the pelvis and the head keeps still."""
    # A dancer's trunk moves on its own; a walker's hardly does.
    dancing = plan.beat is not None
    sway = wander(rng, times, 6, rate=0.5 if dancing else 0.3)
    loose = 5.0 if dancing else 1.0
    yaw, tilt, lean = turn.as_euler("YXZ").T
    # How far the pelvis is turned from the way it goes; the chest turns to the other side.
    twist = (yaw - heading + np.pi) % (2 * np.pi) - np.pi
    chest = turn
    for joint, share in zip(_SPINE, (0.35, 0.45, 0.45), strict=True):
        bend = np.stack(
            [
                0.02 * loose * sway[:, 0] - 0.3 * (tilt - plan.walk.lean) + 0.015,
                -twist * share * 1.3 + 0.03 * loose * sway[:, 1],
                -lean * share + 0.02 * loose * sway[:, 2],
            ],
            axis=-1,
        )
        pose[:, joint] = clamp_joint(bend, joint)
        chest = chest * Rotation.from_rotvec(pose[:, joint])
    look = np.stack(
        [
            heading + (0.22 + 0.2 * plan.lively) * sway[:, 3],
            0.03 + (0.07 + 0.08 * plan.lively) * sway[:, 4],
            (0.04 + 0.08 * plan.lively) * sway[:, 5],
        ],
        axis=-1,
    )
    # Two equal turns, of neck and head, add up to the one that is wanted.
    half = (chest.inv() * Rotation.from_euler("YXZ", look)).as_rotvec() / 2
    for joint in _NECK:
        pose[:, joint] = clamp_joint(half, joint)


def _arms(
    rng: np.random.Generator,
    pose: Array,
    plan: Plan,
    times: Array,
    lead: Array,
    skeleton: Skeleton,
) -> None:
    """Arms, wrists and fingers; a walker's arms swing against the legs."""
    walk = plan.walk
    if plan.beat is not None:
        tracks = dance_tracks(rng, times, beat=plan.beat)
    else:
        tracks = arm_tracks(rng, times, lively=plan.lively)
    tracks = swing_arms(tracks, lead, swing=walk.swing_degrees, elbow=walk.elbow_degrees)
    for side, (collar, shoulder, elbow, wrist) in enumerate(ARM_JOINTS):
        angles = clear_trunk(tracks[side], side, skeleton)
        rotations = arm_rotations(angles, side)
        pose[:, collar], pose[:, shoulder], pose[:, elbow] = rotations
        bend = (0.1 if plan.beat is None else 0.35) * wander(rng, times, 3, rate=0.5)
        pose[:, wrist] = clamp_joint(bend * [0.4, 0.6, 1.0], wrist)
        start = HAND_STARTS[side]
        lively = max(plan.lively, 0.05)
        pose[:, start : start + 15] = finger_rotations(rng, times, side, lively=lively)
