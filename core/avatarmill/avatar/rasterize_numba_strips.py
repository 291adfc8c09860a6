"""Forward compositing in numba: strips of eight pixels whose state stays in vector registers.

A tile is 16 rows of two strips. Its Gaussians, nearest first, are dealt out to the strips that
their ellipses touch, a chunk at a time; then each strip walks its own short list. So no strip looks
at a Gaussian that misses it, and transmittance and sums stay in registers meanwhile. Strip s is row
s % 16 of column half s // 16; planes hold strips one after the other.
"""

import numpy as np
from numba import njit, prange

from avatarmill.avatar.rasterize_numba_lanes import (
    LANES,
    choose,
    fma,
    iota,
    load,
    lowest_bit,
    mask,
    minimum,
    splat,
    spread,
    sqrt,
    store,
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
    SLACK,
    STOP,
    TOP,
    ZERO,
    falloff,
)
from avatarmill.avatar.rasterize_rules import MIN_COVERAGE, TILE

CHUNK = 128
"""Gaussians dealt out at a time: lists, weights and splats of a chunk stay in the first cache."""
STRIPS = TILE * TILE // LANES
PIXELS = TILE * TILE
GROUP = 4
"""How many sums a strip keeps in registers at a time; depth is the first."""
CHECK_EVERY = 16  # Gaussians between two looks whether a strip still takes any
LIVE, LIGHT, LAST, SUMS = (k * PIXELS for k in range(4))
"""Planes of a tile: transmittance while a pixel takes Gaussians (0 afterwards), final
transmittance, one past the last Gaussian taken, then the sums."""
ALL = np.uint64((1 << LANES) - 1)
LAST_OF_LEFT, FIRST_OF_RIGHT = np.float32(LANES - 1), np.float32(LANES)
LAST_OF_RIGHT = np.float32(TILE - 1)
FLOOR = np.float32(MIN_COVERAGE)


@njit(cache=True)
def _touched(x, y, conic_xx, conic_xy, conic_yy, reach):  # type: ignore[no-untyped-def]
    """Bit s tells whether an ellipse centred at (x, y) of a tile reaches strip s."""
    inverse = ONE / conic_xx
    left, right = np.uint64(0), np.uint64(0)
    for row in range(0, TILE, LANES):  # eight rows at once
        dy = splat(y - (np.float32(row) + HALF)) - iota()
        across = dy * conic_xy
        root = fma(across, across, (splat(reach) - dy * dy * conic_yy) * conic_xx)
        half = sqrt(choose(root, splat(ZERO), root, splat(ZERO))) * inverse + SLACK
        middle = across * inverse + (x - HALF)
        # Pixel centres between the two ends, counted from 0; generous, alpha decides.
        start, stop = middle - half, middle + half
        some = mask(root, splat(-SLACK))
        west = some & mask(splat(LAST_OF_LEFT), start) & mask(stop, splat(ZERO))
        east = some & mask(splat(LAST_OF_RIGHT), start) & mask(stop, splat(FIRST_OF_RIGHT))
        left, right = left | west << np.uint64(row), right | east << np.uint64(row)
    return left | right << np.uint64(TILE)


@njit(cache=True)
def _gather(splats, colors, members, x0, y0, near, paint, width):  # type: ignore[no-untyped-def]
    """Copy Gaussians beside each other: without a branch, so that cache misses overlap.

    `near` [CHUNK, 8] gets what alpha needs, relative to the tile, and the reach; `paint` depth and
    channels, `width` floats apiece.
    """
    channels = colors.shape[1]
    left, top = np.float32(x0), np.float32(y0)
    for i in range(len(members)):
        g = members[i]
        s, n = splats[g], near[i]
        n[0], n[1], n[2] = s[X] - left, s[Y] - top, -HALF * s[CONIC_XX]
        n[3], n[4], n[5] = -s[CONIC_XY], -HALF * s[CONIC_YY], s[OPACITY]
        n[6] = s[REACH]
        paint[i * width] = s[DEPTH]
        for k in range(channels):
            paint[i * width + 1 + k] = colors[g, k]


@njit(cache=True)
def _deal(near, count, lists, lengths):  # type: ignore[no-untyped-def]
    """List the positions [STRIPS, CHUNK] of the gathered Gaussians that touch each strip."""
    lengths[:] = 0
    for i in range(count):
        n = near[i]
        bits = _touched(n[0], n[1], -(n[2] + n[2]), -n[3], -(n[4] + n[4]), n[6])
        while bits != 0:
            strip = lowest_bit(bits)
            lists[strip, lengths[strip]] = i
            lengths[strip] += 1
            bits &= bits - np.uint64(1)


@njit(cache=True)
def _weigh(near, members, count, strip, first, planes, weights):  # type: ignore[no-untyped-def]
    """Weights of a strip's Gaussians at its pixels; returns how many it took before it was full."""
    one, cut, top, stop, zero = splat(ONE), splat(CUT), splat(TOP), splat(STOP), splat(ZERO)
    at = strip * LANES
    center_x = splat(np.float32(strip // TILE * LANES) + HALF) + iota()
    center_y = splat(np.float32(strip % TILE) + HALF)
    live, light = load(planes, LIVE + at), load(planes, LIGHT + at)
    last = load(planes, LAST + at)
    taken = 0
    for i in range(count):
        g = members[i] * LANES
        dx, dy = spread(near, g) - center_x, spread(near, g + 1) - center_y
        share = falloff(dx, dy, spread(near, g + 2), spread(near, g + 3), spread(near, g + 4))
        raw = share * spread(near, g + 5)
        alpha = choose(raw, cut, minimum(raw, top), zero)
        after = live * (one - alpha)
        weight = choose(after, stop, live * alpha, zero)
        live = choose(after, stop, after, zero)
        light = choose(after, stop, after, light)
        last = choose(zero, weight, last, splat(np.float32(first + members[i] + 1)))
        store(weights, i * LANES, weight)
        taken = i + 1
        if taken % CHECK_EVERY == 0 and mask(zero, live) == ALL:
            break
    store(planes, LIVE + at, live)
    store(planes, LIGHT + at, light)
    store(planes, LAST + at, last)
    return taken


@njit(cache=True)
def _accumulate(paint, width, members, count, weights, planes, at):  # type: ignore[no-untyped-def]
    """Add weight times depth and channels of a strip's first `count` Gaussians, four at a time."""
    for k in range(0, width, GROUP):
        plane = SUMS + k * PIXELS + at
        a, b = load(planes, plane), load(planes, plane + PIXELS)
        c, d = load(planes, plane + 2 * PIXELS), load(planes, plane + 3 * PIXELS)
        for i in range(count):
            weight, p = load(weights, i * LANES), members[i] * width + k
            a, b = fma(weight, spread(paint, p), a), fma(weight, spread(paint, p + 1), b)
            c, d = fma(weight, spread(paint, p + 2), c), fma(weight, spread(paint, p + 3), d)
        store(planes, plane, a)
        store(planes, plane + PIXELS, b)
        store(planes, plane + 2 * PIXELS, c)
        store(planes, plane + 3 * PIXELS, d)


@njit(cache=True)
def _finish(planes, background, x0, y0, right, bottom, color, light, depth, last):  # type: ignore[no-untyped-def]
    """Write a tile's pixels to one camera's images."""
    channels = color.shape[2]
    for row in range(bottom):
        for column in range(0, right, LANES):
            at = (column // LANES * TILE + row) * LANES
            y, x, end = y0 + row, x0 + column, x0 + min(column + LANES, right)
            light[y, x:end] = planes[LIGHT + at : LIGHT + at + end - x]
            last[y, x:end] = planes[LAST + at : LAST + at + end - x]
            for i in range(end - x):
                through = planes[LIGHT + at + i]
                depth[y, x + i] = planes[SUMS + at + i] / max(ONE - through, FLOOR)
            for k in range(channels):
                plane = SUMS + (k + 1) * PIXELS + at
                for i in range(end - x):
                    through = planes[LIGHT + at + i]
                    color[y, x + i, k] = planes[plane + i] + through * background[k]


@njit(cache=True)
def _blank(background, x0, y0, right, bottom, color, light, depth, last):  # type: ignore[no-untyped-def]
    """Write the background to a tile that nothing touches."""
    window = slice(y0, y0 + bottom), slice(x0, x0 + right)
    light[window], depth[window], last[window] = ONE, ZERO, ZERO
    for row in range(bottom):
        for column in range(right):
            for k in range(color.shape[2]):
                color[y0 + row, x0 + column, k] = background[k]


@njit(cache=True)
def _blend_tile(  # type: ignore[no-untyped-def]
    splats, colors, ids, start, end, x0, y0, planes, near, weights, paint, lists, lengths
):
    """Draw the Gaussians ids[start:end], nearest first, into the planes of the tile at (x0, y0)."""
    width = paint.size // CHUNK
    flat = near.reshape(-1)
    for first in range(start, end, CHUNK):
        busy = False
        count = min(CHUNK, end - first)
        _gather(splats, colors, ids[first : first + count], x0, y0, near, paint, width)
        _deal(near, count, lists, lengths)
        for strip in range(STRIPS):
            at = strip * LANES
            if mask(splat(ZERO), load(planes, LIVE + at)) == ALL:
                continue
            busy = True
            members = lists[strip]
            taken = _weigh(flat, members, lengths[strip], strip, first - start, planes, weights)
            _accumulate(paint, width, members, taken, weights, planes, at)
        if not busy:
            break


@njit(cache=True, parallel=True, error_model="numpy")
def blend_forward(  # type: ignore[no-untyped-def]
    splats, colors, offsets, ids, background, width, height, columns, rows, workers
):
    """Composite every tile.

    Returns color [C, H, W, D] over the background [C, D], transmittance [C, H, W], expected depth
    [C, H, W] and last [C, H, W]: one past the position, in its tile's list, of the last Gaussian a
    pixel took (a float32, exact up to 2**24).
    """
    cameras, channels = splats.shape[0], colors.shape[1]
    tiles = columns * rows
    padded = (channels + GROUP) // GROUP * GROUP
    color = np.empty((cameras, height, width, channels), np.float32)
    light = np.empty((cameras, height, width), np.float32)
    depth = np.empty((cameras, height, width), np.float32)
    last = np.empty((cameras, height, width), np.float32)
    for worker in prange(workers):
        planes = np.empty(SUMS + padded * PIXELS, np.float32)
        near, weights = np.empty((CHUNK, LANES), np.float32), np.empty(CHUNK * LANES, np.float32)
        paint = np.zeros(CHUNK * padded, np.float32)
        lists, lengths = np.empty((STRIPS, CHUNK), np.int32), np.empty(STRIPS, np.int64)
        # Strided tiles share the work evenly: neighbours are about equally full.
        for job in range(worker, cameras * tiles, workers):
            c, t = job // tiles, job % tiles
            y0, x0 = t // columns * TILE, t % columns * TILE
            bottom, right = min(TILE, height - y0), min(TILE, width - x0)
            images = color[c], light[c], depth[c], last[c]
            if offsets[job] == offsets[job + 1]:
                _blank(background[c], x0, y0, right, bottom, *images)
                continue
            planes[:] = ZERO
            planes[: 2 * PIXELS] = ONE
            if right < TILE or bottom < TILE:
                _close_margin(planes, right, bottom)
            _blend_tile(
                splats[c], colors, ids, offsets[job], offsets[job + 1], x0, y0,
                planes, near, weights, paint, lists, lengths,
            )  # fmt: skip
            _finish(planes, background[c], x0, y0, right, bottom, *images)
    return color, light, depth, last


@njit(cache=True)
def _close_margin(planes, right, bottom):  # type: ignore[no-untyped-def]
    """Let the pixels of a tile that lie outside the image take nothing."""
    for pixel in range(PIXELS):
        strip = pixel // LANES
        if strip % TILE >= bottom or strip // TILE * LANES + pixel % LANES >= right:
            planes[LIVE + pixel] = ZERO
