"""The exact backward pass of compositing in numba, eight pixels at a time.

A tile's pixels live in flat planes of 16 rows of two strips of eight, the strips of the forward
pass: both compute the same bits of alpha.
"""

import numpy as np
from numba import njit, prange

from avatarmill.avatar.rasterize_numba_lanes import (
    LANES,
    choose,
    fma,
    iota,
    load,
    minimum,
    splat,
    store,
    total,
)
from avatarmill.avatar.rasterize_numba_project import (
    CONIC_XX,
    CONIC_XY,
    CONIC_YY,
    DEPTH,
    OPACITY,
    REACH,
    X,
    Y,
)
from avatarmill.avatar.rasterize_numba_spans import (
    CUT,
    HALF,
    ONE,
    TOP,
    ZERO,
    column_range,
    falloff,
    row_range,
)
from avatarmill.avatar.rasterize_rules import TILE

STRIDE = TILE
PLANE = TILE * STRIDE
# Planes of a tile: transmittance so far, then what lies behind, one past the last Gaussian taken,
# and the gradients of depth and the channels.
BEHIND, LIGHT, LAST, DEPTH_SUM, FIRST_CHANNEL = (k * PLANE for k in range(5))


@njit(cache=True)
def _unblend_splat(  # type: ignore[no-untyped-def]
    planes, sums, slot, x, y, xx, xy, yy, reach, opacity, depth, paint, position, right, bottom
):
    """Take one Gaussian off the planes of a tile, back to front, and write its gradient to slot."""
    channels = paint.shape[0]
    one, cut, top, zero = splat(ONE), splat(CUT), splat(TOP), splat(ZERO)
    z, peak, order = splat(depth), splat(opacity), splat(np.float32(position + 1))
    curve, slant, drop = splat(-HALF * xx), splat(-xy), splat(-HALF * yy)
    # Moments of the gradient of sigma over the pixels: 1, dx, dx dx, dy, dx dy, dy dy.
    m, mx, mxx = splat(ZERO), splat(ZERO), splat(ZERO)
    my, mxy, myy, along = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    sums[:] = ZERO
    row0, row1 = row_range(y, xx, xy, yy, reach, bottom)
    for row in range(row0, row1):
        dy = y - (np.float32(row) + HALF)
        span0, span1 = column_range(x, dy, xx, xy, yy, reach, right)
        for column in range(span0 // LANES * LANES, span1, LANES):
            at = row * STRIDE + column
            dx = splat(x) - (splat(np.float32(column) + HALF) + iota())
            raw = falloff(dx, splat(dy), curve, slant, drop) * peak
            alpha = choose(raw, cut, minimum(raw, top), zero)
            alpha = choose(load(planes, LAST + at), order, alpha, zero)
            through = one / (one - alpha)
            before = load(planes, LIGHT + at) * through
            store(planes, LIGHT + at, before)
            weight = before * alpha
            toward = load(planes, DEPTH_SUM + at)
            along = fma(weight, toward, along)
            shade = toward * z
            for k in range(channels):
                toward = load(planes, FIRST_CHANNEL + k * PLANE + at)
                store(sums, k * LANES, fma(weight, toward, load(sums, k * LANES)))
                shade = fma(toward, splat(paint[k]), shade)
            behind = load(planes, BEHIND + at)
            grad = raw * (behind * through - before * shade)
            store(planes, BEHIND + at, fma(weight, shade, behind))
            # Clamped alphas have no gradient, pixels that took nothing neither.
            grad = choose(top, raw, choose(alpha, cut, grad, zero), zero)
            down = grad * dy
            m, mx, mxx = m + grad, fma(grad, dx, mx), fma(grad * dx, dx, mxx)
            my, mxy, myy = my + down, fma(down, dx, mxy), fma(down, splat(dy), myy)
    sum_x, sum_y = total(mx), total(my)
    slot[X], slot[Y] = xx * sum_x + xy * sum_y, xy * sum_x + yy * sum_y
    slot[CONIC_XX], slot[CONIC_XY] = HALF * total(mxx), total(mxy)
    slot[CONIC_YY], slot[OPACITY] = HALF * total(myy), -total(m) / opacity
    slot[DEPTH] = total(along)
    for k in range(channels):
        slot[REACH + k] = total(load(sums, k * LANES))


@njit(cache=True, parallel=True, error_model="numpy")
def blend_backward(  # type: ignore[no-untyped-def]
    splats, colors, offsets, ids, boxes, starts, light, last,
    grad_color, grad_behind, grad_depth, columns, rows, workers,
):  # fmt: skip
    """Gradients of splats and colours per (Gaussian, tile), [E, 7 + D], laid out by Gaussian.

    `grad_behind` [C, H, W] is the gradient of the pixel's final transmittance, `grad_depth` that of
    the unnormalised depth. Pixels are walked back to front: transmittance is recovered by division,
    and what lies behind a Gaussian is one number a pixel, whatever the number of channels.
    """
    cameras, height, width, channels = grad_color.shape
    tiles = columns * rows
    slots = np.zeros((offsets[-1], REACH + channels), np.float32)
    for worker in prange(workers):
        planes = np.empty(FIRST_CHANNEL + channels * PLANE, np.float32)
        sums = np.empty(channels * LANES, np.float32)
        for job in range(worker, cameras * tiles, workers):
            c, t = job // tiles, job % tiles
            ty, tx = t // columns, t % columns
            y0, x0 = ty * TILE, tx * TILE
            bottom, right = min(TILE, height - y0), min(TILE, width - x0)
            planes[:] = ZERO
            deepest = ZERO
            for row in range(bottom):
                for column in range(right):
                    at, y, x = row * STRIDE + column, y0 + row, x0 + column
                    planes[LIGHT + at] = light[c, y, x]
                    planes[BEHIND + at] = light[c, y, x] * grad_behind[c, y, x]
                    planes[LAST + at] = last[c, y, x]
                    deepest = max(deepest, last[c, y, x])
                    planes[DEPTH_SUM + at] = grad_depth[c, y, x]
                    for k in range(channels):
                        planes[FIRST_CHANNEL + k * PLANE + at] = grad_color[c, y, x, k]
            for position in range(int(deepest) - 1, -1, -1):
                g = ids[offsets[job] + position]
                box = boxes[c, g]
                entry = starts[c, g] + (ty - box[1]) * (box[2] - box[0]) + tx - box[0]
                s = splats[c, g]
                _unblend_splat(
                    planes, sums, slots[entry], s[X] - np.float32(x0), s[Y] - np.float32(y0),
                    s[CONIC_XX], s[CONIC_XY], s[CONIC_YY], s[REACH], s[OPACITY], s[DEPTH],
                    colors[g], position, right, bottom,
                )  # fmt: skip
    return slots
