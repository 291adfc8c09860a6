"""Compositing of tile lists in numba, eight pixels at a time, with its exact backward pass.

A tile's pixels live in flat planes of 16 rows; rows are 8 floats longer than the tile, so that
eight lanes may start at any pixel of it. What falls into that margin is never read back.
"""

import numpy as np
from numba import njit, prange

from avatarmill.avatar.rasterize_numba_lanes import (
    LANES,
    choose,
    exp,
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
from avatarmill.avatar.rasterize_rules import (
    ALPHA_THRESHOLD,
    MAX_ALPHA,
    TILE,
    TRANSMITTANCE_THRESHOLD,
)

# float32 on purpose: a Python float would turn every product in the kernels into float64.
ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
CUT, TOP = np.float32(ALPHA_THRESHOLD), np.float32(MAX_ALPHA)
STOP = np.nextafter(np.float32(TRANSMITTANCE_THRESHOLD), ONE)  # lanes only know >=
SLACK = np.float32(1e-3)  # pixels; spans may be generous, alpha decides

STRIDE = TILE + LANES
PLANE = TILE * STRIDE
# Planes of a tile. Forward: transmittance while a pixel takes Gaussians (0 afterwards), final
# transmittance, one past the last Gaussian taken, depth, then the channels.
LIVE, LIGHT, LAST, DEPTH_SUM, FIRST_CHANNEL = (k * PLANE for k in range(5))
# Backward: light so far, then what lies behind, last, the gradients of depth and the channels.
BEHIND = LIVE
CHECK_EVERY = 32  # Gaussians between two looks whether a tile still takes any


@njit(cache=True, inline="always")
def _rows(y, conic_xx, conic_xy, conic_yy, reach, bottom):  # type: ignore[no-untyped-def]
    """Half-open rows of [0, bottom) whose centres an ellipse centred at row y can reach."""
    det = conic_xx * conic_yy - conic_xy * conic_xy
    half = np.sqrt(reach * conic_xx / det) + SLACK
    first = int(np.ceil(max(y - half - HALF, ZERO)))
    last = int(np.floor(min(y + half - HALF, np.float32(bottom - 1))))
    return first, last + 1


@njit(cache=True, inline="always")
def _span(x, dy, conic_xx, conic_xy, conic_yy, reach, right):  # type: ignore[no-untyped-def]
    """Half-open pixels of [0, right) that the ellipse can reach in the row at offset dy."""
    across = conic_xy * dy
    root = across * across + conic_xx * (reach - conic_yy * dy * dy)
    half = np.sqrt(max(root, ZERO)) / conic_xx + SLACK
    middle = x + across / conic_xx - HALF
    first = int(np.ceil(max(middle - half, ZERO)))
    last = int(np.floor(min(middle + half, np.float32(right - 1))))
    return first, last + 1


@njit(cache=True, inline="always")
def _falloff(dx, dy, conic_xx, conic_xy, conic_yy):  # type: ignore[no-untyped-def]
    """exp(-sigma) in eight lanes at mean - centre = (dx, dy); the same bits in both passes."""
    linear = fma(dx, splat(-HALF * conic_xx), splat(-conic_xy * dy))
    return exp(fma(dx, linear, splat(-HALF * conic_yy * dy * dy)))


@njit(cache=True)
def _tile_is_done(planes):  # type: ignore[no-untyped-def]
    """Whether no pixel takes Gaussians any more."""
    left = splat(ZERO)
    for i in range(0, PLANE, LANES):
        left = left + load(planes, LIVE + i)
    return total(left) == ZERO


@njit(cache=True)
def _blend_tile(planes, splats, colors, ids, c, first, last, x0, y0, right, bottom):  # type: ignore[no-untyped-def]
    """Draw the Gaussians ids[first:last] into the planes of the tile at (x0, y0)."""
    channels = colors.shape[1]
    one, cut, top, stop, zero = splat(ONE), splat(CUT), splat(TOP), splat(STOP), splat(ZERO)
    for entry in range(first, last):
        if (entry - first) % CHECK_EVERY == 0 and _tile_is_done(planes):
            break
        g = ids[entry]
        x, y = splats[c, g, X] - np.float32(x0), splats[c, g, Y] - np.float32(y0)
        xx, xy, yy = splats[c, g, CONIC_XX], splats[c, g, CONIC_XY], splats[c, g, CONIC_YY]
        reach, opacity = splats[c, g, REACH], splat(splats[c, g, OPACITY])
        depth, position = splat(splats[c, g, DEPTH]), splat(np.float32(entry - first + 1))
        row0, row1 = _rows(y, xx, xy, yy, reach, bottom)
        for row in range(row0, row1):
            dy = y - np.float32(row) - HALF
            span0, span1 = _span(x, dy, xx, xy, yy, reach, right)
            for column in range(span0, span1, LANES):
                at = row * STRIDE + column
                dx = splat(x - np.float32(column) - HALF) - iota()
                raw = opacity * _falloff(dx, dy, xx, xy, yy)
                alpha = choose(raw, cut, minimum(raw, top), zero)
                live = load(planes, LIVE + at)
                after = live * (one - alpha)
                weight = choose(after, stop, live * alpha, zero)
                store(planes, LIVE + at, choose(after, stop, after, zero))
                store(planes, LIGHT + at, choose(after, stop, after, load(planes, LIGHT + at)))
                taken = choose(zero, weight, load(planes, LAST + at), position)
                store(planes, LAST + at, taken)
                sum_at = DEPTH_SUM + at
                store(planes, sum_at, fma(weight, depth, load(planes, sum_at)))
                for k in range(channels):
                    sum_at = FIRST_CHANNEL + k * PLANE + at
                    store(planes, sum_at, fma(weight, splat(colors[g, k]), load(planes, sum_at)))


@njit(cache=True, parallel=True, error_model="numpy")
def blend_forward(  # type: ignore[no-untyped-def]
    splats, colors, offsets, ids, background, width, height, columns, rows, workers
):
    """Composite every tile.

    Returns color [C, H, W, D] over the background [C, D], transmittance [C, H, W], depth [C, H, W]
    (sum of weight times depth, not normalised) and last [C, H, W]: one past the position, in its
    tile's list, of the last Gaussian a pixel took (a float32, exact up to 2**24).
    """
    cameras, channels = splats.shape[0], colors.shape[1]
    tiles = columns * rows
    color = np.empty((cameras, height, width, channels), np.float32)
    light = np.empty((cameras, height, width), np.float32)
    depth = np.empty((cameras, height, width), np.float32)
    last = np.empty((cameras, height, width), np.float32)
    for worker in prange(workers):
        planes = np.empty(FIRST_CHANNEL + channels * PLANE, np.float32)
        # Strided tiles share the work evenly: neighbours are about equally full.
        for job in range(worker, cameras * tiles, workers):
            c, t = job // tiles, job % tiles
            y0, x0 = t // columns * TILE, t % columns * TILE
            bottom, right = min(TILE, height - y0), min(TILE, width - x0)
            planes[:] = ZERO
            for row in range(bottom):
                start = row * STRIDE
                planes[LIVE + start : LIVE + start + right] = ONE
                planes[LIGHT + start : LIGHT + start + right] = ONE
            _blend_tile(
                planes, splats, colors, ids, c, offsets[job], offsets[job + 1],
                x0, y0, right, bottom,
            )  # fmt: skip
            for row in range(bottom):
                for column in range(right):
                    at, y, x = row * STRIDE + column, y0 + row, x0 + column
                    light[c, y, x] = planes[LIGHT + at]
                    last[c, y, x] = planes[LAST + at]
                    depth[c, y, x] = planes[DEPTH_SUM + at]
                    for k in range(channels):
                        seen = planes[FIRST_CHANNEL + k * PLANE + at]
                        color[c, y, x, k] = seen + planes[LIGHT + at] * background[c, k]
    return color, light, depth, last


@njit(cache=True)
def _unblend_splat(  # type: ignore[no-untyped-def]
    planes, sums, slot, x, y, xx, xy, yy, reach, opacity, depth, paint, position, right, bottom
):
    """Take one Gaussian off the planes of a tile, back to front, and write its gradient to slot."""
    channels = paint.shape[0]
    one, cut, top, zero = splat(ONE), splat(CUT), splat(TOP), splat(ZERO)
    z, peak, order = splat(depth), splat(opacity), splat(np.float32(position + 1))
    # Moments of the gradient of sigma over the pixels: 1, dx, dx dx, dy, dx dy, dy dy.
    m, mx, mxx = splat(ZERO), splat(ZERO), splat(ZERO)
    my, mxy, myy, along = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    sums[:] = ZERO
    row0, row1 = _rows(y, xx, xy, yy, reach, bottom)
    for row in range(row0, row1):
        dy = y - np.float32(row) - HALF
        span0, span1 = _span(x, dy, xx, xy, yy, reach, right)
        for column in range(span0, span1, LANES):
            at = row * STRIDE + column
            dx = splat(x - np.float32(column) - HALF) - iota()
            raw = peak * _falloff(dx, dy, xx, xy, yy)
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
