"""Cutting, lofting, smoothing and skinning of surfaces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.synth.actor import Actor, free_body, sample_actor
from avatarmill.synth.surfaces import (
    Material,
    Surface,
    averaging,
    cut,
    loft,
    skin,
    smooth_border,
    sparse_weights,
    vertex_normals,
)


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A flat square of triangles in the z = 0 plane: faces, points."""
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    rings = np.stack([x, y, 0 * x], axis=-1).astype(np.float32)
    points, faces = loft(rings, closed=False)
    return faces, points


def area(points: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (points[faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


@given(st.floats(0.05, 0.95), st.floats(-1, 1), st.integers(3, 9))
def test_cut_keeps_exactly_the_positive_side(offset: float, slope: float, size: int) -> None:
    faces, points = grid(size)
    level = (points[:, 0] + slope * (points[:, 1] - 0.5) - offset).astype(np.float32)
    kept_faces, kept = cut(faces, points, level)
    rest_faces, rest = cut(faces, points, -level)
    assert area(kept, kept_faces) + area(rest, rest_faces) == pytest.approx(1, abs=1e-4)
    assert (kept[:, 0] + slope * (kept[:, 1] - 0.5) - offset).min(initial=0) > -1e-5
    assert len(np.unique(kept_faces)) == len(kept)


def test_loft_faces_outwards() -> None:
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.sin(angles), 0 * angles, np.cos(angles)], axis=-1)
    points, faces = loft(np.stack([ring + [0, h, 0] for h in (0, 1, 2)]), closed=True)
    normals = vertex_normals(points, faces)
    assert ((normals * points * [1, 0, 1]).sum(1) > 0.9).all()


def test_smoothing_borders_leaves_the_inside_alone() -> None:
    faces, points = grid(6)
    moved = smooth_border(points, faces, 3)
    inside = (points[:, :2] > 0.01).all(1) & (points[:, :2] < 0.99).all(1)
    np.testing.assert_array_equal(moved[inside], points[inside])
    rows = np.asarray(averaging(faces, len(points)).sum(1))
    np.testing.assert_allclose(rows, 1, rtol=1e-5)


@pytest.fixture(scope="module")
def actor() -> Actor:
    return sample_actor(np.random.default_rng(11))


def test_weights_of_clothes_are_weights(actor: Actor) -> None:
    mesh = actor.mesh
    sums = np.add.reduceat(mesh.values, mesh.starts[:-1])
    np.testing.assert_allclose(sums, 1, rtol=1e-5)
    assert mesh.joints.max() < 55 and mesh.values.min() > 0
    assert mesh.faces.min() == 0 and mesh.faces.max() == len(mesh.rest) - 1


def test_sparse_skinning_equals_the_dense_sum() -> None:
    rng = np.random.default_rng(0)
    weights = free_body().weights.numpy()[::50]
    rest = rng.normal(size=(len(weights), 3)).astype(np.float32)
    transforms = rng.normal(size=(55, 3, 4)).astype(np.float32)
    out = np.empty_like(rest)
    skin(rest, *sparse_weights(weights), transforms, out)
    blended = np.einsum("vj,jrc->vrc", weights, transforms)
    expected = (blended[:, :, :3] @ rest[..., None])[..., 0] + blended[:, :, 3]
    np.testing.assert_allclose(out, expected, atol=2e-3)


def test_a_surface_checks_its_parts() -> None:
    points, weights = np.zeros((3, 3), np.float32), np.zeros((2, 55), np.float32)
    with pytest.raises(ValueError, match="do not belong together"):
        Surface(points, weights, np.zeros((1, 3), np.int64), Material.TOP, np.zeros(1, np.uint8))
