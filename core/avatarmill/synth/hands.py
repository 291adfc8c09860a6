"""Fingers that move between natural hand shapes."""

from dataclasses import dataclass

import numpy as np

from avatarmill.synth.gait import Array, smoothstep
from avatarmill.synth.wander import wander

HAND_STARTS = (25, 40)
"""First finger joint of each hand; index, middle, pinky, ring, thumb with three joints each."""


@dataclass(frozen=True, slots=True)
class HandShape:
    """A hand at rest in some shape; angles in degrees."""

    curl: tuple[float, float, float, float]
    """Mean flexion of index, middle, pinky and ring."""
    spread: float
    """How far the fingers fan out from the middle one."""
    thumb: tuple[float, float]
    """Fold across the palm at the root, flexion of the two outer joints."""


HAND_SHAPES = {
    "relaxed": HandShape((22, 26, 32, 30), 2, (10, 14)),
    "loose": HandShape((12, 16, 24, 20), 4, (4, 8)),
    "cupped": HandShape((34, 36, 38, 37), 0, (22, 16)),
    "fist": HandShape((78, 80, 80, 80), 0, (34, 44)),
    "half_fist": HandShape((52, 56, 60, 58), 0, (24, 28)),
    "point": HandShape((4, 74, 78, 77), 2, (30, 38)),
    "open": HandShape((3, 2, 5, 3), 6, (-4, 2)),
    "spread": HandShape((2, 2, 3, 2), 12, (-14, 0)),
    "pinch": HandShape((46, 34, 20, 27), 5, (26, 22)),
    "two": HandShape((3, 4, 78, 76), 8, (32, 40)),
    "thumb_up": HandShape((80, 82, 82, 82), 0, (-20, -4)),
}
_CALM = ("relaxed", "relaxed", "loose", "cupped", "half_fist")

# Shares of a finger's mean flexion at its three joints; and of the fan, for each finger.
_JOINTS = np.array([0.85, 1.25, 0.8])
_FAN = np.array([-1.0, 0.0, 1.6, 0.8])


def finger_rotations(rng: np.random.Generator, times: Array, side: int, *, lively: float) -> Array:
    """Axis-angle [F, 15, 3] of one hand that changes its shape now and then.

    Args:
        side: 0 left, 1 right.
        lively: 0..1, the chance that a shape is more than a hand at rest.
    """
    shapes = list(HAND_SHAPES)

    def pick() -> Array:
        name = rng.choice(shapes) if rng.random() < lively else rng.choice(_CALM)
        shape = HAND_SHAPES[str(name)]
        return np.array([*shape.curl, shape.spread, *shape.thumb], np.float64)

    now, at = pick(), times[0] - rng.uniform(0, 2)
    track = np.tile(now, (len(times), 1))
    while at < times[-1]:
        at += rng.uniform(0.8, 2.6)
        takes, target = rng.uniform(0.35, 0.8), pick()
        track += smoothstep((times - at) / takes)[:, None] * (target - now)
        at, now = at + takes, target
    track += wander(rng, times, 7) * [3, 3, 3, 3, 1.5, 2, 2]
    return _posed(track, side)


def _posed(track: Array, side: int) -> Array:
    hand = np.zeros((len(track), 5, 3, 3))
    curl = np.maximum(track[:, :4, None], 0)
    hand[:, :4, :, 2] = -np.deg2rad(curl * _JOINTS)
    hand[:, :4, 0, 1] = np.deg2rad(track[:, 4:5] * _FAN)
    # The thumb folds across the palm about an axis of its own.
    hand[:, 4, 0, 1] = np.deg2rad(track[:, 5])
    hand[:, 4, 1:, 1] = np.deg2rad(track[:, 6:7] * [0.7, 1.0])
    mirror = np.array([1, 1, 1]) if side == 0 else np.array([1, -1, -1])
    return np.asarray(hand.reshape(len(track), 15, 3) * mirror)
