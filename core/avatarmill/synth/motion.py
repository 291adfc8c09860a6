"""Motions of an actor: walks, turns, gestures and dances, put together from legs up."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatarmill.synth.faces import expressions, gaze
from avatarmill.synth.gait import (
    Array,
    Feet,
    Path,
    Skeleton,
    Steps,
    Walk,
    place_feet,
    plan_dance,
    plan_path,
    plan_steps,
    straight_path,
    stride_seconds,
)
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

MotionKind = Literal["walk", "turn", "gesture", "idle", "pause", "jog", "dance"]
Float = NDArray[np.float32]

MAX_SPEED = 2.2
"""Metres a second of the fastest walk."""
_RATE = 60.0
"""Frames a second that motions are made at, at least, whatever rate is asked for."""
_LIVELY: dict[MotionKind, float] = {
    "walk": 0.0,
    "turn": 0.15,
    "gesture": 0.75,
    "idle": 0.12,
    "pause": 0.0,
    "jog": 0.0,
    "dance": 1.0,
}
_SPINE, _NECK = (3, 6, 9), (12, 15)


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


@dataclass(frozen=True, slots=True)
class _Plan:
    # What the legs do, and how lively the rest is.
    kind: MotionKind
    walk: Walk
    path: Path
    steps: list[Steps]
    lively: float
    beat: float


def _sample_walk(
    rng: np.random.Generator, kind: MotionKind, skeleton: Skeleton, seconds: float
) -> Walk:
    scale = skeleton.scale
    hips = abs(float(skeleton.joints[1, 0] - skeleton.joints[2, 0])) / 2
    if kind in ("walk", "pause"):
        turn = rng.uniform(-0.25, 0.25)
        walk = walk_at(rng, rng.uniform(0.65, 1.42) * np.sqrt(scale), skeleton, turn)
        if kind == "pause":
            stops = seconds * rng.uniform(0.25, 0.45)
            walk = replace(walk, pause=(stops, stops + rng.uniform(0.4, 1.2)))
        return walk
    if kind == "jog":
        speed = rng.uniform(1.9, 2.9) * np.sqrt(scale)
        return Walk(
            speed=speed,
            turn=rng.uniform(-0.2, 0.2),
            stride_seconds=0.74 * np.sqrt(scale) * (2.4 / speed) ** 0.3,
            width=hips * 0.55,
            toe_out=0.05,
            lift=rng.uniform(0.24, 0.34) * scale,
            roll=0.8,
            stance=0.4,
            swing_degrees=rng.uniform(24, 36),
            elbow_degrees=rng.uniform(55, 80),
            lean=rng.uniform(0.08, 0.16),
        )
    if kind == "turn":
        turn = rng.choice([-1, 1]) * rng.uniform(0.7, 1.5)
        stride = rng.uniform(0.85, 1.1)
        return Walk(0.0, turn, stride, hips * 1.05, 0.1, 0.06 * scale, 0.25, swing_degrees=8.0)
    width = hips * rng.uniform(0.85, 1.3)
    return Walk(0.0, 0.0, np.inf, width, rng.uniform(0.05, 0.25), 0.0, 0.0)


def walk_at(rng: np.random.Generator, speed: float, skeleton: Skeleton, turn: float) -> Walk:
    """A walk at `speed` metres a second; faster ones are longer, quicker and swing more."""
    hips = abs(float(skeleton.joints[1, 0] - skeleton.joints[2, 0])) / 2
    brisk = speed / (1.2 * np.sqrt(skeleton.scale))
    return Walk(
        speed=speed,
        turn=turn,
        stride_seconds=stride_seconds(speed, skeleton),
        width=hips * 0.8,
        toe_out=rng.uniform(0.02, 0.16),
        lift=rng.uniform(0.04, 0.06) * skeleton.scale,
        roll=rng.uniform(0.8, 1.0),
        swing_degrees=float(np.clip((8 + 13 * brisk) * rng.uniform(0.7, 1.3), 6, 36)),
        elbow_degrees=float(rng.uniform(-2, 8) + 6 * max(brisk - 1, 0)),
        lean=0.035 + 0.035 * brisk,
    )


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
    legs are solved exactly, arms mostly hang, joints stay within `limits.LIMITS`.

    Args:
        rng: consumed; the same state gives the same motion.
        num_frames: at least 1.
        fps: frames a second.
        kind: what the actor does. walk, turn (on the spot), gesture, idle; pause: walks, stops
            and walks on; jog; dance: steps on a beat while every joint moves.
        skeleton: of the actor.
        lively: 0..1 chance of gestures, instead of the kind's own.

    Raises:
        ValueError: unknown kind, no frames or a frame rate that is not positive.
    """
    if kind not in get_args(MotionKind):
        raise ValueError(f"kind {kind!r} is not one of {', '.join(get_args(MotionKind))}")
    if num_frames < 1 or not fps > 0:
        raise ValueError(f"num_frames {num_frames} must be >= 1 and fps {fps} must be > 0")
    seconds = num_frames / fps
    lively = _LIVELY[kind] if lively is None else lively
    if kind == "dance":
        beat = float(rng.uniform(0.48, 0.75))
        plan = _Plan(kind, *plan_dance(rng, skeleton, seconds, beat=beat), lively, beat)
    else:
        walk = _sample_walk(rng, kind, skeleton, seconds)
        path = plan_path(rng, walk, seconds)
        plan = _Plan(kind, walk, path, plan_steps(rng, walk, path, seconds), lively, 1.0)
    return _perform(rng, plan, skeleton, num_frames, fps)


def walk_between(
    rng: np.random.Generator,
    num_frames: int,
    fps: float,
    skeleton: Skeleton,
    start_xz: tuple[float, float],
    stop_xz: tuple[float, float],
) -> Motion:
    """A straight walk whose pelvis is at `start_xz` in the first frame and `stop_xz` in the last.

    The pelvis sways from foot to foot, so that it is there to within 3 cm.

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
    walk = walk_at(rng, speed, skeleton, 0.0)
    path = straight_path(speed, seconds)
    plan = _Plan("walk", walk, path, plan_steps(rng, walk, path, seconds), 0.0, 1.0)
    motion = _perform(rng, plan, skeleton, num_frames, fps)
    return motion.placed(*start_xz, float(np.arctan2(way[0], way[1])))


def _perform(
    rng: np.random.Generator, plan: _Plan, skeleton: Skeleton, num_frames: int, fps: float
) -> Motion:
    """The whole body on its way, made at a fine rate and thinned to `fps`."""
    every = max(1, int(np.ceil(_RATE / fps - 1e-9)))
    times = np.arange((num_frames - 1) * every + 1) / (fps * every)
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
    motion = Motion(
        pose.astype(np.float32),
        (pelvis - skeleton.joints[0]).astype(np.float32),
        action.astype(np.float32),
        feet.planted.T.copy(),
        fps,
        skeleton.joints[0],
    )
    return motion.take(np.arange(num_frames) * every)


def _pelvis(
    rng: np.random.Generator, plan: _Plan, feet: Feet, skeleton: Skeleton, times: Array
) -> tuple[Array, Rotation]:
    """World position [F, 3] of the pelvis joint and its rotation, riding on the feet."""
    point, heading = plan.path.at(times)
    walk, sway = plan.walk, wander(rng, times, 6, rate=0.25)
    moving, dancing = np.isfinite(walk.stride_seconds), plan.kind == "dance"
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
    plan: _Plan,
    skeleton: Skeleton,
    times: Array,
    sway: Array,
    lead: Array,
) -> Array | float:
    """How far the pelvis is below the height that stretched legs would give it, metres."""
    if plan.kind == "dance":
        bounce = 0.5 - 0.5 * np.cos(2 * np.pi * times / plan.beat + rng.uniform(0, 6.28))
        depth, squat = rng.uniform(0.008, 0.03), rng.uniform(0.01, 0.06)
        dip: Array = skeleton.leg * (0.004 + depth * bounce + squat * np.maximum(sway, 0) ** 2)
        return dip
    if plan.kind == "jog":
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
    plan: _Plan,
    times: Array,
    turn: Rotation,
    heading: Array,
) -> None:
    """Spine, neck and head: the chest turns against the pelvis and the head keeps still."""
    dancing = plan.kind == "dance"
    sway = wander(rng, times, 6, rate=0.5 if dancing else 0.3)
    loose = 5.0 if dancing else 1.0
    yaw, tilt, lean = turn.as_euler("YXZ").T
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
    half = (chest.inv() * Rotation.from_euler("YXZ", look)).as_rotvec() / 2
    for joint in _NECK:
        pose[:, joint] = clamp_joint(half, joint)


def _arms(
    rng: np.random.Generator,
    pose: Array,
    plan: _Plan,
    times: Array,
    lead: Array,
    skeleton: Skeleton,
) -> None:
    """Arms, wrists and fingers; a walker's arms swing against the legs."""
    dancing, walk = plan.kind == "dance", plan.walk
    if dancing:
        tracks = dance_tracks(rng, times, beat=plan.beat)
    else:
        tracks = arm_tracks(rng, times, lively=plan.lively)
    tracks = swing_arms(tracks, lead, swing=walk.swing_degrees, elbow=walk.elbow_degrees)
    for side, (collar, shoulder, elbow, wrist) in enumerate(ARM_JOINTS):
        angles = clear_trunk(tracks[side], side, skeleton)
        rotations = arm_rotations(angles, side)
        pose[:, collar], pose[:, shoulder], pose[:, elbow] = rotations
        bend = (0.35 if dancing else 0.1) * wander(rng, times, 3, rate=0.5)
        pose[:, wrist] = clamp_joint(bend * [0.4, 0.6, 1.0], wrist)
        start = HAND_STARTS[side]
        lively = max(plan.lively, 0.05)
        pose[:, start : start + 15] = finger_rotations(rng, times, side, lively=lively)
