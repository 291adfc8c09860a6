"""Which pixels an ellipse reaches and how much of it is there: shared by both blending passes."""

import numpy as np
from numba import njit

from avatarmill.avatar.rasterize_numba_lanes import exp, fma
from avatarmill.avatar.rasterize_rules import ALPHA_THRESHOLD, MAX_ALPHA, TRANSMITTANCE_THRESHOLD

# float32 on purpose: a Python float would turn every product in the kernels into float64.
ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
CUT, TOP = np.float32(ALPHA_THRESHOLD), np.float32(MAX_ALPHA)
STOP = np.nextafter(np.float32(TRANSMITTANCE_THRESHOLD), ONE)  # lanes only know >=
SLACK = np.float32(1e-3)  # pixels; spans may be generous, alpha decides


@njit(cache=True, inline="always")
def row_range(y, conic_xx, conic_xy, conic_yy, reach, bottom):  # type: ignore[no-untyped-def]
    """Half-open rows of [0, bottom) whose centres an ellipse centred at row y can reach."""
    det = conic_xx * conic_yy - conic_xy * conic_xy
    half = np.sqrt(reach * conic_xx / det) + SLACK
    first = int(np.ceil(max(y - half - HALF, ZERO)))
    last = int(np.floor(min(y + half - HALF, np.float32(bottom - 1))))
    return first, last + 1


@njit(cache=True, inline="always")
def column_range(x, dy, conic_xx, conic_xy, conic_yy, reach, right):  # type: ignore[no-untyped-def]
    """Half-open pixels of [0, right) that the ellipse can reach in the row at offset dy."""
    across = conic_xy * dy
    root = across * across + conic_xx * (reach - conic_yy * dy * dy)
    half = np.sqrt(max(root, ZERO)) / conic_xx + SLACK
    middle = x + across / conic_xx - HALF
    first = int(np.ceil(max(middle - half, ZERO)))
    last = int(np.floor(min(middle + half, np.float32(right - 1))))
    return first, last + 1


@njit(cache=True, inline="always")
def falloff(dx, dy, curve, slant, drop):  # type: ignore[no-untyped-def]
    """exp(-sigma) in eight lanes at mean - centre = (dx, dy); the same bits in both passes.

    `curve`, `slant`, `drop` are -xx / 2, -xy, -yy / 2 of the conic, which is exact.
    """
    return exp(fma(dx, fma(dx, curve, slant * dy), drop * dy * dy))
