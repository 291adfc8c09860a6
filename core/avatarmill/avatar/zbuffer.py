"""Nearest triangle at every pixel of a mesh: depth, face and perspective-correct barycentrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import get_num_threads, njit, prange
from numpy.typing import NDArray

NEAR = 0.01
"""Default near plane in metres, as in the Gaussian rasterizer."""

BANDS_PER_THREAD = 4  # more bands than threads evens out bodies that fill part of the height


@dataclass(frozen=True, slots=True, eq=False)
class MeshBuffer:
    """What one camera sees of a mesh; arrays are [H, W, ...]."""

    depth: NDArray[np.float32]
    """[H, W] metres along z, inf where empty."""
    face: NDArray[np.int32]
    """[H, W] index into the faces, -1 where empty."""
    barycentric: NDArray[np.float32]
    """[H, W, 3] weights of the face's vertices, summing to 1; zeros where empty."""

    def interpolate(
        self, values: NDArray[np.float32], faces: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Per-vertex values [V, D] at every pixel, [H, W, D]; zeros where empty."""
        corners = values[faces[np.maximum(self.face, 0)]]
        mixed: NDArray[np.float32] = np.einsum("hwk,hwkd->hwd", self.barycentric, corners)
        return mixed.astype(np.float32, copy=False)


def mesh_zbuffer(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    intrinsics: NDArray[np.floating],
    width: int,
    height: int,
    *,
    near: float = NEAR,
) -> MeshBuffer:
    """Rasterize a triangle mesh, both sides of each face, sampled at pixel centres (+0.5).

    Faces that cross the near plane are cut there exactly. Of two faces at one depth the one with
    the lower index wins, so the result does not depend on the number of threads.

    Args:
        vertices: [V, 3] in camera space (OpenCV), metres.
        faces: [F, 3] vertex indices.
        intrinsics: [3, 3] in pixels, no skew.
        near: nearest depth drawn, metres.

    Raises:
        ValueError: shapes are wrong or a face names a vertex that does not exist.
    """
    points = np.ascontiguousarray(vertices, dtype=np.float64)
    triangles = np.ascontiguousarray(faces, dtype=np.int64)
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(
            f"need vertices [V, 3] and faces [F, 3], got {points.shape}, {triangles.shape}"
        )
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(points):
        raise ValueError(
            f"faces name vertices {triangles.min()}..{triangles.max()} of a mesh of {len(points)}"
        )
    planes, boxes = _set_up(points, triangles, _lens(intrinsics), width, height, near)
    depth = np.empty((height, width), dtype=np.float32)
    face = np.full((height, width), -1, dtype=np.int32)
    barycentric = np.zeros((height, width, 3), dtype=np.float32)
    bands = min(height, BANDS_PER_THREAD * get_num_threads())
    _fill(planes, boxes, near, bands, depth, face, barycentric)
    return MeshBuffer(depth, face, barycentric)


def _lens(intrinsics: NDArray[np.floating]) -> NDArray[np.float64]:
    k = np.asarray(intrinsics, dtype=np.float64)
    if k.shape != (3, 3):
        raise ValueError(f"intrinsics must be [3, 3], got {k.shape}")
    return np.array([k[0, 0], k[1, 1], k[0, 2], k[1, 2]])


@njit(cache=True)
def _screen_box(corners, width, height, near, box):  # type: ignore[no-untyped-def]
    """Half-open pixel box (x0, y0, x1, y1) of the part of a homogeneous triangle beyond `near`."""
    left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
    for i in range(3):
        z = corners[i, 2]
        if z >= near:
            x, y = corners[i, 0] / z, corners[i, 1] / z
            left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
        j = (i + 1) % 3
        if (z >= near) != (corners[j, 2] >= near):
            # The edge pierces the near plane: the crossing bounds the visible part.
            t = (near - z) / (corners[j, 2] - z)
            x = (corners[i, 0] + t * (corners[j, 0] - corners[i, 0])) / near
            y = (corners[i, 1] + t * (corners[j, 1] - corners[i, 1])) / near
            left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
    if not (right >= 0.5 and bottom >= 0.5 and left <= width - 0.5 and top <= height - 0.5):
        box[:] = 0
        return
    box[0] = max(0.0, np.ceil(left - 0.5))
    box[1] = max(0.0, np.ceil(top - 0.5))
    box[2] = min(float(width), np.floor(right - 0.5) + 1)
    box[3] = min(float(height), np.floor(bottom - 0.5) + 1)


@njit(cache=True, parallel=True)
def _set_up(vertices, faces, lens, width, height, near):  # type: ignore[no-untyped-def]
    """Edge planes [F, 10] and pixel boxes [F, 4] of every face.

    Homogeneous rasterization (Olano and Greer 1997): with corners as (fx x + cx z, fy y + cy z, z),
    the cross product of two corners is the edge function of the third one's barycentric weight over
    z. It needs no clipping, and a shared edge gives exactly opposite numbers to its two faces, so
    that no pixel falls between them. Faces seen from behind are negated: inside is always >= 0.
    The tenth number is 1 / |determinant|, which turns the sum of the three into 1 / z.
    """
    count = faces.shape[0]
    planes = np.empty((count, 10))
    boxes = np.zeros((count, 4), np.int32)
    for f in prange(count):
        corners = np.empty((3, 3))
        for i in range(3):
            x, y, z = vertices[faces[f, i]]
            corners[i, 0] = lens[0] * x + lens[2] * z
            corners[i, 1] = lens[1] * y + lens[3] * z
            corners[i, 2] = z
        _screen_box(corners, width, height, near, boxes[f])
        if boxes[f, 2] <= boxes[f, 0] or boxes[f, 3] <= boxes[f, 1]:
            continue
        for i in range(3):
            a, b = corners[(i + 1) % 3], corners[(i + 2) % 3]
            planes[f, 3 * i] = a[1] * b[2] - a[2] * b[1]
            planes[f, 3 * i + 1] = a[2] * b[0] - a[0] * b[2]
            planes[f, 3 * i + 2] = a[0] * b[1] - a[1] * b[0]
        volume = (
            corners[0, 0] * planes[f, 0]
            + corners[0, 1] * planes[f, 1]
            + corners[0, 2] * planes[f, 2]
        )
        if volume == 0.0:
            boxes[f] = 0  # seen edge-on
            continue
        if volume < 0.0:
            planes[f] = -planes[f]
        planes[f, 9] = 1.0 / abs(volume)
    return planes, boxes


@njit(cache=True, parallel=True)
def _fill(planes, boxes, near, bands, depth, face, barycentric):  # type: ignore[no-untyped-def]
    """Draw every face into its band of rows; bands are independent, so threads never meet."""
    height, width = depth.shape
    nearest = np.float32(1.0 / near)
    for band in prange(bands):
        top, bottom = height * band // bands, height * (band + 1) // bands
        depth[top:bottom] = 0.0  # holds 1 / z while faces compete: nothing is divided for losers
        for f in range(planes.shape[0]):
            p = planes[f]
            for y in range(max(top, boxes[f, 1]), min(bottom, boxes[f, 3])):
                v = y + 0.5
                row0 = p[1] * v + p[2]
                row1 = p[4] * v + p[5]
                row2 = p[7] * v + p[8]
                for x in range(boxes[f, 0], boxes[f, 2]):
                    u = x + 0.5
                    w0, w1, w2 = p[0] * u + row0, p[3] * u + row1, p[6] * u + row2
                    if w0 >= 0.0 and w1 >= 0.0 and w2 >= 0.0:
                        closeness = np.float32((w0 + w1 + w2) * p[9])
                        if depth[y, x] < closeness <= nearest:
                            depth[y, x] = closeness
                            face[y, x] = f
        for y in range(top, bottom):
            for x in range(width):
                f = face[y, x]
                if f < 0:
                    depth[y, x] = np.inf
                    continue
                p, u, v = planes[f], x + 0.5, y + 0.5
                w0 = p[0] * u + (p[1] * v + p[2])
                w1 = p[3] * u + (p[4] * v + p[5])
                w2 = p[6] * u + (p[7] * v + p[8])
                share = 1.0 / (w0 + w1 + w2)
                depth[y, x] = share / p[9]
                barycentric[y, x, 0] = w0 * share
                barycentric[y, x, 1] = w1 * share
                barycentric[y, x, 2] = w2 * share
