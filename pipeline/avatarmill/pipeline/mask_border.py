"""Where a mask's border runs: colours nearby speak, and unlike neighbours may part."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from avatarmill.pipeline.types import Float

Flags = NDArray[np.bool_]

_COLOUR_SCALE = 9.0
"""CIELAB units at which a colour has stopped to be the same."""
_FLOOR = 0.02
"""Likelihood, of that of one same colour, below which nothing is said."""
_LIMIT = 3.0
_EDGE_SCALE = 3.0
"""CIELAB units between neighbours that make an edge."""
_BOND = 0.005
"""What holds neighbours together across an edge."""
_TRUST = 0.6
"""Of a pixel's own evidence, against the bond of two equal neighbours."""
_SWEEPS = 25
_RELAXATION = 1.6


def local_ratio(
    lab: Float, person: Flags, background: Flags, unsure: Flags, *, reach: int, stride: int
) -> Float:
    """[H, W] log ratio of colour likelihoods, person over background, of the unsure pixels.

    Both likelihoods are kernel densities over the known pixels of a lattice within `reach`: the
    background behind an arm is another one than that behind the head. Limited to +-3; 0 where
    neither side has the colour.

    Args:
        lab: [H, W, 3] CIELAB.
        person, background: [H, W] known pixels.
        unsure: [H, W] pixels to judge.
        reach: half the side of the neighbourhood, pixels.
        stride: of the lattice, pixels.
    """
    ratio = np.zeros(unsure.shape, np.float32)
    rows, columns = np.nonzero(unsure)
    inverse = np.float32(1 / _COLOUR_SCALE**2)
    sides = (person.astype(np.float32), background.astype(np.float32))
    _ratio(lab, *sides, (rows, columns), reach, stride, inverse, np.float32(_FLOOR), ratio)
    return np.clip(ratio, -_LIMIT, _LIMIT, out=ratio)


@njit(cache=True, fastmath=True)
def _ratio(lab, person, background, pixels, reach, stride, inverse, floor, ratio):  # type: ignore[no-untyped-def]
    height, width = person.shape
    for k in range(len(pixels[0])):
        y, x = pixels[0][k], pixels[1][k]
        on = off = num_on = num_off = np.float32(0)
        for j in range(max(0, -(-(y - reach) // stride) * stride), min(height, y + reach), stride):
            for i in range(
                max(0, -(-(x - reach) // stride) * stride), min(width, x + reach), stride
            ):
                p, b = person[j, i], background[j, i]
                if p + b > 0:
                    u = lab[j, i, 0] - lab[y, x, 0]
                    v = lab[j, i, 1] - lab[y, x, 1]
                    w = lab[j, i, 2] - lab[y, x, 2]
                    # Student's t: as good as a Gaussian here and without its exponential.
                    near = np.float32(1) / (np.float32(1) + (u * u + v * v + w * w) * inverse)
                    near = near * near * near
                    on, off = on + near * p, off + near * b
                    num_on, num_off = num_on + p, num_off + b
        # A side with hardly a known pixel nearby has no say.
        on = on / num_on if num_on >= 3 else floor
        off = off / num_off if num_off >= 3 else floor
        ratio[y, x] = np.log((on + floor) / (off + floor))


def walk_to_edges(lab: Float, opacity: Float, unsure: Flags) -> Float:
    """[H, W] the opacity of unsure pixels smoothed where colours are, kept apart where edges are.

    The minimum of sum w (a_i - a_j)^2 + 0.6 (a_i - p_i)^2 over neighbours i, j, with w falling from
    1 on equal colours to 0.005 across an edge; pixels that are not unsure keep their value.
    Grady: Multilabel Random Walker Image Segmentation Using Prior Models (2005), equation 10,
    by red-black over-relaxation.

    Args:
        lab: [H, W, 3] CIELAB.
        opacity: [H, W] p, 0..1.
        unsure: [H, W] pixels to change.
    """
    smooth = opacity.copy()
    inverse = np.float32(1 / (2 * _EDGE_SCALE**2))
    right, down = _bonds(lab, unsure, inverse, np.float32(_BOND))
    _relax(opacity, unsure, right, down, np.float32(_TRUST), _SWEEPS, _RELAXATION, smooth)
    return np.clip(smooth, 0, 1, out=smooth)


@njit(cache=True, fastmath=True)
def _bonds(lab, unsure, inverse, least):  # type: ignore[no-untyped-def]
    """How strongly every pixel holds on to its right and lower neighbours."""
    height, width = unsure.shape
    right = np.zeros((height, width), np.float32)
    down = np.zeros((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            if x + 1 < width and (unsure[y, x] or unsure[y, x + 1]):
                apart = np.float32(0)
                for c in range(3):
                    apart += (lab[y, x, c] - lab[y, x + 1, c]) ** 2
                right[y, x] = least + np.exp(-apart * inverse)
            if y + 1 < height and (unsure[y, x] or unsure[y + 1, x]):
                apart = np.float32(0)
                for c in range(3):
                    apart += (lab[y, x, c] - lab[y + 1, x, c]) ** 2
                down[y, x] = least + np.exp(-apart * inverse)
    return right, down


@njit(cache=True, fastmath=True)
def _relax(opacity, unsure, right, down, trust, sweeps, relaxation, smooth):  # type: ignore[no-untyped-def]
    height, width = opacity.shape
    for sweep in range(2 * sweeps):
        for y in range(height):
            for x in range((y + sweep) % 2, width, 2):
                if not unsure[y, x]:
                    continue
                total, weight = trust * opacity[y, x], trust
                if x > 0:
                    total += right[y, x - 1] * smooth[y, x - 1]
                    weight += right[y, x - 1]
                if x + 1 < width:
                    total += right[y, x] * smooth[y, x + 1]
                    weight += right[y, x]
                if y > 0:
                    total += down[y - 1, x] * smooth[y - 1, x]
                    weight += down[y - 1, x]
                if y + 1 < height:
                    total += down[y, x] * smooth[y + 1, x]
                    weight += down[y, x]
                smooth[y, x] += relaxation * (total / weight - smooth[y, x])
