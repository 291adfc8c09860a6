"""Smooth random curves that body motion and cameras are made of."""

import numpy as np

from avatarmill.synth.gait import Array


def wander(rng: np.random.Generator, times: Array, channels: int, *, rate: float = 0.35) -> Array:
    """Smooth noise [F, channels] of about unit size: three sines a channel around `rate` Hz."""
    frequency = rate * rng.uniform(0.4, 1.6, (3, 1, channels))
    phase = rng.uniform(0, 2 * np.pi, (3, 1, channels))
    waves = np.sin(2 * np.pi * frequency * times[None, :, None] + phase)
    mixed: Array = waves.mean(0) * 1.4
    return mixed
