"""A simple shaded, textured mesh renderer: z-buffer, smooth normals, one lamp and ambient light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from avatarmill.avatar.zbuffer import mesh_zbuffer

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Lamp:
    """A distant light and light from everywhere, in the space of the vertices.

    A surface shows its colour times `ambient + directional * max(0, cosine)`, at most 1.
    """

    toward: tuple[float, float, float] = (-0.3, -0.5, -0.8)
    """Direction from the scene to the light, any length; by default above the camera's left
    shoulder (OpenCV: x right, y down, z away)."""
    ambient: float = 0.35
    directional: float = 0.65

    def __post_init__(self) -> None:
        if not any(self.toward):
            raise ValueError("toward is (0, 0, 0): give the lamp a direction")
        if self.ambient < 0 or self.directional < 0:
            raise ValueError(f"light cannot be negative, got {self.ambient} and {self.directional}")


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """An image glued to a mesh."""

    image: Floats
    """[h, w, 3] colours in 0..1."""
    uv: Floats
    """[T, 2] texture coordinates: (0, 0) is the image's lower left corner, (1, 1) its upper right.
    Beyond 0..1 the image repeats."""
    faces: NDArray[np.integer]
    """[F, 3] rows of `uv` for the corners of the mesh's faces."""

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or not self.image.size:
            raise ValueError(f"image must be [h, w, 3], got {list(self.image.shape)}")
        if self.uv.ndim != 2 or self.uv.shape[1] != 2:
            raise ValueError(f"uv must be [T, 2], got {list(self.uv.shape)}")
        if self.faces.size and not 0 <= self.faces.min() <= self.faces.max() < len(self.uv):
            raise ValueError(
                f"texture faces name rows {self.faces.min()}..{self.faces.max()} of "
                f"{len(self.uv)} uv"
            )


@dataclass(frozen=True, slots=True, eq=False)
class MeshImage:
    """A rendered mesh."""

    color: Floats
    """[H, W, 3] in 0..1, black where empty."""
    mask: NDArray[np.bool_]
    """[H, W] whether the mesh covers the pixel's centre."""
    depth: Floats
    """[H, W] metres along z, inf where empty."""


def render_mesh(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    intrinsics: NDArray[np.floating],
    width: int,
    height: int,
    *,
    paint: Floats | Texture,
    lamp: Lamp | None = None,
) -> MeshImage:
    """Draw a mesh in camera space (OpenCV, metres) with smooth shading, both sides of each face.

    The same bits on any number of threads. Normals are the area-weighted means of the faces around
    a vertex and turn towards the camera where a face is seen from behind.

    Args:
        vertices: [V, 3].
        faces: [F, 3] vertex indices, all turning the same way round.
        intrinsics: [3, 3] in pixels.
        paint: [3] one colour, [V, 3] colours of vertices, or a texture; 0..1.
        lamp: the light; `Lamp()` without it.

    Raises:
        ValueError: shapes do not match.
    """
    buffer = mesh_zbuffer(vertices, faces, intrinsics, width, height)
    lamp = lamp or Lamp()
    light = np.array(lamp.toward, np.float64)
    light /= np.linalg.norm(light)
    points = np.ascontiguousarray(vertices, dtype=np.float64)
    corners = np.ascontiguousarray(faces, dtype=np.int64)
    if isinstance(paint, Texture):
        if paint.faces.shape != corners.shape:
            raise ValueError(
                f"texture faces must be {list(corners.shape)}, got {list(paint.faces.shape)}"
            )
        spots = np.ascontiguousarray(paint.uv[paint.faces], dtype=np.float32)
        image = np.ascontiguousarray(paint.image, dtype=np.float32)
    else:
        if paint.shape not in ((3,), (len(points), 3)):
            raise ValueError(f"paint must be [3] or [{len(points)}, 3], got {list(paint.shape)}")
        colors = np.broadcast_to(paint, (len(points), 3))
        spots = np.ascontiguousarray(colors[corners], dtype=np.float32)
        image = np.zeros((0, 0, 3), np.float32)
    strengths = np.array([lamp.ambient, lamp.directional])
    color = _shade(
        *(buffer.face, buffer.barycentric, corners, vertex_normals(points, corners)),
        *(_lens_inverse(intrinsics), spots, image, light, strengths),
    )
    return MeshImage(color, buffer.face >= 0, buffer.depth)


def vertex_normals(points: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Area-weighted unit normals [V, 3]; zeros at vertices without a face."""
    normals = np.zeros((len(points), 3))
    _add_normals(points, faces, normals)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.maximum(lengths, 1e-30))


def _lens_inverse(intrinsics: NDArray[np.floating]) -> NDArray[np.float64]:
    """(1 / fx, 1 / fy, cx, cy)."""
    k = np.asarray(intrinsics, np.float64)
    return np.array([1 / k[0, 0], 1 / k[1, 1], k[0, 2], k[1, 2]])


@njit(cache=True)
def _add_normals(points, faces, normals):  # type: ignore[no-untyped-def]
    """Add each face's cross product, twice its area long, to its corners; in the faces' order."""
    for f in range(faces.shape[0]):
        a, b, c = points[faces[f, 0]], points[faces[f, 1]], points[faces[f, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        for i in range(3):
            normals[faces[f, i], 0] += uy * vz - uz * vy
            normals[faces[f, i], 1] += uz * vx - ux * vz
            normals[faces[f, i], 2] += ux * vy - uy * vx


@njit(cache=True)
def _texel(image, u, v, channel):  # type: ignore[no-untyped-def]
    """Bilinear, repeating look-up; texel centres lie at half integers, v points up."""
    height, width = image.shape[0], image.shape[1]
    x, y = u * width - 0.5, (1.0 - v) * height - 0.5
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - x0, y - y0
    left, right, top, bottom = x0 % width, (x0 + 1) % width, y0 % height, (y0 + 1) % height
    upper = image[top, left, channel] * (1 - fx) + image[top, right, channel] * fx
    lower = image[bottom, left, channel] * (1 - fx) + image[bottom, right, channel] * fx
    return upper * (1 - fy) + lower * fy


@njit(cache=True)
def _blend(weights, values, k):  # type: ignore[no-untyped-def]
    """Component k of the corners' values [3, K] mixed by weights [3]."""
    return weights[0] * values[0, k] + weights[1] * values[1, k] + weights[2] * values[2, k]


@njit(cache=True)
def _brightness(normal, seen, light, strengths):  # type: ignore[no-untyped-def]
    """Light on a surface whose front or back faces the eye; `seen` points from the eye to it."""
    length, cosine, facing = 0.0, 0.0, 0.0
    for k in range(3):
        length += normal[k] * normal[k]
        cosine += normal[k] * light[k]
        facing += normal[k] * seen[k]
    cosine = cosine / max(np.sqrt(length), 1e-30)
    if facing > 0.0:
        cosine = -cosine
    return min(strengths[0] + strengths[1] * max(cosine, 0.0), 1.0)


@njit(cache=True, parallel=True)
def _shade(face, barycentric, corners, normals, lens, spots, image, light, strengths):  # type: ignore[no-untyped-def]
    """Colours [H, W, 3]; `spots` [F, 3, K] are colours, or texture coordinates of `image`."""
    height, width = face.shape
    color = np.zeros((height, width, 3), np.float32)
    for y in prange(height):
        corner_normals, normal, seen = np.empty((3, 3)), np.empty(3), np.ones(3)
        for x in range(width):
            f = face[y, x]
            if f < 0:
                continue
            weights = barycentric[y, x]
            for i in range(3):
                corner_normals[i] = normals[corners[f, i]]
            for k in range(3):
                normal[k] = _blend(weights, corner_normals, k)
            seen[0], seen[1] = (x + 0.5 - lens[2]) * lens[0], (y + 0.5 - lens[3]) * lens[1]
            bright = _brightness(normal, seen, light, strengths)
            for k in range(3):
                if image.shape[0] > 0:
                    u, v = _blend(weights, spots[f], 0), _blend(weights, spots[f], 1)
                    color[y, x, k] = bright * _texel(image, u, v, k)
                else:
                    color[y, x, k] = bright * _blend(weights, spots[f], k)
    return color
