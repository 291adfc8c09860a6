"""Triangle surfaces that are skinned like the body: cutting, offsetting, smoothing and lofting."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

Float = NDArray[np.float32]
Index = NDArray[np.int64]


class Material(IntEnum):
    """What a face is made of; the renderer picks the albedo rule by it."""

    SKIN = 0
    EYE = 1
    MOUTH = 2
    HAIR = 3
    TOP = 4
    BOTTOM = 5
    SHOES = 6
    GLASSES = 7
    HAT = 8
    PROP = 9
    """A rigid thing that nobody wears, in its own paint."""
    SHIRT = 10
    """What shows under an open coat."""


class Zone(IntEnum):
    """The axis a pattern is wrapped around."""

    TRUNK = 0
    LEFT_ARM = 1
    RIGHT_ARM = 2
    LEFT_LEG = 3
    RIGHT_LEG = 4


@dataclass(frozen=True, slots=True)
class Surface:
    """A piece of an actor in the rest pose."""

    points: Float
    """[V, 3] metres."""
    weights: Float
    """[V, 55] skinning weights, rows sum to 1."""
    faces: Index
    """[F, 3]"""
    material: Material
    zone: NDArray[np.uint8]
    """[F] values of `Zone`."""

    def __post_init__(self) -> None:
        if self.points.shape != (len(self.weights), 3) or len(self.zone) != len(self.faces):
            raise ValueError(
                f"points {self.points.shape}, weights {self.weights.shape}, faces"
                f" {self.faces.shape} and zone {self.zone.shape} do not belong together"
            )


def cut(faces: Index, values: Float, level: Float) -> tuple[Index, Float]:
    """The part of a mesh where `level` >= 0, faces across the border cut along it.

    Args:
        faces: [F, 3].
        values: [V, D] anything that may be interpolated along edges.
        level: [V].

    Returns:
        Faces [F', 3] and values [V', D]; vertices that are not used are dropped.
    """
    inside = level >= 0
    corner = inside[faces]
    count = corner.sum(1)
    # Rotate each cut face so that its odd vertex comes first.
    odd = np.where(count == 1, corner.argmax(1), (~corner).argmax(1))
    turned = np.take_along_axis(faces, (odd[:, None] + np.arange(3)) % 3, axis=1)
    one, two = turned[count == 1], turned[count == 2]
    edges = np.concatenate([one[:, [0, 1]], one[:, [0, 2]], two[:, [0, 1]], two[:, [0, 2]]])
    pairs, which = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
    a, b = pairs.T
    share = (level[a] / np.where(level[a] == level[b], 1, level[a] - level[b]))[:, None]
    added = values[a] + share * (values[b] - values[a])
    ids = which.reshape(-1) + len(values)
    first, second, third, fourth = np.split(ids, np.cumsum([len(one), len(one), len(two)]))
    kept = np.concatenate(
        [
            faces[count == 3],
            np.stack([one[:, 0], first, second], axis=1),
            np.stack([third, two[:, 1], two[:, 2]], axis=1),
            np.stack([third, two[:, 2], fourth], axis=1),
        ]
    )
    return compact(kept, np.concatenate([values, added.astype(values.dtype)]))


def compact(faces: Index, values: Float) -> tuple[Index, Float]:
    """Drop vertices that no face uses."""
    used, renumbered = np.unique(faces, return_inverse=True)
    return renumbered.reshape(-1, 3).astype(np.int64), values[used]


def vertex_normals(points: Float, faces: Index) -> Float:
    """Area-weighted unit normals [V, 3]."""
    normals = np.zeros_like(points)
    accumulate_normals(points, faces, normals)
    return normals


@njit(cache=True)
def accumulate_normals(points, faces, normals):  # type: ignore[no-untyped-def]
    """Write area-weighted unit vertex normals [V, 3] of one mesh into `normals`."""
    normals[:] = 0
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax = points[j, 0] - points[i, 0]
        ay = points[j, 1] - points[i, 1]
        az = points[j, 2] - points[i, 2]
        bx = points[k, 0] - points[i, 0]
        by = points[k, 1] - points[i, 1]
        bz = points[k, 2] - points[i, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(normals.shape[0]):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        length = np.sqrt(x * x + y * y + z * z) + 1e-12
        normals[v, 0] = x / length
        normals[v, 1] = y / length
        normals[v, 2] = z / length


def averaging(faces: Index, count: int) -> csr_matrix:
    """Sparse [count, count] matrix that replaces each vertex by the mean of its neighbours."""
    row = faces[:, [0, 1, 2, 1, 2, 0]].reshape(-1)
    column = faces[:, [1, 2, 0, 0, 1, 2]].reshape(-1)
    links = coo_matrix((np.ones(len(row), np.float32), (row, column)), (count, count)).tocsr()
    links.data[:] = 1
    degree = np.asarray(links.sum(1)).reshape(-1)
    links.data /= np.repeat(np.maximum(degree, 1), np.diff(links.indptr)).astype(np.float32)
    return links


def smooth(values: Float, mean: csr_matrix, steps: int) -> Float:
    """`steps` rounds of moving each vertex half-way to the mean of its neighbours."""
    for _ in range(steps):
        values = np.asarray(0.5 * values + 0.5 * (mean @ values), np.float32)
    return values


def inflate(points: Float, faces: Index, clearance: Float, steps: int) -> Float:
    """A cloth-like shell: the surface smoothed, then pushed out where it is closer than asked.

    Args:
        points: [V, 3] body surface.
        faces: [F, 3].
        clearance: [V] least distance along the body's normal, metres.
        steps: rounds of smoothing; more hide more of the body's detail.
    """
    mean = averaging(faces, len(points))
    normals = smooth(vertex_normals(points, faces), mean, 2)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    relaxed = smooth(points, mean, steps)
    out = ((relaxed - points) * normals).sum(1)
    lifted = relaxed + normals * np.maximum(clearance - out, 0)[:, None]
    # The push leaves small steps between vertices; one more round takes them out.
    return smooth_border(smooth(lifted, mean, 1) + normals * 0.001, faces, 12)


def smooth_border(points: Float, faces: Index, steps: int) -> Float:
    """Smooth the open edges of a surface along themselves: hems and necklines become lines."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    pairs, count = np.unique(edges, axis=0, return_counts=True)
    open_edges = pairs[count == 1]
    row = open_edges.reshape(-1)
    column = open_edges[:, ::-1].reshape(-1)
    size = len(points)
    links = coo_matrix((np.ones(len(row), np.float32), (row, column)), (size, size)).tocsr()
    degree = np.asarray(links.sum(1)).reshape(-1)
    border = np.flatnonzero(degree == 2)
    smoothed = points.copy()
    for _ in range(steps):
        smoothed[border] = 0.5 * smoothed[border] + 0.25 * (links @ smoothed)[border]
    return smoothed


def loft(rings: Float, *, closed: bool) -> tuple[Float, Index]:
    """A surface through rings of points.

    Args:
        rings: [K, M, 3], K rings of M points each, in the same order around.
        closed: whether the last point of a ring joins the first.

    Returns:
        Points [K * M, 3] and faces; outside is where the ring's order times the ring direction
        points (counter-clockwise seen from outside for rings that go up).
    """
    count, around = rings.shape[:2]
    columns = np.arange(around if closed else around - 1)
    following = (columns + 1) % around
    base = np.arange(count - 1)[:, None] * around
    a, b = base + columns, base + following
    c, d = a + around, b + around
    faces = np.stack([np.stack([a, b, d], -1), np.stack([a, d, c], -1)], axis=2)
    return rings.reshape(-1, 3).astype(np.float32), faces.reshape(-1, 3).astype(np.int64)


def sparse_weights(
    weights: Float, *, keep: int = 8
) -> tuple[NDArray[np.int32], NDArray[np.uint8], Float]:
    """CSR form (row starts [V + 1], joints, values) of skinning weights [V, 55].

    Only weights above 1e-4 are kept, the `keep` largest of a row, and rows sum to 1 again.
    """
    order = np.argsort(-weights, axis=1, kind="stable")[:, :keep]
    value = np.take_along_axis(weights, order, axis=1)
    value = np.where(value > 1e-4, value, 0)
    value /= value.sum(1, keepdims=True)
    used = value > 0
    starts = np.concatenate([[0], np.cumsum(used.sum(1))]).astype(np.int32)
    return starts, order[used].astype(np.uint8), value[used].astype(np.float32)


@njit(cache=True)
def skin(rest, starts, joints, values, transforms, out):  # type: ignore[no-untyped-def]
    """Linear blend skinning of rest points [V, 3] by transforms [55, 3, 4] into `out` [V, 3]."""
    m = np.empty(12, np.float32)
    for v in range(rest.shape[0]):
        m[:] = 0
        for k in range(starts[v], starts[v + 1]):
            w = values[k]
            t = transforms[joints[k]]
            for r in range(3):
                for c in range(4):
                    m[4 * r + c] += w * t[r, c]
        x, y, z = rest[v, 0], rest[v, 1], rest[v, 2]
        for r in range(3):
            out[v, r] = m[4 * r] * x + m[4 * r + 1] * y + m[4 * r + 2] * z + m[4 * r + 3]
