"""Closest points on triangles, vectorised: used once to seat Gaussians on the body's surface."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def closest_barycentric(points: Floats, triangles: Floats) -> tuple[Floats, Floats]:
    """Closest point of each triangle to its point.

    Args:
        points: [P, 3].
        triangles: [P, M, 3, 3], M candidate triangles a point, corner by corner.

    Returns:
        Barycentric coordinates [P, M, 3], non-negative with sum 1, and distances [P, M].
    """
    point = points[:, None, :]
    inside = _plane_barycentric(point, triangles)
    candidates = [inside] + [_edge_barycentric(point, triangles, edge) for edge in range(3)]
    stacked = np.stack(candidates)
    foot = np.einsum("cpmk,pmkx->cpmx", stacked, triangles)
    distance = np.linalg.norm(foot - point, axis=-1)
    # A foot outside the triangle is nearer than any point of it, so it must not win.
    distance[0][(inside < 0.0).any(axis=-1)] = np.inf
    best = distance.argmin(axis=0)
    picked = np.take_along_axis(stacked, best[None, ..., None], axis=0)[0]
    return picked, np.take_along_axis(distance, best[None], axis=0)[0]


def _plane_barycentric(point: Floats, triangles: Floats) -> Floats:
    """Barycentric coordinates of the foot of the perpendicular; may be negative."""
    origin = triangles[..., 0, :]
    first, second = triangles[..., 1, :] - origin, triangles[..., 2, :] - origin
    offset = point - origin
    d00, d01, d11 = _dot(first, first), _dot(first, second), _dot(second, second)
    d20, d21 = _dot(offset, first), _dot(offset, second)
    determinant = np.maximum(d00 * d11 - d01 * d01, 1e-20)
    v = (d11 * d20 - d01 * d21) / determinant
    w = (d00 * d21 - d01 * d20) / determinant
    return np.stack([1.0 - v - w, v, w], axis=-1)


def _edge_barycentric(point: Floats, triangles: Floats, edge: int) -> Floats:
    """Barycentric coordinates of the closest point on one edge."""
    start, stop = edge, (edge + 1) % 3
    origin = triangles[..., start, :]
    along = triangles[..., stop, :] - origin
    t = _dot(point - origin, along) / np.maximum(_dot(along, along), 1e-20)
    t = np.clip(t, 0.0, 1.0)
    barycentric = np.zeros(triangles.shape[:-1])
    barycentric[..., start] = 1.0 - t
    barycentric[..., stop] = t
    return barycentric


def _dot(left: Floats, right: Floats) -> Floats:
    product: Floats = (left * right).sum(axis=-1)
    return product
