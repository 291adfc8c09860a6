"""What shot detection sees of a frame, and how unlike two frames are once motion is allowed for."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

WIDTH, HEIGHT = 80, 48
"""Of the luma that is compared; the film's aspect is not kept."""
_COARSE = (40, 24)
COARSE_SIZE = 3 * 40 * 24
_PATCH = 9
"""Pixels of the square patches whose structure is compared."""
_FLAT, _STRONG = 2.0, 10.0
"""Standard deviation, of 255: below it a patch has nothing to compare, above it text and the edges
of black bars would outweigh the picture."""
_NOISE = 4.0
_TRUST = 18.0
"""Alikeness assumed where frames have nothing to compare, in summed weights: about two patches."""
_TEXTURED = 3.0

_GRID = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame, made small."""

    luma: Bytes
    """[HEIGHT, WIDTH]"""
    coarse: Float
    """[COARSE_SIZE] colours of a still smaller picture."""
    mean: Float
    """[HEIGHT, WIDTH] of the patch around each pixel."""
    variance: Float
    """[HEIGHT, WIDTH] of the same."""
    mean_variance: float
    contrast: float
    """Mean deviation inside patches, those of strong edges counted as moderate."""
    textured: float
    """Share of the picture that is not flat."""

    @classmethod
    def of(cls, image: Bytes) -> "Picture":
        """From a frame [H, W, 3] BGR."""
        luma = cv2.resize(
            cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA
        )
        coarse = cv2.resize(image, _COARSE, interpolation=cv2.INTER_AREA)
        mean, variance = _moments(luma.astype(np.float32))
        deviation = np.sqrt(variance)
        return cls(
            luma=luma,
            coarse=coarse.astype(np.float32).ravel(),
            mean=mean,
            variance=variance,
            mean_variance=float(variance.mean()),
            contrast=float(np.minimum(deviation, 1.5 * _STRONG).mean()),
            textured=float((deviation > _TEXTURED).mean()),
        )


class Comparer:
    """Unlikeness of two pictures, 0 for a shot that goes on and about 0.5 to 1 for another one.

    The second picture is moved onto the first by dense optical flow, then the structure of patches
    is correlated. Flow follows people and cameras; correlation does not mind light that changes.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        # Finer than half of this size, flow begins to fit one picture to any other.
        self._flow.setFinestScale(1)

    def unlikeness(self, a: Picture, b: Picture) -> float:
        """1 minus the mean correlation of the patches that have any structure."""
        flow = self._flow.calc(a.luma, b.luma, None)
        moved = cv2.remap(
            b.luma, _GRID + flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float32)
        mean, variance = _moments(moved)
        shared = _blur(a.luma.astype(np.float32) * moved) - a.mean * mean
        correlation = shared / (np.sqrt(a.variance * variance) + _NOISE)
        deviation = np.sqrt(np.maximum(a.variance, variance))
        weight = np.where(deviation > _FLAT, np.minimum(deviation, _STRONG), 0)
        total = float(weight.sum()) + _TRUST / 0.9
        return 1 - (float((correlation * weight).sum()) + _TRUST) / total


def _blur(values: Float) -> Float:
    return np.asarray(cv2.blur(values, (_PATCH, _PATCH)))


def _moments(luma: Float) -> tuple[Float, Float]:
    mean = _blur(luma)
    return mean, np.maximum(_blur(luma * luma) - mean * mean, 0)
