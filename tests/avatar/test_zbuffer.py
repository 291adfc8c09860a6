"""The mesh z-buffer against ray casting, at the near plane and on shared edges."""

import numpy as np
import pytest
from numpy.typing import NDArray

from avatarmill.avatar.zbuffer import MeshBuffer, mesh_zbuffer

LENS = np.array([[40.0, 0, 16], [0, 44.0, 12], [0, 0, 1]], dtype=np.float32)
WIDTH, HEIGHT = 32, 24


def cast_rays(
    vertices: NDArray[np.float64], faces: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Moller-Trumbore for every pixel and face: depth, face, barycentrics."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    rays = np.stack([(x - 16) / 40, (y - 12) / 44, np.ones_like(x)], axis=-1)[:, :, None]
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(rays, c - a)
    det = (normal * (b - a)).sum(-1)
    u = (normal * -a).sum(-1) / det
    back = np.cross(-a, b - a)
    v = (rays * back).sum(-1) / det
    t = ((c - a) * back).sum(-1) / det
    t = np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 0.01), t, np.inf)
    face = t.argmin(-1)

    def pick(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.take_along_axis(values, face[..., None], -1)[..., 0]

    u, v, t = pick(u), pick(v), pick(t)
    return t, np.where(np.isfinite(t), face, -1), np.stack([1 - u - v, u, v], axis=-1)


@pytest.mark.parametrize("seed", range(4))
def test_equals_ray_casting_also_through_the_near_plane(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices = rng.uniform([-1, -1, -1.0], [1, 1, 3.0], (60, 3))
    faces = rng.integers(0, 60, (40, 3))
    faces = faces[[len(set(face)) == 3 for face in faces]]
    depth, face, barycentric = cast_rays(vertices, faces)
    buffer = mesh_zbuffer(vertices, faces, LENS, WIDTH, HEIGHT)
    np.testing.assert_array_equal(buffer.face, face)
    np.testing.assert_allclose(buffer.depth, depth, rtol=1e-5)
    seen = face >= 0
    assert seen.mean() > 0.3
    np.testing.assert_allclose(buffer.barycentric[seen], barycentric[seen], atol=2e-5)


def grid_mesh(size: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A slanted, jittered sheet that overfills the image."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:size, 0:size] / (size - 1) * 4 - 2
    x, y = x + rng.uniform(-0.4, 0.4, x.shape) / size, y + rng.uniform(-0.4, 0.4, y.shape) / size
    vertices = np.stack([x, y, 2 + 0.3 * x], axis=-1).reshape(-1, 3)
    corner = (np.arange(size - 1)[:, None] * size + np.arange(size - 1)).reshape(-1)
    lower = np.stack([corner, corner + 1, corner + size], axis=-1)
    upper = np.stack([corner + 1, corner + size + 1, corner + size], axis=-1)
    return vertices.astype(np.float32), np.concatenate([lower, upper])


def test_a_closed_sheet_has_no_holes_and_interpolates_positions() -> None:
    vertices, faces = grid_mesh(150)
    buffer = mesh_zbuffer(vertices, faces, LENS, WIDTH, HEIGHT)
    assert (buffer.face >= 0).all()
    points = buffer.interpolate(vertices, faces)
    np.testing.assert_allclose(points[..., 2], buffer.depth, rtol=1e-5)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    np.testing.assert_allclose(points[..., 0] / points[..., 2] * 40 + 16, x, atol=1e-3)
    np.testing.assert_allclose(points[..., 1] / points[..., 2] * 44 + 12, y, atol=1e-3)
    assert points.dtype == np.float32


def test_winding_does_not_matter_and_ties_go_to_the_lower_face() -> None:
    vertices, faces = grid_mesh(6)
    front = mesh_zbuffer(vertices, faces, LENS, WIDTH, HEIGHT)
    back = mesh_zbuffer(vertices, faces[:, ::-1], LENS, WIDTH, HEIGHT)
    np.testing.assert_array_equal(front.face, back.face)
    doubled = mesh_zbuffer(vertices, np.concatenate([faces, faces]), LENS, WIDTH, HEIGHT)
    np.testing.assert_array_equal(doubled.face, front.face)


def test_nothing_in_view_is_empty() -> None:
    behind = np.array([[0, 0, -1], [1, 0, -1], [0, 1, -2.0]])
    buffer: MeshBuffer = mesh_zbuffer(behind, np.array([[0, 1, 2]]), LENS, WIDTH, HEIGHT)
    assert np.isinf(buffer.depth).all() and (buffer.face == -1).all()
    assert not buffer.barycentric.any()
    none = mesh_zbuffer(behind, np.zeros((0, 3), np.int64), LENS, WIDTH, HEIGHT)
    assert (none.face == -1).all()


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (np.zeros((4, 2)), np.zeros((1, 3), np.int64), r"vertices \[V, 3\]"),
        (np.zeros((4, 3)), np.array([[0, 1, 4]]), "vertices 0..4 of a mesh of 4"),
    ],
)
def test_bad_meshes_are_refused(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mesh_zbuffer(vertices, faces, LENS, WIDTH, HEIGHT)
