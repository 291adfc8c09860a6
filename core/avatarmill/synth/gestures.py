"""Procedural upper bodies: hanging and gesturing arms, fingers, gaze, blinks and expressions."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatarmill.synth.gait import Array, smoothstep

ARM_JOINTS = ((13, 16, 18, 20), (14, 17, 19, 21))
"""SMPL-X collar, shoulder, elbow and wrist, left and right."""
HAND_STARTS = (25, 40)
"""First finger joint of each hand; index, middle, pinky, ring, thumb with three joints each."""
EXPRESSIONS = {
    "brow_down": (0, 1),
    "brow_up": (2, 3, 4),
    "blink": (8, 9),
    "squint": (18, 19),
    "jaw_open": (24,),
    "smile": (43, 44),
    "frown": (29, 30),
    "pucker": (37,),
    "upper_lip": (47, 48),
}
"""Groups of the 52 facial actions, which are in alphabetical order of their ARKit names."""

# Degrees: abduction (0 hangs, 90 is the T-pose), forward raise, inward twist, elbow.
ARM_POSES: dict[str, tuple[float, float, float, float]] = {
    "hang": (13, 3, 12, 16),
    "relaxed": (16, 8, 22, 30),
    "wave": (72, 12, -82, 88),
    "hips": (42, -14, 58, 92),
    "belly": (14, 22, 52, 84),
    "present": (20, 26, -12, 78),
    "forward": (6, 72, 5, 16),
    "aside": (78, 6, 0, 12),
    "overhead": (155, 6, 0, 22),
    "chin": (12, 48, 34, 128),
    "half_raised": (48, 24, -20, 40),
}
_CALM = ("hang", "relaxed")


def wander(rng: np.random.Generator, times: Array, channels: int, *, rate: float = 0.35) -> Array:
    """Smooth noise [F, channels] of about unit size: three sines a channel around `rate` Hz."""
    frequency = rate * rng.uniform(0.4, 1.6, (3, 1, channels))
    phase = rng.uniform(0, 2 * np.pi, (3, 1, channels))
    waves = np.sin(2 * np.pi * frequency * times[None, :, None] + phase)
    mixed: Array = waves.mean(0) * 1.4
    return mixed


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
        takes, target = rng.uniform(0.5, 0.9), _pick(rng, gestures, lively)
        track += smoothstep((times - at) / takes)[:, None] * (target - now)
        at, now = at + takes, target
    return track


def _pick(rng: np.random.Generator, gestures: list[str], lively: float) -> Array:
    name = rng.choice(gestures) if rng.random() < lively else rng.choice(_CALM)
    return np.array(ARM_POSES[str(name)]) + rng.normal(0, [4, 5, 6, 7])


def arm_rotations(angles: Array, side: int) -> tuple[Array, Array, Array]:
    """Axis-angle [F, 3] of collar, shoulder and elbow from arm angles [F, 4] in degrees.

    The right arm is the mirror image of the left: (x, y, z) becomes (x, -y, -z). The collar
    takes a quarter of the raise above 30 degrees, as a shoulder blade does.
    """
    abduction, raise_, twist, elbow = angles.T
    lifted = np.maximum(abduction - 30, 0) * 0.25
    zero = np.zeros_like(elbow)
    collar = Rotation.from_euler("z", (lifted - 2.0)[:, None], degrees=True)
    shoulder = Rotation.from_euler(
        "XZX", np.stack([-raise_, abduction - lifted - 90, twist], axis=-1), degrees=True
    )
    mirror = np.array([1, 1, 1]) if side == 0 else np.array([1, -1, -1])
    bend = np.deg2rad(np.stack([zero, -np.clip(elbow, 2, 145), zero], axis=-1))
    return collar.as_rotvec() * mirror, shoulder.as_rotvec() * mirror, bend * mirror


def finger_rotations(rng: np.random.Generator, times: Array, side: int) -> Array:
    """Axis-angle [F, 15, 3] of one hand: relaxed curl, sometimes a fist, a point or spread."""
    style = rng.choice(["relaxed", "relaxed", "relaxed", "fist", "point", "open"])
    curl = {"relaxed": 24.0, "fist": 72.0, "point": 70.0, "open": 6.0}[str(style)]
    finger = np.array([0.75, 0.95, 1.2, 1.1])  # index, middle, pinky, ring
    if style == "point":
        finger[0] = 0.1
    amount = curl * finger[None] * (1 + 0.25 * wander(rng, times, 4))
    hand = np.zeros((len(times), 5, 3, 3))
    share = np.array([0.9, 1.15, 0.7])
    hand[:, :4, :, 2] = -np.deg2rad(amount[:, :, None] * share)
    # The thumb folds across the palm about an axis of its own.
    thumb = np.deg2rad(6 + 0.28 * curl) * (1 + 0.2 * wander(rng, times, 1))
    hand[:, 4, :, 1] = thumb * np.array([0.6, 0.8, 0.8])
    mirror = np.array([1, 1, 1]) if side == 0 else np.array([1, -1, -1])
    return np.asarray(hand.reshape(len(times), 15, 3) * mirror)


def gaze(rng: np.random.Generator, times: Array) -> Array:
    """Axis-angle [F, 2, 3] of both eyes, looking about together in small jumps."""
    held = np.floor(times / rng.uniform(0.6, 1.3)).astype(int)
    held -= held.min()
    angles = np.deg2rad(rng.normal(0, [4, 9], (held.max() + 1, 2)))[held]
    both = np.zeros((len(times), 2, 3))
    both[:, :, :2] = np.clip(angles, -0.35, 0.35)[:, None]
    return both


def expressions(rng: np.random.Generator, times: Array) -> Array:
    """Activations [F, 52] in 0..1: a mood, speech in some clips, and blinks."""
    action = np.zeros((len(times), 52))
    noise = 0.5 + 0.5 * wander(rng, times, 4, rate=0.3)

    def add(name: str, amount: NDArray[np.float64] | float) -> None:
        for index in EXPRESSIONS[name]:
            action[:, index] += amount

    mood = str(rng.choice(["neutral", "neutral", "smile", "smile", "serious", "surprised"]))
    if mood == "smile":
        add("smile", rng.uniform(0.3, 0.9) * noise[:, 0])
        add("squint", 0.3 * noise[:, 0])
    elif mood == "serious":
        add("brow_down", 0.5 * noise[:, 0])
        add("frown", 0.3 * noise[:, 1])
    elif mood == "surprised":
        add("brow_up", 0.7 * noise[:, 0])
        add("jaw_open", 0.15 * noise[:, 0])
    if rng.random() < 0.4:
        speech = np.abs(wander(rng, times, 1, rate=2.5)[:, 0])
        add("jaw_open", 0.35 * speech)
        add("pucker", 0.3 * np.maximum(wander(rng, times, 1, rate=1.5)[:, 0], 0))
        add("upper_lip", 0.2 * speech)
    for at in np.arange(times[0] - rng.uniform(0, 3), times[-1], rng.uniform(2.2, 4.5)):
        add("blink", np.clip(1.4 - np.abs(times - at) / 0.09, 0, 1))
    clipped: Array = np.clip(action, 0, 1)
    return clipped
