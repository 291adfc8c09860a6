"""The camera a fit starts from: given, said by the file, or guessed."""

from dataclasses import dataclass

import numpy as np

from avatarmill.pipeline.fit_start import GUESSED_FOCAL
from avatarmill.pipeline.types import Float

_FILM_DIAGONAL = 43.27
"""Millimetres of the diagonal of the 36 x 24 mm film that "35 mm equivalent" refers to."""
_GIVEN_SIGMA, _SAID_SIGMA, _GUESSED_SIGMA = 1e-3, 0.08, 0.15
"""Of the log focal length. Stabilised video uses less of the sensor than the file says."""


@dataclass(frozen=True, slots=True)
class Lens:
    """A focal length and how far it may be moved."""

    focal: float
    """Pixels."""
    center: tuple[float, float]
    """Principal point, pixels."""
    sigma: float
    """Standard deviation of the log focal length."""


def starting_lens(
    width: int,
    height: int,
    *,
    ratio: float = GUESSED_FOCAL,
    focal_35mm: float = 0.0,
    intrinsics: Float | None = None,
) -> Lens:
    """What is known of the camera before the fit.

    Args:
        width: of the decoded frame, pixels; as much of the picture as the file shows.
        height: of the decoded frame.
        ratio: guessed focal length as a multiple of the longer side.
        focal_35mm: 35 mm equivalent focal length in millimetres from the file's metadata, which
            refers to diagonals; 0 where it says nothing.
        intrinsics: [3, 3] pixels where the camera is calibrated: nothing else counts then.
    """
    middle = (width / 2, height / 2)
    if intrinsics is not None:
        center = (float(intrinsics[0, 2]), float(intrinsics[1, 2]))
        return Lens(float(intrinsics[0, 0]), center, _GIVEN_SIGMA)
    if focal_35mm > 0:
        diagonal = float(np.hypot(width, height))
        return Lens(focal_35mm / _FILM_DIAGONAL * diagonal, middle, _SAID_SIGMA)
    return Lens(ratio * max(width, height), middle, _GUESSED_SIGMA)
