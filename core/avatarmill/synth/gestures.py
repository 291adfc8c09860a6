"""Arms that hang, swing, gesture and dance, and keep out of the trunk."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, maximum_filter1d
from scipy.spatial.transform import Rotation

from avatarmill.synth.gait import Array, Skeleton, smoothstep
from avatarmill.synth.wander import wander

ARM_JOINTS = ((13, 16, 18, 20), (14, 17, 19, 21))
"""SMPL-X collar, shoulder, elbow and wrist, left and right."""
_KNUCKLES = (28, 43)
ARM_RADIUS = 0.045
"""Metres an arm's axis keeps from the trunk, cloth included."""
_TRUNK_JOINTS = (0, 1, 2, 3, 6, 9)

# Degrees: abduction (0 hangs, 90 is the T-pose), forward raise, inward twist, elbow.
ARM_POSES: dict[str, tuple[float, float, float, float]] = {
    "hang": (10, 0, 12, 14),
    "relaxed": (14, 4, 20, 26),
    "wave": (72, 12, -82, 88),
    "hips": (46, -14, 56, 96),
    "belly": (16, 26, 50, 84),
    "present": (20, 26, -12, 78),
    "forward": (6, 72, 5, 16),
    "aside": (78, 6, 0, 12),
    "overhead": (155, 6, 0, 22),
    "chin": (12, 48, 34, 128),
    "half_raised": (48, 24, -20, 40),
}
DANCE_POSES: dict[str, tuple[float, float, float, float]] = {
    "low": (26, 10, 10, 30),
    "boxer": (24, 34, 20, 118),
    "wing": (62, 4, 10, 70),
    "high": (140, 12, -10, 40),
    "crown": (128, 16, 10, 88),
    "reach": (40, 70, 0, 24),
    "swim": (70, 40, 10, 50),
    "back": (24, -28, 6, 24),
}
_CALM = ("hang", "relaxed")
_LOW, _HIGH = np.array([2.0, -45, -95, 3]), np.array([165.0, 100, 80, 140])


def arm_tracks(rng: np.random.Generator, times: Array, *, lively: float) -> Array:
    """Arm angles [2, F, 4] in degrees moving between poses of `ARM_POSES`.

    Args:
        lively: 0..1, the chance that a held pose is a gesture rather than a hanging arm.
    """
    tracks = np.empty((2, len(times), 4))
    both = rng.random() < 0.45  # many gestures are made with both arms alike
    first = _arm_track(rng, times, lively)
    tracks[0] = first
    tracks[1] = first if both else _arm_track(rng, times, lively)
    return tracks + np.stack([wander(rng, times, 4) for _ in range(2)]) * [3, 4, 5, 5]


def _arm_track(rng: np.random.Generator, times: Array, lively: float) -> Array:
    gestures = [name for name in ARM_POSES if name not in _CALM]
    at, now = times[0] - rng.uniform(0, 1), _pick(rng, gestures, lively)
    track = np.tile(now, (len(times), 1))
    while at < times[-1]:
        at += rng.uniform(0.5, 1.6)
        takes, target = rng.uniform(0.6, 1.0), _pick(rng, gestures, lively)
        track += smoothstep((times - at) / takes)[:, None] * (target - now)
        at, now = at + takes, target
    return track


def _pick(rng: np.random.Generator, gestures: list[str], lively: float) -> Array:
    name = rng.choice(gestures) if rng.random() < lively else rng.choice(_CALM)
    return np.array(ARM_POSES[str(name)]) + rng.normal(0, [4, 5, 6, 7])


def dance_tracks(rng: np.random.Generator, times: Array, *, beat: float) -> Array:
    """Arm angles [2, F, 4] in degrees that reach a new pose every one or two beats."""
    poses = np.array([*DANCE_POSES.values(), *(ARM_POSES[k] for k in ("aside", "hips", "chin"))])
    alike = rng.random() < 0.5
    tracks = np.empty((2, len(times), 4))
    for side in (0, 1):
        if side == 1 and alike:
            tracks[1] = tracks[0]
            continue
        takes = beat * float(rng.choice([1, 2])) if beat > 0.5 else 2 * beat
        count = int((times[-1] - times[0]) / takes) + 3
        share = rng.dirichlet(np.full(2, 0.6), count)[..., None]
        keys = (poses[rng.integers(len(poses), size=(count, 2))] * share).sum(1)
        place = (times - times[0]) / takes
        index = np.floor(place).astype(int)
        blend = smoothstep((place - index - 0.1) / 0.85)[:, None]
        tracks[side] = keys[index] * (1 - blend) + keys[index + 1] * blend
    return tracks + np.stack([wander(rng, times, 4, rate=0.8) for _ in range(2)]) * [4, 5, 8, 8]


def swing_arms(tracks: Array, lead: Array, *, swing: float, elbow: float) -> Array:
    """Arm angles [2, F, 4] that also swing against the legs.

    Args:
        tracks: [2, F, 4] degrees.
        lead: [F] -1..1, how far the left foot is ahead of the right one.
        swing: degrees to either side of the middle.
        elbow: degrees of additional bend.
    """
    swung = tracks.copy()
    for side, opposite in enumerate((-lead, lead)):
        ahead = 0.5 * (opposite + np.sqrt(opposite**2 + 0.1))
        swung[side, :, 1] += swing * opposite - 0.12 * swing
        swung[side, :, 3] += elbow + 0.7 * swing * ahead
    return swung


def arm_rotations(angles: Array, side: int) -> tuple[Array, Array, Array]:
    """Axis-angle [F, 3] of collar, shoulder and elbow from arm angles [F, 4] in degrees.

    The right arm is the mirror image of the left: (x, y, z) becomes (x, -y, -z). The collar
    takes a quarter of the raise above 30 degrees, as a shoulder blade does.
    """
    collar, shoulder = _shoulder(angles)
    mirror = np.array([1, 1, 1]) if side == 0 else np.array([1, -1, -1])
    zero = np.zeros(len(angles))
    bend = np.deg2rad(np.stack([zero, -np.clip(angles[:, 3], 2, 145), zero], axis=-1))
    return collar.as_rotvec() * mirror, shoulder.as_rotvec() * mirror, bend * mirror


def _shoulder(angles: Array) -> tuple[Rotation, Rotation]:
    """Rotations of the left collar and shoulder."""
    abduction, raise_, twist, _ = angles.T
    # A soft corner at 30 degrees, so that the collar starts to move without a jerk.
    lifted = 0.125 * (abduction - 30 + np.sqrt((abduction - 30) ** 2 + 100))
    collar = Rotation.from_euler("z", (lifted - 2.0)[:, None], degrees=True)
    shoulder = Rotation.from_euler(
        "XZX", np.stack([-raise_, abduction - lifted - 90, twist], axis=-1), degrees=True
    )
    return collar, shoulder


def measure_girth(
    points: NDArray[np.floating], weights: NDArray[np.floating], joints: NDArray[np.floating]
) -> Array:
    """Cross-sections [N, 4] of a trunk for `Skeleton.girth`, thighs below it included.

    Args:
        points: [V, 3] rest points of a body.
        weights: [V, 55] its skinning weights.
        joints: [55, 3] its rest joints.
    """
    trunk = points[weights[:, _TRUNK_JOINTS].sum(1) > 0.7]
    low, high = joints[1, 1] - 0.22, joints[16, 1] - 0.07
    rows = []
    for height in np.linspace(low, high, 10):
        slab = trunk[np.abs(trunk[:, 1] - height) < 0.025]
        if len(slab) < 8:
            continue
        back, front = np.quantile(slab[:, 2], [0.02, 0.98])
        wide = float(np.quantile(np.abs(slab[:, 0]), 0.98))
        rows.append([height, 0.5 * (back + front), wide, 0.5 * (front - back)])
    return np.array(rows, np.float64)


def slim_girth(skeleton: Skeleton) -> Array:
    """Cross-sections [2, 4] to take for a trunk that was not measured."""
    joints, scale = skeleton.joints, skeleton.scale
    heights = [joints[1, 1] - 0.22, joints[16, 1] - 0.07]
    return np.array([[height, joints[3, 2], 0.15 * scale, 0.10 * scale] for height in heights])


def trunk_clearance(angles: Array, side: int, skeleton: Skeleton) -> Array:
    """How far an arm is outside the trunk: [F] metres, negative inside.

    Elbow, forearm, wrist and knuckles against elliptic cross-sections widened by `ARM_RADIUS`,
    with the trunk upright; the distance is approximate away from the surface.
    """
    girth = skeleton.girth if skeleton.girth is not None else slim_girth(skeleton)
    _, shoulder, elbow, wrist = ARM_JOINTS[side]
    chain = skeleton.joints[[shoulder, elbow, wrist, _KNUCKLES[side]]]
    chain = chain * ([1, 1, 1] if side == 0 else [-1, 1, 1])
    bones = np.diff(chain, axis=0)
    collar, turn = _shoulder(angles)
    upper = collar * turn
    lower = upper * Rotation.from_euler("y", -np.clip(angles[:, 3], 2, 145)[:, None], degrees=True)
    at = chain[0] + upper.apply(bones[0])
    forearm, hand = lower.apply(bones[1]), lower.apply(bones[2])
    arm = np.stack([at, at + 0.5 * forearm, at + forearm, at + forearm + hand], axis=1)
    height = arm[..., 1]
    depth, wide, deep = (np.interp(height, girth[:, 0], girth[:, k]) for k in (1, 2, 3))
    wide, deep = wide + ARM_RADIUS, deep + ARM_RADIUS
    share = np.hypot(arm[..., 0] / wide, (arm[..., 2] - depth) / deep)
    share[(height < girth[0, 0]) | (height > girth[-1, 0])] = np.inf
    nearest: Array = ((share - 1) * np.minimum(wide, deep)).min(1)
    return nearest


def clear_trunk(angles: Array, side: int, skeleton: Skeleton) -> Array:
    """Arm angles [F, 4] opened and raised as little as keeps the arm out of the trunk."""
    angles = np.clip(angles, _LOW, _HIGH)
    opened, raised = np.meshgrid(np.arange(0, 46, 5.0), np.arange(0, 41, 8.0), indexing="ij")
    extra = np.stack([opened.ravel(), raised.ravel()], axis=-1)
    extra = extra[np.argsort(extra.sum(1), kind="stable")]
    every = 4  # frames: offsets are smooth
    some = angles[::every]
    tried = np.repeat(some[:, None], len(extra), axis=1)
    tried[:, :, :2] += extra
    room = trunk_clearance(tried.reshape(-1, 4), side, skeleton).reshape(len(some), -1)
    chosen = np.where((room > 0).any(1), (room > 0).argmax(1), room.argmax(1))
    cleared = angles.copy()
    for axis in (0, 1):
        cleared[:, axis] += _smooth_over(np.repeat(extra[chosen, axis], every)[: len(angles)])
    return np.clip(cleared, _LOW, _HIGH)


def _smooth_over(track: NDArray[np.float64]) -> Array:
    """A smooth curve that is nowhere below `track` [F]."""
    width = 19
    kernel = np.hanning(width + 2)[1:-1]
    smooth: Array = convolve1d(maximum_filter1d(track, width), kernel / kernel.sum())
    return smooth
