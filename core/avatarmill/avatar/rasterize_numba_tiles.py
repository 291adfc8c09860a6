"""Depth-sorted lists of the Gaussians that touch each tile, per camera."""

import numpy as np
from numba import njit

from avatarmill.avatar.rasterize_numba_project import DEPTH
from avatarmill.avatar.rasterize_rules import TILE

DIGIT_BITS = 11


def tile_grid(width: int, height: int) -> tuple[int, int]:
    """Number of tile columns and rows that cover an image."""
    return -(-width // TILE), -(-height // TILE)


@njit(cache=True)
def _sort_by_depth(keys, order):  # type: ignore[no-untyped-def]
    """Stable radix sort of `order` by keys[order]; positive floats sort like their bits."""
    size = 1 << DIGIT_BITS
    mask = np.uint32(size - 1)
    source, target = order, np.empty_like(order)
    if len(order) == 0:
        return order
    lowest, highest = keys[order[0]], keys[order[0]]
    for i in order:
        lowest, highest = min(lowest, keys[i]), max(highest, keys[i])
    shift = np.uint32(0)
    # Depths of one person differ in their low bits only: mostly two passes instead of three.
    while shift < 32 and (highest - lowest) >> shift != 0:
        counts = np.zeros(size + 1, np.int64)
        for i in source:
            counts[(((keys[i] - lowest) >> shift) & mask) + 1] += 1
        for d in range(size):
            counts[d + 1] += counts[d]
        for i in source:
            digit = ((keys[i] - lowest) >> shift) & mask
            target[counts[digit]] = i
            counts[digit] += 1
        source, target = target, source
        shift += np.uint32(DIGIT_BITS)
    return source


@njit(cache=True)
def bin_tiles(splats, boxes, columns, rows):  # type: ignore[no-untyped-def]
    """Tile lists of all cameras.

    Returns offsets int64 [C * tiles + 1] and ids int32 [E]: tile t of camera c lists the Gaussians
    ids[offsets[c * tiles + t] : offsets[c * tiles + t + 1]], nearest first, equal depths by index;
    and starts int64 [C, N], the first of each Gaussian's slots when the E entries are laid out by
    Gaussian instead of by tile. One thread does it all: it is a few percent of the work.
    """
    cameras, count = boxes.shape[:2]
    tiles = columns * rows
    offsets = np.zeros(cameras * tiles + 1, np.int64)
    starts = np.empty((cameras, count), np.int64)
    running = 0
    for c in range(cameras):
        for n in range(count):
            starts[c, n] = running
            box = boxes[c, n]
            running += (box[2] - box[0]) * (box[3] - box[1])
            for ty in range(box[1], box[3]):
                for tx in range(box[0], box[2]):
                    offsets[c * tiles + ty * columns + tx + 1] += 1
    for t in range(cameras * tiles):
        offsets[t + 1] += offsets[t]
    ids = np.empty(running, np.int32)
    cursor = offsets[:-1].copy()
    for c in range(cameras):
        keys = splats[c, :, DEPTH].copy().view(np.uint32)
        for n in _sort_by_depth(keys, np.nonzero(boxes[c, :, 2])[0].astype(np.int32)):
            for ty in range(boxes[c, n, 1], boxes[c, n, 3]):
                for tx in range(boxes[c, n, 0], boxes[c, n, 2]):
                    t = c * tiles + ty * columns + tx
                    ids[cursor[t]] = n
                    cursor[t] += 1
    return offsets, ids, starts
