"""Guided filter: a map smoothed so that its edges fall on the edges of a colour image."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


def guided_filter(
    image: Image, values: Image, *, radius: int, epsilon: float, subsample: int = 1
) -> Image:
    """Filters `values` [H, W] with the colour `image` [H, W, 3] as guide, both 0..1.

    Within each window of `radius` pixels the result is the affine function of colour nearest to the
    values; `epsilon` is the colour variance below which a window is flat. With `subsample` the
    functions are found on a smaller image and applied at full size.
    He, Sun, Tang: Guided Image Filtering (2013), equations 14-19; fast form (2015).
    """
    height, width = values.shape
    size = (max(1, width // subsample), max(1, height // subsample))
    guide = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    slope, offset = _affine(
        guide,
        cv2.resize(values, size, interpolation=cv2.INTER_AREA),
        max(1, radius // subsample),
        epsilon,
    )
    slope = cv2.resize(slope, (width, height), interpolation=cv2.INTER_LINEAR)
    offset = cv2.resize(offset, (width, height), interpolation=cv2.INTER_LINEAR)
    filtered: Image = np.einsum("hwc,hwc->hw", slope, image) + offset
    return filtered


def _affine(guide: Image, values: Image, radius: int, epsilon: float) -> tuple[Any, Any]:
    """Window-averaged slope [h, w, 3] and offset [h, w] of the affine functions."""

    def mean(x: Image) -> Image:
        side = (2 * radius + 1, 2 * radius + 1)
        blurred: Image = cv2.blur(x, side, borderType=cv2.BORDER_REFLECT)
        return blurred

    centre, level = mean(guide), mean(values)
    covariance = mean(guide * values[..., None]) - centre * level[..., None]
    r, g, b = np.moveaxis(guide, -1, 0)
    mr, mg, mb = np.moveaxis(centre, -1, 0)
    # The symmetric 3x3 colour covariance of each window, inverted by its adjugate.
    rr, gg, bb = (mean(x * x) - m * m + epsilon for x, m in ((r, mr), (g, mg), (b, mb)))
    rg, rb, gb = mean(r * g) - mr * mg, mean(r * b) - mr * mb, mean(g * b) - mg * mb
    i_rr, i_rg, i_rb = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    i_gg, i_gb, i_bb = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    determinant = rr * i_rr + rg * i_rg + rb * i_rb
    cr, cg, cb = np.moveaxis(covariance, -1, 0)
    slope = np.stack(
        [
            (i_rr * cr + i_rg * cg + i_rb * cb) / determinant,
            (i_rg * cr + i_gg * cg + i_gb * cb) / determinant,
            (i_rb * cr + i_gb * cg + i_bb * cb) / determinant,
        ],
        axis=-1,
    )
    offset = level - np.einsum("hwc,hwc->hw", slope, centre)
    return mean(slope), mean(offset)
