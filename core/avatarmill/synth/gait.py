"""Procedural footsteps: planned along a path, on feet that stay where they are planted.

Body motion follows the feet, never the other way round: a planted foot is a fixed point in the
world, and everything above rides on it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

LEG_JOINTS = ((1, 4, 7, 10), (2, 5, 8, 11))
"""SMPL-X hip, knee, ankle and ball of the left and the right foot."""
WALK_STANCE = 0.62
"""Share of a walker's stride that a foot is on the ground; a runner's is below a half."""
_MARGIN_SECONDS = 3.0  # path planned before and after the clip, for steps that straddle its ends
_PATH_RATE = 120
_HEEL_OFF, _HEEL_STRIKE = 0.9, 0.33  # radians of pitch at the ends of a full stance
_LAG = 0.05  # share of the stance
_FULL_STEP = 0.8  # leg lengths between two prints of one foot for a full roll


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What motion needs to know of an actor: rest joints and where the soles are."""

    joints: Array
    """[55, 3] metres, T-pose."""
    sole: float
    """Height of the soles in the rest frame, metres."""
    girth: Array | None = None
    """[N, 4] the trunk's cross-sections: height, middle z, half width and half depth, metres in
    the rest frame, from hips to chest; None: those of a slim adult."""

    @property
    def leg(self) -> float:
        """Length of the stretched left leg from hip to ankle, metres."""
        hip, knee, ankle = self.joints[list(LEG_JOINTS[0][:3])]
        return float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle))

    @property
    def scale(self) -> float:
        """Leg length against the average adult's."""
        return self.leg / 0.82


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
    stance: float = WALK_STANCE
    """Share of the stride a foot is on the ground."""
    swing_degrees: float = 0.0
    """How far the arms swing to either side of the middle."""
    elbow_degrees: float = 0.0
    """Bend of the elbows beyond hanging arms."""
    lean: float = 0.0
    """Forward lean of the trunk, radians."""
    pause: tuple[float, float] | None = None
    """Seconds from and until which the walker stands still."""


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
    air: Array
    """[2, F] 0 on the ground, rising to 1 in the middle of a swing."""


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

    def centred(self, seconds: float) -> "Path":
        """The same path moved so that it is at the origin, facing +z, at time `seconds`."""
        middle, heading = self.at(np.array([seconds]))
        c, s = np.cos(heading[0]), np.sin(heading[0])
        points = (self.points - middle) @ np.array([[c, s], [-s, c]])
        return Path(self.times, points, self.heading - heading[0])


@dataclass(frozen=True, slots=True)
class Steps:
    """The prints of one foot in the order of time; the foot swings from each to the next."""

    land: Array
    """[K] seconds; -inf for one that was there from the start."""
    leave: Array
    """[K] seconds; inf for one that is never left."""
    point: Array
    """[K, 2] where the ankle is over the ground."""
    yaw: Array
    """[K]"""


def smoothstep(x: Array) -> Array:
    """The quintic 0 to 1 ramp of x clipped to 0..1, without jumps of acceleration."""
    x = np.clip(x, 0, 1)
    return x * x * x * (10 + x * (6 * x - 15))


def plan_path(rng: np.random.Generator, walk: Walk, seconds: float) -> Path:
    """A path with a gently wandering heading that is at the origin, facing +z, mid-clip."""
    times = _grid(seconds)
    wander = 0.25 if walk.speed > 0 else 0.0
    rate = walk.turn + wander * np.sin(rng.uniform(0.3, 0.9) * times * 2 + rng.uniform(0, 6.28))
    pace = _pace(walk, times)
    heading = np.cumsum(rate * (pace if walk.speed > 0 else 1.0)) / _PATH_RATE
    forward = np.stack([np.sin(heading), np.cos(heading)], axis=-1)
    points = np.cumsum(forward * (walk.speed * pace)[:, None], axis=0) / _PATH_RATE
    return Path(times, points, heading).centred(seconds / 2)


def straight_path(speed: float, seconds: float) -> Path:
    """A straight path along +z that leaves the origin at time 0."""
    times = np.array([-_MARGIN_SECONDS, seconds + _MARGIN_SECONDS])
    points = np.stack([np.zeros(2), speed * times], axis=-1)
    return Path(times, points, np.zeros(2))


def _grid(seconds: float) -> Array:
    count = int((seconds + 2 * _MARGIN_SECONDS) * _PATH_RATE) + 1
    return np.linspace(-_MARGIN_SECONDS, seconds + _MARGIN_SECONDS, count)


def _pace(walk: Walk, times: Array) -> Array:
    """Share of the full speed at each time: 1, but 0 during a pause."""
    if walk.pause is None:
        return np.ones_like(times)
    ramp = 0.9
    stops, goes = walk.pause
    return 1 - smoothstep((times - stops + ramp) / ramp) + smoothstep((times - goes) / ramp)


def stride_seconds(speed: float, skeleton: Skeleton) -> float:
    """Seconds a stride: cadence grows with the root of speed (Grieve and Gear, 1966)."""
    scale = float(np.sqrt(skeleton.scale))
    return 1.12 * scale * float(np.sqrt(1.2 * scale / max(speed, 0.3)))


def plan_steps(rng: np.random.Generator, walk: Walk, path: Path, seconds: float) -> list[Steps]:
    """The prints of both feet of a walk along a path."""
    if not np.isfinite(walk.stride_seconds):
        point, heading = path.at(np.zeros(1))
        return [
            Steps(np.array([-np.inf]), np.array([np.inf]), *_print(walk, point, heading, side))
            for side in (0, 1)
        ]
    times = _grid(seconds)
    # Steps stay quick while the walker slows down: they become shorter instead.
    cadence = np.sqrt(np.minimum(_pace(walk, times) / 0.35, 1)) / walk.stride_seconds
    cycle = np.cumsum(cadence) / _PATH_RATE
    phase = rng.uniform(0, 1)
    if walk.pause is not None:
        # Standing begins with both feet on the ground.
        standing = np.interp(sum(walk.pause) / 2, times, cycle)
        phase = (walk.stance - 0.5) / 2 - standing + 0.5 * int(rng.integers(2))
    return [_walked(walk, path, times, cycle + phase, side) for side in (0, 1)]


def _walked(walk: Walk, path: Path, times: Array, cycle: Array, side: int) -> Steps:
    count = np.arange(np.ceil(cycle[0]) - 1, np.floor(cycle[-1]) + 1) + 0.5 * side
    land, middle, leave = (
        np.interp(count + share, cycle, times, left=-np.inf, right=np.inf)
        # Prints lag behind the body, because a foot that has rolled onto its toes still reaches.
        for share in (0.0, (0.5 - _LAG) * walk.stance, walk.stance)
    )
    used = (land > -np.inf) & (leave < np.inf)
    return Steps(land[used], leave[used], *_print(walk, *path.at(middle[used]), side))


def _print(walk: Walk, point: Array, heading: Array, side: int) -> tuple[Array, Array]:
    """Ankle point and yaw of a foot beside the path."""
    sign = 1 - 2 * side
    left = np.stack([np.cos(heading), -np.sin(heading)], axis=-1)
    return point + sign * walk.width * left, heading + sign * walk.toe_out


def plan_dance(
    rng: np.random.Generator, skeleton: Skeleton, seconds: float, *, beat: float
) -> tuple[Walk, Path, list[Steps]]:
    """Steps about a place on the beat, one foot at a time, and the path of the body over them."""
    times = _grid(seconds)
    scale = skeleton.scale
    facing = 0.35 * np.sin(2 * np.pi * times * rng.uniform(0.05, 0.16) + rng.uniform(0, 6.28))
    home = Path(times, np.zeros((len(times), 2)), facing)
    walk = Walk(0, 0, beat, rng.uniform(0.09, 0.15) * scale, rng.uniform(0.05, 0.2), 0.07, 0.3)
    moves: list[list[tuple[float, float]]] = [[], []]
    side = int(rng.integers(2))
    for at in np.arange(times[0] + beat, times[-1], beat):
        if rng.random() < 0.75:
            moves[side].append((at, at + rng.uniform(0.6, 0.85) * beat))
            side = 1 - side
    steps = []
    for side in (0, 1):
        leave, land = np.array(moves[side]).T
        land, leave = np.append(times[0], land), np.append(leave, np.inf)
        at, heading = home.at(land)
        reach = rng.uniform(-1, 1, (len(land), 2)) * [0.10, 0.14] * scale
        point, yaw = _print(walk, at + reach, heading, side)
        steps.append(Steps(land, leave, point, yaw + rng.uniform(-0.06, 0.06, len(yaw))))
    return walk, _over(times, steps, facing), steps


def _over(times: Array, steps: list[Steps], heading: Array) -> Path:
    """A path over both feet, leaning towards the one that carries."""
    total, weight = np.zeros((len(times), 2)), np.zeros(len(times))
    for foot in steps:
        index = np.clip(np.searchsorted(foot.land, times, side="right") - 1, 0, None)
        carries = np.where(times < foot.leave[index], 1.0, 0.45)
        total += carries[:, None] * foot.point[index]
        weight += carries
    smooth = gaussian_filter1d(total / weight[:, None], 0.16 * _PATH_RATE, axis=0, mode="nearest")
    return Path(times, smooth, heading)


def place_feet(steps: list[Steps], walk: Walk, skeleton: Skeleton, times: Array) -> Feet:
    """Both feet over time: rolled from heel to toe on each print, swung from one to the next."""
    legs = [_place_foot(foot, walk, skeleton, times, side) for side, foot in enumerate(steps)]
    return Feet(*(np.stack(part) for part in zip(*legs, strict=True)))


def _place_foot(
    steps: Steps, walk: Walk, skeleton: Skeleton, times: Array, side: int
) -> tuple[Array, Array, Array, NDArray[np.bool_], Array]:
    index = np.clip(np.searchsorted(steps.land, times, side="right") - 1, 0, None)
    following = np.minimum(index + 1, len(steps.land) - 1)
    stance = (times < steps.leave[index]) | (following == index)
    ankle, yaw, pitch = _stance(steps, walk, skeleton, side, index, times)
    swing, air = ~stance, np.zeros(len(times))
    if swing.any():
        leave, land = steps.leave[index[swing]], steps.land[following[swing]]
        share = (times[swing] - leave) / (land - leave)
        air[swing] = smoothstep(4 * np.minimum(share, 1 - share))
        ankle[swing], yaw[swing], pitch[swing] = _swing(
            steps, walk, skeleton, side, (index[swing], following[swing]), times[swing]
        )
    # While only the heel touches, the sole still turns about it.
    return ankle, yaw, pitch, stance & (pitch >= 0), air


def _stance(
    steps: Steps,
    walk: Walk,
    skeleton: Skeleton,
    side: int,
    index: NDArray[np.intp],
    times: Array,
) -> tuple[Array, Array, Array]:
    """Ankle, yaw and pitch of a foot on its print `index` at `times`."""
    whole = walk.stance * walk.stride_seconds if np.isfinite(walk.stride_seconds) else 1.0
    strike, rise = _rolls(steps, walk, skeleton)
    up = smoothstep(1 - (steps.leave[index] - times) / (0.5 * whole))
    down = 1 - smoothstep((times - steps.land[index]) / (0.2 * whole))
    pitch = rise[index] * up - strike[index] * down
    point, yaw = steps.point[index], steps.yaw[index].copy()
    _, _, ankle_joint, ball_joint = skeleton.joints[list(LEG_JOINTS[side])]
    height = ankle_joint[1] - skeleton.sole
    # The foot turns about the ball joint when the heel is up, so that the toes, which the joint
    # keeps level, do not move; and about the heel's edge when the toes are up.
    ball = ball_joint - ankle_joint
    heel = np.array([0.0, -height, -0.25 * ball[2]])
    pivot = np.where(pitch[:, None] > 0, ball, heel)
    spun = Rotation.from_euler("YX", np.stack([yaw, pitch], axis=-1))
    flat = Rotation.from_euler("Y", yaw[:, None])
    ground = np.stack([point[:, 0], np.full(len(yaw), height), point[:, 1]], axis=-1)
    return ground + flat.apply(pivot) - spun.apply(pivot), yaw, pitch


def _rolls(steps: Steps, walk: Walk, skeleton: Skeleton) -> tuple[Array, Array]:
    """Pitch at landing on and at leaving each print: the longer the step, the more."""
    ahead = np.stack([np.sin(steps.yaw), np.cos(steps.yaw)], axis=-1)
    way = np.diff(steps.point, axis=0) / (_FULL_STEP * 2 * skeleton.leg)
    forward = np.clip((way * ahead[1:]).sum(-1) * 1.2, 0, 1)
    length = np.clip(0.25 + np.linalg.norm(way, axis=1), 0, 1)
    strike = walk.roll * _HEEL_STRIKE * np.append(0.0, forward)
    return strike, walk.roll * _HEEL_OFF * np.append(length, 0.0)


def _swing(
    steps: Steps,
    walk: Walk,
    skeleton: Skeleton,
    side: int,
    ends: tuple[NDArray[np.intp], NDArray[np.intp]],
    times: Array,
) -> tuple[Array, Array, Array]:
    """The foot in the air: cubic Hermite from toe-off to the next strike, with a lift."""
    eps = 1e-3
    leave, land = steps.leave[ends[0]], steps.land[ends[1]]

    def at(which: int, moments: Array) -> tuple[Array, Array, Array]:
        return _stance(steps, walk, skeleton, side, ends[which], moments)

    start, start_yaw, start_pitch = at(0, leave)
    stop, stop_yaw, stop_pitch = at(1, land)
    takes = (land - leave)[:, None]
    rising = (start - at(0, leave - eps)[0]) / eps * takes
    falling = (at(1, land + eps)[0] - stop) / eps * takes
    share = (times - leave) / (land - leave)
    s = share[:, None]
    ankle = (
        (2 * s**3 - 3 * s**2 + 1) * start
        + (s**3 - 2 * s**2 + s) * rising
        + (3 * s**2 - 2 * s**3) * stop
        + (s**3 - s**2) * falling
    )
    # Runners pull the foot up early.
    early = share ** (0.6 if walk.stance < 0.5 else 0.85)
    ankle[:, 1] += walk.lift * np.sin(np.pi * early) ** 2
    blend = smoothstep(share)
    return (
        ankle,
        start_yaw + blend * (stop_yaw - start_yaw),
        start_pitch + blend * (stop_pitch - start_pitch),
    )
