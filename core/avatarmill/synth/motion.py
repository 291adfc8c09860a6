"""Motions of an actor: walking, turning, gesturing and idling, put together from legs and arms."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatarmill.synth.gait import (
    LEG_JOINTS,
    Array,
    Feet,
    Path,
    Skeleton,
    Walk,
    pelvis_height,
    plan_feet,
    plan_path,
    solve_leg,
    straight_path,
    stride_seconds,
)
from avatarmill.synth.gestures import (
    ARM_JOINTS,
    HAND_STARTS,
    arm_rotations,
    arm_tracks,
    expressions,
    finger_rotations,
    gaze,
    wander,
)

MotionKind = Literal["walk", "turn", "gesture", "idle"]
Float = NDArray[np.float32]

MAX_SPEED = 2.2
"""Metres a second of the fastest walk."""

_LIVELY: dict[MotionKind, float] = {"walk": 0.0, "turn": 0.15, "gesture": 0.75, "idle": 0.12}


@dataclass(frozen=True, slots=True)
class Motion:
    """A motion in the world: y up, the ground at height 0 under the soles."""

    pose: Float
    """[F, 55, 3] axis-angle in SMPL-X order; joint 0 is the world orientation."""
    translation: Float
    """[F, 3] metres."""
    expression: Float
    """[F, 52] in 0..1."""
    planted: NDArray[np.bool_]
    """[F, 2] the ball of the left and of the right foot is fixed to the ground."""
    fps: float
    pelvis: Array
    """[3] where the pelvis joint is at rest: what joint 0 turns about."""

    def __post_init__(self) -> None:
        frames = len(self.pose)
        if self.pose.shape != (frames, 55, 3) or self.translation.shape != (frames, 3):
            raise ValueError(
                f"pose {self.pose.shape} and translation {self.translation.shape} do not fit"
                " [F, 55, 3] and [F, 3]"
            )

    def take(self, frames: NDArray[np.intp]) -> "Motion":
        """The motion at the given frame numbers only."""
        return Motion(
            self.pose[frames],
            self.translation[frames],
            self.expression[frames],
            self.planted[frames],
            self.fps,
            self.pelvis,
        )

    def placed(self, x: float, z: float, heading: float) -> "Motion":
        """The same motion elsewhere: turned about the origin's vertical, then moved over ground.

        Args:
            x, z: where the world's origin goes, metres.
            heading: radians, positive to the left; +z goes to (sin, cos) of it.
        """
        turn = Rotation.from_euler("y", heading)
        pose = self.pose.copy()
        pose[:, 0] = (turn * Rotation.from_rotvec(self.pose[:, 0])).as_rotvec()
        moved = turn.apply(self.translation + self.pelvis) + [x, 0, z] - self.pelvis
        return replace(self, pose=pose, translation=moved.astype(np.float32))


def _sample_walk(rng: np.random.Generator, kind: MotionKind, skeleton: Skeleton) -> Walk:
    scale = skeleton.leg / 0.82
    hips = abs(float(skeleton.joints[1, 0] - skeleton.joints[2, 0])) / 2
    if kind == "walk":
        speed = rng.uniform(0.65, 1.45) * np.sqrt(scale)
        stride = stride_seconds(speed, skeleton)
        turn = rng.uniform(-0.25, 0.25)
        return Walk(speed, turn, stride, hips * 0.8, 0.08, 0.05 * scale, rng.uniform(0.7, 1))
    if kind == "turn":
        turn = rng.choice([-1, 1]) * rng.uniform(0.7, 1.5)
        return Walk(0.0, turn, rng.uniform(0.85, 1.1), hips * 1.05, 0.1, 0.06 * scale, 0.25)
    width = hips * rng.uniform(0.85, 1.3)
    return Walk(0.0, 0.0, np.inf, width, rng.uniform(0.05, 0.25), 0.0, 0.0)


def _pelvis(
    rng: np.random.Generator, walk: Walk, path: Path, feet: Feet, skeleton: Skeleton, times: Array
) -> tuple[Array, Rotation]:
    """World position [F, 3] of the pelvis joint and its rotation, riding on the feet."""
    point, heading = path.at(times)
    sway = wander(rng, times, 5, rate=0.25)
    moving = np.isfinite(walk.stride_seconds)
    # The pelvis follows the foot that leads and leans over the one that carries.
    ahead = feet.ankle[0] - feet.ankle[1]
    forward = np.stack([np.sin(heading), np.cos(heading)], axis=-1)
    lead = (ahead[:, [0, 2]] * forward).sum(-1) if moving else 0.0
    lifted = feet.ankle[0][:, 1] - feet.ankle[1][:, 1]
    twist = -0.16 * lead + 0.04 * sway[:, 0]
    lean = np.clip(0.35 * lifted, -0.06, 0.06) + 0.015 * sway[:, 1]
    tilt = (0.05 if walk.speed > 0 else 0.0) + 0.02 * sway[:, 2]
    turn = Rotation.from_euler("YXZ", np.stack([heading + twist, tilt, lean], axis=-1))
    left = np.stack([np.cos(heading), -np.sin(heading)], axis=-1)
    shift = -0.2 * np.clip(lifted, -0.1, 0.1) + (0.004 if moving else 0.014) * sway[:, 3]
    point = point + shift[:, None] * left
    if not moving:
        point = point + 0.008 * sway[:, [4]] * forward
    bend = skeleton.leg * (0.002 if moving else rng.uniform(0.0, 0.005))
    height = pelvis_height(feet, point, turn, skeleton, bend=bend)
    return np.stack([point[:, 0], height, point[:, 1]], axis=-1), turn


def _legs(pose: Array, skeleton: Skeleton, feet: Feet, pelvis: Array, turn: Rotation) -> None:
    """Fill hips, knees, ankles and toes of `pose` so that the feet are where they were planned."""
    for side, (hip, knee, ankle, ball) in enumerate(LEG_JOINTS):
        at = pelvis + turn.apply(skeleton.joints[hip] - skeleton.joints[0])
        bend, flex = solve_leg(skeleton, side, at, turn, feet.ankle[side], feet.yaw[side])
        wanted = Rotation.from_euler("YX", np.stack([feet.yaw[side], feet.pitch[side]], axis=-1))
        pose[:, hip], pose[:, knee] = bend.as_rotvec(), flex.as_rotvec()
        pose[:, ankle] = ((turn * bend * flex).inv() * wanted).as_rotvec()
        # Toes stay flat on the ground while the heel is up.
        pose[:, ball, 0] = -np.maximum(feet.pitch[side], 0)


def _torso(rng: np.random.Generator, pose: Array, times: Array, turn: Rotation) -> None:
    """Spine, neck and head: small bends that also undo most of the pelvis's twist and lean."""
    sway = wander(rng, times, 9, rate=0.3)
    yaw, tilt, lean = turn.as_euler("YXZ").T
    steady = yaw - np.convolve(np.pad(yaw, 12, mode="edge"), np.full(25, 1 / 25), "valid")
    for joint, share in ((3, 0.35), (6, 0.45), (9, 0.45)):
        pose[:, joint, 0] = 0.02 * sway[:, 0] - 0.3 * tilt + 0.015
        pose[:, joint, 1] = -steady * share * 1.3 + 0.03 * sway[:, 1]
        pose[:, joint, 2] = -lean * share + 0.02 * sway[:, 2]
    for joint in (12, 15):
        pose[:, joint] = np.stack(
            [0.05 * sway[:, 3] - 0.2 * tilt, 0.13 * sway[:, 4], 0.05 * sway[:, 5]], axis=-1
        )


def _arms(
    rng: np.random.Generator,
    pose: Array,
    times: Array,
    kind: MotionKind,
    lead: Array,
    lively: float,
) -> None:
    """Arms, wrists and fingers; a walker's arms swing against the legs (`lead` > 0: left first)."""
    tracks = arm_tracks(rng, times, lively=lively)
    swing = rng.uniform(22, 40) * (0.4 if kind == "turn" else 1.0)
    for side, (collar, shoulder, elbow, wrist) in enumerate(ARM_JOINTS):
        angles = tracks[side].copy()
        if kind in ("walk", "turn"):
            opposite = -lead if side == 0 else lead
            angles[:, 1] += swing * opposite
            angles[:, 3] += 0.4 * swing * np.maximum(opposite, -0.2)
        rotations = arm_rotations(angles, side)
        pose[:, collar], pose[:, shoulder], pose[:, elbow] = rotations
        pose[:, wrist] = 0.1 * wander(rng, times, 3)
        start = HAND_STARTS[side]
        pose[:, start : start + 15] = finger_rotations(rng, times, side)


def sample_motion(
    rng: np.random.Generator,
    num_frames: int,
    fps: float,
    kind: MotionKind,
    skeleton: Skeleton,
    *,
    lively: float | None = None,
) -> Motion:
    """A random motion of one kind for one skeleton.

    The actor is near the origin facing +z in the middle of the motion. Planted feet do not move;
    legs are solved exactly, arms mostly hang, joints stay within human limits.

    Args:
        rng: consumed; the same state gives the same motion.
        num_frames: at least 1.
        fps: frames a second.
        kind: what the actor does.
        skeleton: rest joints and sole height of the actor.
        lively: 0..1 chance of gestures, instead of the kind's own.

    Raises:
        ValueError: unknown kind, no frames or a frame rate that is not positive.
    """
    if kind not in get_args(MotionKind):
        raise ValueError(f"kind {kind!r} is not one of {', '.join(get_args(MotionKind))}")
    if num_frames < 1 or not fps > 0:
        raise ValueError(f"num_frames {num_frames} must be >= 1 and fps {fps} must be > 0")
    walk = _sample_walk(rng, kind, skeleton)
    path = plan_path(rng, walk, num_frames / fps)
    return _follow(rng, kind, skeleton, walk, path, num_frames, fps, lively)


def walk_between(
    rng: np.random.Generator,
    num_frames: int,
    fps: float,
    skeleton: Skeleton,
    start_xz: tuple[float, float],
    stop_xz: tuple[float, float],
) -> Motion:
    """A straight walk whose pelvis is at `start_xz` in the first frame and `stop_xz` in the last.

    Args:
        rng: consumed.
        num_frames: at least 2.
        fps: frames a second.
        skeleton: of the actor.
        start_xz: metres on the ground.
        stop_xz: metres on the ground, at a distance that asks for at most `MAX_SPEED`.

    Raises:
        ValueError: fewer than 2 frames, or a walk that is too fast for a person.
    """
    if num_frames < 2 or not fps > 0:
        raise ValueError(f"num_frames {num_frames} must be >= 2 and fps {fps} must be > 0")
    way = np.subtract(stop_xz, start_xz)
    seconds = (num_frames - 1) / fps
    speed = float(np.linalg.norm(way)) / seconds
    if not 0 < speed <= MAX_SPEED:
        raise ValueError(
            f"{np.linalg.norm(way):.2f} m in {seconds:.2f} s is a walk of {speed:.2f} m/s, which"
            f" must be above 0 and at most {MAX_SPEED}: give it more frames or a shorter way"
        )
    walk = replace(_sample_walk(rng, "walk", skeleton), speed=speed, turn=0.0)
    walk = replace(walk, stride_seconds=stride_seconds(speed, skeleton))
    path = straight_path(speed, seconds)
    motion = _follow(rng, "walk", skeleton, walk, path, num_frames, fps, 0.0)
    return motion.placed(*start_xz, float(np.arctan2(way[0], way[1])))


def _follow(
    rng: np.random.Generator,
    kind: MotionKind,
    skeleton: Skeleton,
    walk: Walk,
    path: Path,
    num_frames: int,
    fps: float,
    lively: float | None,
) -> Motion:
    """The whole body on its way along a path."""
    times = np.arange(num_frames) / fps
    feet = plan_feet(rng, walk, path, skeleton, times)
    pelvis, turn = _pelvis(rng, walk, path, feet, skeleton, times)
    pose = np.zeros((num_frames, 55, 3))
    pose[:, 0] = turn.as_rotvec()
    _legs(pose, skeleton, feet, pelvis, turn)
    _torso(rng, pose, times, turn)
    forward = turn.apply([0.0, 0.0, 1.0])
    lead = ((feet.ankle[0] - feet.ankle[1]) * forward).sum(-1) / skeleton.leg
    _arms(rng, pose, times, kind, lead, _LIVELY[kind] if lively is None else lively)
    pose[:, 23:25] = gaze(rng, times)
    return Motion(
        pose.astype(np.float32),
        (pelvis - skeleton.joints[0]).astype(np.float32),
        expressions(rng, times).astype(np.float32),
        feet.planted.T.copy(),
        fps,
        skeleton.joints[0],
    )
