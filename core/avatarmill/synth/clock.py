"""The instants at which a motion is looked at, and the finer steps in which it is simulated."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avatarmill.synth.actor import Actor
from avatarmill.synth.motion import Motion, MotionKind, sample_motion

SIMULATION_FPS = 30.0
"""Motions are computed at no less than this rate, whatever rate is rendered."""
# Frames with times of their own show the nearest of these steps.
_UNEVEN_FPS = 240.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Frames of a clip as steps of a simulation.

    Gaits and gestures are planned on even steps; frames of slow or uneven clips pick some of them.
    """

    steps: NDArray[np.intp]
    """[F] the simulated step that each frame shows."""
    num_steps: int
    rate: float
    """Steps a second."""
    fps: float
    """Nominal rate of the frames."""
    times: NDArray[np.float64]
    """[F] seconds from the first frame."""

    @classmethod
    def even(cls, num_frames: int, fps: float) -> "Clock":
        """Frames at a constant rate."""
        stride = int(np.ceil(SIMULATION_FPS / fps))
        steps = np.arange(num_frames) * stride + stride // 2
        return cls(steps, stride * num_frames, stride * fps, fps, np.arange(num_frames) / fps)

    @classmethod
    def uneven(cls, times: NDArray[np.float64], fps: float) -> "Clock":
        """Frames at any ascending times, shown as of at most 2 ms earlier or later."""
        times = times - times[0]
        steps = np.round(times * _UNEVEN_FPS).astype(np.intp)
        return cls(steps, int(steps[-1]) + 2, _UNEVEN_FPS, fps, times)

    def look(self, motion: Motion) -> Motion:
        """The frames of a simulated motion."""
        return replace(motion.take(self.steps), fps=self.fps)


def perform(
    rng: np.random.Generator, actor: Actor, kinds: tuple[MotionKind, ...], clock: Clock
) -> Motion:
    """A motion of one of the kinds, simulated finely and thinned to the wanted frames.

    Args:
        rng: consumed.
        actor: who moves.
        kinds: one of them is drawn.
        clock: the frames.
    """
    kind = kinds[int(rng.integers(len(kinds)))]
    return clock.look(sample_motion(rng, clock.num_steps, clock.rate, kind, actor.skeleton))
