"""Front-to-back compositing of tile lists in numba, with its exact backward pass."""

import numpy as np
from numba import njit, prange

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
ONE, HALF, ZERO = np.float32(1.0), np.float32(0.5), np.float32(0.0)
CUT, TOP, STOP = (
    np.float32(ALPHA_THRESHOLD),
    np.float32(MAX_ALPHA),
    np.float32(TRANSMITTANCE_THRESHOLD),
)


@njit(cache=True, inline="always")
def _rows(splat, y0, y1):  # type: ignore[no-untyped-def]
    """Half-open rows of [y0, y1) whose centres the splat's ellipse can reach."""
    det = splat[CONIC_XX] * splat[CONIC_YY] - splat[CONIC_XY] * splat[CONIC_XY]
    half = np.sqrt(splat[REACH] * splat[CONIC_XX] / det) + np.float32(1e-3)
    first = int(np.ceil(splat[Y] - half - HALF))
    last = int(np.floor(splat[Y] + half - HALF))
    return max(first, y0), min(last + 1, y1)


@njit(cache=True, inline="always")
def _span(splat, dy, x0, x1):  # type: ignore[no-untyped-def]
    """Half-open pixels of [x0, x1) that the ellipse can reach in the row at mean - centre = dy."""
    across = splat[CONIC_XY] * dy
    rest = splat[REACH] - splat[CONIC_YY] * dy * dy
    root = across * across + splat[CONIC_XX] * rest
    half = np.sqrt(max(root, ZERO)) / splat[CONIC_XX] + np.float32(1e-3)
    middle = splat[X] + across / splat[CONIC_XX]
    first = int(np.ceil(middle - half - HALF))
    last = int(np.floor(middle + half - HALF))
    return max(first, x0), min(last + 1, x1)


@njit(cache=True, inline="always")
def _falloff(splat, dx, dy):  # type: ignore[no-untyped-def]
    """exp(-sigma) of the ellipse at mean - centre = (dx, dy)."""
    sigma = HALF * (splat[CONIC_XX] * dx * dx + splat[CONIC_YY] * dy * dy)
    return np.exp(-(sigma + splat[CONIC_XY] * dx * dy))


@njit(cache=True, parallel=True, error_model="numpy")
def blend_forward(  # type: ignore[no-untyped-def]
    splats, colors, offsets, ids, background, width, height, columns, rows, workers
):
    """Composite every tile.

    Returns color [C, H, W, D] over the background [C, D], transmittance [C, H, W], depth [C, H, W]
    (sum of weight times depth, not normalised) and last [C, H, W]: one past the position, in its
    tile's list, of the last Gaussian a pixel took.
    """
    cameras, channels = splats.shape[0], colors.shape[1]
    tiles = columns * rows
    color = np.empty((cameras, height, width, channels), np.float32)
    transmittance = np.ones((cameras, height, width), np.float32)
    depth = np.zeros((cameras, height, width), np.float32)
    last = np.zeros((cameras, height, width), np.int32)
    for worker in prange(workers):
        # Strided tiles share the work evenly: neighbours are about equally full.
        for job in range(worker, cameras * tiles, workers):
            c, t = job // tiles, job % tiles
            y0, x0 = t // columns * TILE, t % columns * TILE
            y1, x1 = min(y0 + TILE, height), min(x0 + TILE, width)
            color[c, y0:y1, x0:x1] = 0
            alive = (y1 - y0) * (x1 - x0)
            for entry in range(offsets[job], offsets[job + 1]):
                g = ids[entry]
                splat = splats[c, g]
                row0, row1 = _rows(splat, y0, y1)
                for y in range(row0, row1):
                    dy = splat[Y] - (np.float32(y) + HALF)
                    span0, span1 = _span(splat, dy, x0, x1)
                    for x in range(span0, span1):
                        t_old = transmittance[c, y, x]
                        if last[c, y, x] < 0:
                            continue
                        dx = splat[X] - (np.float32(x) + HALF)
                        alpha = min(TOP, splat[OPACITY] * _falloff(splat, dx, dy))
                        if alpha < CUT:
                            continue
                        t_new = t_old * (ONE - alpha)
                        if t_new <= STOP:
                            last[c, y, x] = -last[c, y, x] - 1  # a negative value marks it done
                            alive -= 1
                            continue
                        weight = t_old * alpha
                        transmittance[c, y, x] = t_new
                        last[c, y, x] = entry - offsets[job] + 1
                        depth[c, y, x] += weight * splat[DEPTH]
                        for k in range(channels):
                            color[c, y, x, k] += weight * colors[g, k]
                if alive == 0:
                    break
            for y in range(y0, y1):
                for x in range(x0, x1):
                    if last[c, y, x] < 0:
                        last[c, y, x] = -last[c, y, x] - 1
                    for k in range(channels):
                        color[c, y, x, k] += transmittance[c, y, x] * background[c, k]
    return color, transmittance, depth, last


@njit(cache=True, parallel=True, error_model="numpy")
def blend_backward(  # type: ignore[no-untyped-def]
    splats,
    colors,
    offsets,
    ids,
    boxes,
    starts,
    transmittance,
    last,
    grad_color,
    grad_behind,
    grad_depth,
    columns,
    rows,
    workers,
):
    """Gradients of splats and colours per (Gaussian, tile), [E, 7 + D], laid out by Gaussian.

    `grad_behind` [C, H, W] is the gradient of the pixel's final transmittance; `grad_depth` that of
    the unnormalised depth. Pixels are walked back to front: transmittance is recovered by division,
    and what lies behind a Gaussian is one number a pixel, whatever the number of channels.
    """
    cameras, height, width, channels = grad_color.shape
    tiles = columns * rows
    slots = np.zeros((offsets[-1], REACH + channels), np.float32)
    for worker in prange(workers):
        light = np.empty((TILE, TILE), np.float32)
        behind = np.empty((TILE, TILE), np.float32)
        for job in range(worker, cameras * tiles, workers):
            c, t = job // tiles, job % tiles
            ty, tx = t // columns, t % columns
            y0, x0 = ty * TILE, tx * TILE
            y1, x1 = min(y0 + TILE, height), min(x0 + TILE, width)
            deepest = 0
            for y in range(y0, y1):
                for x in range(x0, x1):
                    deepest = max(deepest, last[c, y, x])
                    light[y - y0, x - x0] = transmittance[c, y, x]
                    behind[y - y0, x - x0] = transmittance[c, y, x] * grad_behind[c, y, x]
            for position in range(deepest - 1, -1, -1):
                g = ids[offsets[job] + position]
                splat, box = splats[c, g], boxes[c, g]
                slot = slots[starts[c, g] + (ty - box[1]) * (box[2] - box[0]) + tx - box[0]]
                row0, row1 = _rows(splat, y0, y1)
                for y in range(row0, row1):
                    dy = splat[Y] - (np.float32(y) + HALF)
                    span0, span1 = _span(splat, dy, x0, x1)
                    for x in range(span0, span1):
                        if position >= last[c, y, x]:
                            continue
                        dx = splat[X] - (np.float32(x) + HALF)
                        falloff = _falloff(splat, dx, dy)
                        raw = splat[OPACITY] * falloff
                        alpha = min(TOP, raw)
                        if alpha < CUT:
                            continue
                        through = ONE / (ONE - alpha)
                        before = light[y - y0, x - x0] * through
                        light[y - y0, x - x0] = before
                        weight = before * alpha
                        shade = grad_depth[c, y, x] * splat[DEPTH]
                        slot[DEPTH] += weight * grad_depth[c, y, x]
                        for k in range(channels):
                            shade += grad_color[c, y, x, k] * colors[g, k]
                            slot[REACH + k] += weight * grad_color[c, y, x, k]
                        grad_alpha = before * shade - behind[y - y0, x - x0] * through
                        behind[y - y0, x - x0] += weight * shade
                        if raw > TOP:
                            continue
                        slot[OPACITY] += falloff * grad_alpha
                        grad_sigma = -raw * grad_alpha
                        slot[CONIC_XX] += HALF * grad_sigma * dx * dx
                        slot[CONIC_XY] += grad_sigma * dx * dy
                        slot[CONIC_YY] += HALF * grad_sigma * dy * dy
                        slot[X] += grad_sigma * (splat[CONIC_XX] * dx + splat[CONIC_XY] * dy)
                        slot[Y] += grad_sigma * (splat[CONIC_XY] * dx + splat[CONIC_YY] * dy)
    return slots
