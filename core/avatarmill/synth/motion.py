"""Motions of an actor: walks, turns, gestures and dances, put together from legs up."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatarmill.synth.gait import (
    Array,
    Skeleton,
    Walk,
    plan_dance,
    plan_path,
    plan_steps,
    straight_path,
    stride_seconds,
)
from avatarmill.synth.perform import Plan, perform

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
        # Both feet are in the air for a tenth of the stride after each step.
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
    # Everything else is done standing.
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
        plan = Plan(*plan_dance(rng, skeleton, seconds, beat=beat), lively, beat)
    else:
        walk = _sample_walk(rng, kind, skeleton, seconds)
        path = plan_path(rng, walk, seconds)
        plan = Plan(walk, path, plan_steps(rng, walk, path, seconds), lively)
    return _filmed(rng, plan, skeleton, num_frames, fps)


def walk_between(
    rng: np.random.Generator,
    num_frames: int,
    fps: float,
    skeleton: Skeleton,
    start_xz: tuple[float, float],
    stop_xz: tuple[float, float],
) -> Motion:
    """A straight walk whose pelvis is at `start_xz` in the first frame and `stop_xz` in the last.

    The pelvis sways from foot to foot, so that it is there to within 6 cm.

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
    plan = Plan(walk, path, plan_steps(rng, walk, path, seconds), 0.0)
    motion = _filmed(rng, plan, skeleton, num_frames, fps)
    return motion.placed(*start_xz, float(np.arctan2(way[0], way[1])))


def _filmed(
    rng: np.random.Generator, plan: Plan, skeleton: Skeleton, num_frames: int, fps: float
) -> Motion:
    """A plan performed at a fine rate and thinned to `fps`: no rate changes what is done."""
    every = max(1, int(np.ceil(_RATE / fps - 1e-9)))
    times = np.arange((num_frames - 1) * every + 1) / (fps * every)
    done = perform(rng, plan, skeleton, times)
    motion = Motion(
        done.pose.astype(np.float32),
        (done.pelvis - skeleton.joints[0]).astype(np.float32),
        done.expression.astype(np.float32),
        done.planted,
        fps,
        skeleton.joints[0],
    )
    return motion.take(np.arange(num_frames) * every)
