"""Nearest triangle at every pixel of a mesh: depth, face and perspective-correct barycentrics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import get_num_threads, njit, prange
from numpy.typing import NDArray

NEAR = 0.01
"""Default near plane in metres, as in the Gaussian rasterizer."""

BANDS_PER_THREAD = 4  # more bands than threads evens out bodies that fill part of the height


@dataclass(frozen=True, slots=True, eq=False)
class FaceBuffer:
    """Which face wins each pixel of a window of the image, before anything is interpolated."""

    face: NDArray[np.int32]
    """[h, w] index into the faces, -1 where empty."""
    closeness: NDArray[np.float32]
    """[h, w] 1 / depth, 0 where empty."""
    planes: NDArray[np.float64]
    """[F, 10] edge planes for `weights_at`; rows of faces out of view are not set."""
    left: int
    """Column of the image where the window starts."""
    top: int


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
    points, triangles = np.asarray(vertices), np.asarray(faces)
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(
            f"need vertices [V, 3] and faces [F, 3], got {points.shape}, {triangles.shape}"
        )
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < len(points):
        raise ValueError(
            f"faces name vertices {triangles.min()}..{triangles.max()} of a mesh of {len(points)}"
        )
    drawn = draw_faces(points, triangles, intrinsics, width, height, near=near)
    depth = np.empty((height, width), dtype=np.float32)
    barycentric = np.empty((height, width, 3), dtype=np.float32)
    _interpolate(drawn.planes, drawn.face, depth, barycentric)
    return MeshBuffer(depth, drawn.face, barycentric)


def draw_faces(
    points: NDArray[np.floating],
    faces: NDArray[np.integer],
    intrinsics: NDArray[np.floating],
    width: int,
    height: int,
    *,
    near: float = NEAR,
    align: int = 0,
) -> FaceBuffer:
    """`mesh_zbuffer` without its checks of the mesh and without depth and barycentrics.

    Args:
        align: 0 draws the whole image; n > 0 only a window around what is in view, with edges at
            multiples of n or of the image.
    """
    lens = _lens(intrinsics)
    screen = _project(np.ascontiguousarray(points), lens, near)
    triangles = np.ascontiguousarray(faces)
    chunks = BANDS_PER_THREAD * get_num_threads()
    planes, boxes = _set_up(screen, triangles, width, height, near, chunks)
    left, top, right, bottom = 0, 0, width, height
    if align:
        left, top, right, bottom = _window(boxes, align, width, height)
    shape = (max(bottom - top, 0), max(right - left, 0))
    closeness = np.empty(shape, dtype=np.float32)
    face = np.empty(shape, dtype=np.int32)
    bands = max(1, min(shape[0], chunks))
    _fill(planes, boxes, near, bands, left, top, closeness, face)
    return FaceBuffer(face, closeness, planes, left, top)


def _window(
    boxes: NDArray[np.int32], align: int, width: int, height: int
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what boxes [F, 4] cover; empty at the origin for nothing."""
    left, top, right, bottom = _bounds(boxes)
    if right <= left:
        return 0, 0, 0, 0
    right, bottom = -(-right // align) * align, -(-bottom // align) * align
    return left // align * align, top // align * align, min(right, width), min(bottom, height)


def _lens(intrinsics: NDArray[np.floating]) -> NDArray[np.float64]:
    k = np.asarray(intrinsics, dtype=np.float64)
    if k.shape != (3, 3):
        raise ValueError(f"intrinsics must be [3, 3], got {k.shape}")
    return np.array([k[0, 0], k[1, 1], k[0, 2], k[1, 2]])


@njit(cache=True)
def _bounds(boxes):  # type: ignore[no-untyped-def]
    """Union of the boxes that are not empty."""
    left, top, right, bottom = 1 << 30, 1 << 30, 0, 0
    for f in range(boxes.shape[0]):
        if boxes[f, 2] > boxes[f, 0]:
            left, right = min(left, boxes[f, 0]), max(right, boxes[f, 2])
            top, bottom = min(top, boxes[f, 1]), max(bottom, boxes[f, 3])
    return left, top, right, bottom


@njit(cache=True, error_model="numpy")
def _project(points, lens, near):  # type: ignore[no-untyped-def]
    """Homogeneous pixel coordinates and, in front of `near`, pixels: rows (x z, y z, z, x, y)."""
    screen = np.empty((points.shape[0], 5))
    for v in range(points.shape[0]):
        x, y, z = float(points[v, 0]), float(points[v, 1]), float(points[v, 2])
        screen[v, 0] = lens[0] * x + lens[2] * z
        screen[v, 1] = lens[1] * y + lens[3] * z
        screen[v, 2] = z
        if z >= near:
            screen[v, 3], screen[v, 4] = screen[v, 0] / z, screen[v, 1] / z
    return screen


@njit(cache=True, error_model="numpy")
def _pierced_box(screen, i, j, k, near):  # type: ignore[no-untyped-def]
    """Bounds of the part beyond `near` of a triangle that is cut by it."""
    left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
    for a, b in ((i, j), (j, k), (k, i)):
        za, zb = screen[a, 2], screen[b, 2]
        if za >= near:
            x, y = screen[a, 3], screen[a, 4]
            left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
        if (za >= near) != (zb >= near):
            # The edge pierces the near plane: the crossing bounds the visible part.
            t = (near - za) / (zb - za)
            x = (screen[a, 0] + t * (screen[b, 0] - screen[a, 0])) / near
            y = (screen[a, 1] + t * (screen[b, 1] - screen[a, 1])) / near
            left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
    return left, top, right, bottom


@njit(cache=True, parallel=True, error_model="numpy")
def _set_up(screen, faces, width, height, near, chunks):  # type: ignore[no-untyped-def]
    """Edge planes [F, 10] and half-open pixel boxes (x0, y0, x1, y1) [F, 4] of every face."""
    count = faces.shape[0]
    planes = np.empty((count, 10))
    boxes = np.zeros((count, 4), np.int32)
    for chunk in prange(chunks):
        start, stop = count * chunk // chunks, count * (chunk + 1) // chunks
        _set_up_some(screen, faces, width, height, near, start, stop, planes, boxes)
    return planes, boxes


@njit(cache=True, error_model="numpy")
def _set_up_some(screen, faces, width, height, near, start, stop, planes, boxes):  # type: ignore[no-untyped-def]
    """Set up faces `start` to `stop`.

    Homogeneous rasterization (Olano and Greer 1997): with corners as (fx x + cx z, fy y + cy z, z),
    the cross product of two corners is the edge function of the third one's barycentric weight over
    z. It needs no clipping, and a shared edge gives exactly opposite numbers to its two faces, so
    that no pixel falls between them. Faces seen from behind are negated: inside is always >= 0.
    The tenth number is 1 / |determinant|, which turns the sum of the three into 1 / z.
    """
    for f in range(start, stop):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        az, bz, cz = screen[i, 2], screen[j, 2], screen[k, 2]
        if az >= near and bz >= near and cz >= near:
            left = min(screen[i, 3], screen[j, 3], screen[k, 3])
            right = max(screen[i, 3], screen[j, 3], screen[k, 3])
            top = min(screen[i, 4], screen[j, 4], screen[k, 4])
            bottom = max(screen[i, 4], screen[j, 4], screen[k, 4])
        elif az < near and bz < near and cz < near:
            continue
        else:
            left, top, right, bottom = _pierced_box(screen, i, j, k, near)
        if not (right >= 0.5 and bottom >= 0.5 and left <= width - 0.5 and top <= height - 0.5):
            continue
        x0, x1 = math.ceil(max(left, 0.5) - 0.5), math.floor(min(right, width - 0.5) + 0.5)
        y0, y1 = math.ceil(max(top, 0.5) - 0.5), math.floor(min(bottom, height - 0.5) + 0.5)
        if x1 <= x0 or y1 <= y0:
            continue
        ax, ay, bx, by = screen[i, 0], screen[i, 1], screen[j, 0], screen[j, 1]
        cx, cy = screen[k, 0], screen[k, 1]
        p0, p1, p2 = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
        volume = ax * p0 + ay * p1 + az * p2
        if volume == 0.0:
            continue  # seen edge-on
        sign = 1.0 if volume > 0.0 else -1.0
        boxes[f, 0], boxes[f, 1], boxes[f, 2], boxes[f, 3] = x0, y0, x1, y1
        planes[f, 0], planes[f, 1], planes[f, 2] = sign * p0, sign * p1, sign * p2
        planes[f, 3] = sign * (cy * az - cz * ay)
        planes[f, 4] = sign * (cz * ax - cx * az)
        planes[f, 5] = sign * (cx * ay - cy * ax)
        planes[f, 6] = sign * (ay * bz - az * by)
        planes[f, 7] = sign * (az * bx - ax * bz)
        planes[f, 8] = sign * (ax * by - ay * bx)
        planes[f, 9] = 1.0 / abs(volume)


@njit(cache=True, parallel=True, error_model="numpy")
def _fill(planes, boxes, near, bands, left, top, closeness, face):  # type: ignore[no-untyped-def]
    """Draw every face into its band of rows; bands are independent, so threads never meet."""
    height = closeness.shape[0]
    for band in prange(bands):
        first, last = height * band // bands, height * (band + 1) // bands
        _fill_band(planes, boxes, near, first, last, left, top, closeness, face)


@njit(cache=True, error_model="numpy")
def _fill_band(planes, boxes, near, first, last, left, top, closeness, face):  # type: ignore[no-untyped-def]
    """Draw what falls into rows `first` to `last`."""
    nearest = np.float32(1.0 / near)
    closeness[first:last] = 0.0
    face[first:last] = -1
    for f in range(planes.shape[0]):
        y0, y1 = max(first, boxes[f, 1] - top), min(last, boxes[f, 3] - top)
        if y0 >= y1:
            continue
        p0, p1, p2 = planes[f, 0], planes[f, 1], planes[f, 2]
        p3, p4, p5 = planes[f, 3], planes[f, 4], planes[f, 5]
        p6, p7, p8 = planes[f, 6], planes[f, 7], planes[f, 8]
        scale = planes[f, 9]
        x0, x1 = boxes[f, 0] - left, boxes[f, 2] - left
        for y in range(y0, y1):
            v = y + top + 0.5
            row0, row1, row2 = p1 * v + p2, p4 * v + p5, p7 * v + p8
            entered = False
            for x in range(x0, x1):
                u = x + left + 0.5
                w0, w1, w2 = p0 * u + row0, p3 * u + row1, p6 * u + row2
                if w0 >= 0.0 and w1 >= 0.0 and w2 >= 0.0:
                    entered = True
                    near_by = np.float32((w0 + w1 + w2) * scale)
                    if closeness[y, x] < near_by <= nearest:
                        closeness[y, x] = near_by
                        face[y, x] = f
                elif entered:
                    break  # faces are convex


@njit(cache=True, error_model="numpy", inline="always")
def weights_at(planes, f, u, v):  # type: ignore[no-untyped-def]
    """Barycentric weights of face `f` at image point (u, v), and its depth."""
    w0 = planes[f, 0] * u + (planes[f, 1] * v + planes[f, 2])
    w1 = planes[f, 3] * u + (planes[f, 4] * v + planes[f, 5])
    w2 = planes[f, 6] * u + (planes[f, 7] * v + planes[f, 8])
    share = 1.0 / (w0 + w1 + w2)
    return w0 * share, w1 * share, w2 * share, share / planes[f, 9]


@njit(cache=True, parallel=True, error_model="numpy")
def _interpolate(planes, face, depth, barycentric):  # type: ignore[no-untyped-def]
    """Fill depth and barycentrics of a whole image by its winning faces."""
    for y in prange(face.shape[0]):
        _interpolate_row(planes, face, y, depth, barycentric)


@njit(cache=True, error_model="numpy")
def _interpolate_row(planes, face, y, depth, barycentric):  # type: ignore[no-untyped-def]
    for x in range(face.shape[1]):
        f = face[y, x]
        if f < 0:
            depth[y, x] = np.inf
            barycentric[y, x, 0] = barycentric[y, x, 1] = barycentric[y, x, 2] = 0.0
            continue
        a, b, c, z = weights_at(planes, f, x + 0.5, y + 0.5)
        depth[y, x] = z
        barycentric[y, x, 0], barycentric[y, x, 1], barycentric[y, x, 2] = a, b, c
