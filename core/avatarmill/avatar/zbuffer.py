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
    planes, boxes = _set_up(screen, triangles, width, height, near)
    left, top, right, bottom = 0, 0, width, height
    if align:
        left, top, right, bottom = _window(boxes, align, width, height)
    shape = (max(bottom - top, 0), max(right - left, 0))
    closeness = np.empty(shape, dtype=np.float32)
    face = np.empty(shape, dtype=np.int32)
    bands = max(1, min(shape[0], BANDS_PER_THREAD * get_num_threads()))
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
def _pierce(a, b, near, left, top, right, bottom):  # type: ignore[no-untyped-def]
    """Grow bounds by the part beyond `near` of the edge from corner `a` to `b`, `b` left out."""
    if a[2] >= near:
        left, right = min(left, a[3]), max(right, a[3])
        top, bottom = min(top, a[4]), max(bottom, a[4])
    if (a[2] >= near) != (b[2] >= near):
        # The edge pierces the near plane: the crossing bounds the visible part.
        t = (near - a[2]) / (b[2] - a[2])
        x, y = (a[0] + t * (b[0] - a[0])) / near, (a[1] + t * (b[1] - a[1])) / near
        left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
    return left, top, right, bottom


@njit(cache=True, error_model="numpy")
def _screen_box(a, b, c, width, height, near):  # type: ignore[no-untyped-def]
    """Half-open pixel box (x0, y0, x1, y1) of the part of a triangle beyond `near`."""
    if a[2] >= near and b[2] >= near and c[2] >= near:
        left, right = min(a[3], b[3], c[3]), max(a[3], b[3], c[3])
        top, bottom = min(a[4], b[4], c[4]), max(a[4], b[4], c[4])
    else:
        left, top, right, bottom = _pierce(a, b, near, np.inf, np.inf, -np.inf, -np.inf)
        left, top, right, bottom = _pierce(b, c, near, left, top, right, bottom)
        left, top, right, bottom = _pierce(c, a, near, left, top, right, bottom)
    if not (right >= 0.5 and bottom >= 0.5 and left <= width - 0.5 and top <= height - 0.5):
        return 0, 0, 0, 0
    return (
        int(max(0.0, np.ceil(left - 0.5))),
        int(max(0.0, np.ceil(top - 0.5))),
        int(min(float(width), np.floor(right - 0.5) + 1)),
        int(min(float(height), np.floor(bottom - 0.5) + 1)),
    )


@njit(cache=True, parallel=True, error_model="numpy")
def _set_up(screen, faces, width, height, near):  # type: ignore[no-untyped-def]
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
        a, b, c = screen[faces[f, 0]], screen[faces[f, 1]], screen[faces[f, 2]]
        x0, y0, x1, y1 = _screen_box(a, b, c, width, height, near)
        if x1 <= x0 or y1 <= y0:
            continue
        p0, p1, p2 = b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]
        volume = a[0] * p0 + a[1] * p1 + a[2] * p2
        if volume == 0.0:
            continue  # seen edge-on
        sign = 1.0 if volume > 0.0 else -1.0
        boxes[f, 0], boxes[f, 1], boxes[f, 2], boxes[f, 3] = x0, y0, x1, y1
        planes[f, 0], planes[f, 1], planes[f, 2] = sign * p0, sign * p1, sign * p2
        planes[f, 3] = sign * (c[1] * a[2] - c[2] * a[1])
        planes[f, 4] = sign * (c[2] * a[0] - c[0] * a[2])
        planes[f, 5] = sign * (c[0] * a[1] - c[1] * a[0])
        planes[f, 6] = sign * (a[1] * b[2] - a[2] * b[1])
        planes[f, 7] = sign * (a[2] * b[0] - a[0] * b[2])
        planes[f, 8] = sign * (a[0] * b[1] - a[1] * b[0])
        planes[f, 9] = 1.0 / abs(volume)
    return planes, boxes


@njit(cache=True, parallel=True, error_model="numpy")
def _fill(planes, boxes, near, bands, left, top, closeness, face):  # type: ignore[no-untyped-def]
    """Draw every face into its band of rows; bands are independent, so threads never meet."""
    height = closeness.shape[0]
    nearest = np.float32(1.0 / near)
    for band in prange(bands):
        first, last = height * band // bands, height * (band + 1) // bands
        closeness[first:last] = 0.0
        face[first:last] = -1
        for f in range(planes.shape[0]):
            y0, y1 = max(first, boxes[f, 1] - top), min(last, boxes[f, 3] - top)
            if y0 >= y1:
                continue
            p = planes[f]
            p0, p3, p6, scale = p[0], p[3], p[6], p[9]
            x0, x1 = boxes[f, 0] - left, boxes[f, 2] - left
            for y in range(y0, y1):
                v = y + top + 0.5
                row0, row1, row2 = p[1] * v + p[2], p[4] * v + p[5], p[7] * v + p[8]
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
def weights_at(p, u, v):  # type: ignore[no-untyped-def]
    """Barycentric weights of a face with planes `p` [10] at image point (u, v), and its depth."""
    w0 = p[0] * u + (p[1] * v + p[2])
    w1 = p[3] * u + (p[4] * v + p[5])
    w2 = p[6] * u + (p[7] * v + p[8])
    share = 1.0 / (w0 + w1 + w2)
    return w0 * share, w1 * share, w2 * share, share / p[9]


@njit(cache=True, parallel=True, error_model="numpy")
def _interpolate(planes, face, depth, barycentric):  # type: ignore[no-untyped-def]
    """Fill depth and barycentrics of a whole image by its winning faces."""
    for y in prange(face.shape[0]):
        for x in range(face.shape[1]):
            f = face[y, x]
            if f < 0:
                depth[y, x] = np.inf
                barycentric[y, x, 0] = barycentric[y, x, 1] = barycentric[y, x, 2] = 0.0
                continue
            a, b, c, z = weights_at(planes[f], x + 0.5, y + 0.5)
            depth[y, x] = z
            barycentric[y, x, 0], barycentric[y, x, 1], barycentric[y, x, 2] = a, b, c
