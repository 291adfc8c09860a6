"""Cameras project as the OpenCV convention says, and crops only re-label pixels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.avatar.camera import (
    Cameras,
    crop_intrinsics,
    intrinsics_from_fov,
    look_at,
    orbit,
    project_points,
)


def test_front_camera_sees_the_body_upright() -> None:
    front = orbit([0.0], width=200, height=100, distance=2.0)
    pixels, depth = front.project(torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0, 0.3, 0], [0, 0, 1]]))
    torch.testing.assert_close(pixels[0, 0], torch.tensor([100.0, 50.0]))
    assert pixels[0, 1, 0] > 100  # the body's left (+x) is on the right of the image
    assert pixels[0, 2, 1] < 50  # up is towards row 0
    torch.testing.assert_close(depth[0], torch.tensor([2.0, 2.0, 2.0, 1.0]))


def test_orbit_keeps_distance_and_looks_at_the_target() -> None:
    target = (0.1, 1.0, -0.2)
    angles = torch.linspace(0, 2 * math.pi, 8)
    cameras = orbit(angles, width=64, height=48, target=target, distance=3.0, elevation=0.4)
    center = torch.tensor(target)
    torch.testing.assert_close((cameras.centers - center).norm(dim=1), torch.full((8,), 3.0))
    pixels, depth = cameras.project(center)
    torch.testing.assert_close(pixels, torch.tensor([32.0, 24.0]).expand(8, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(depth, torch.full((8,), 3.0))


def test_look_at_is_a_rotation_and_takes_batches() -> None:
    poses = look_at(torch.randn(6, 3) + 4.0, (0.0, 0.0, 0.0))
    rotation = poses[:, :3, :3]
    torch.testing.assert_close(
        rotation @ rotation.transpose(1, 2), torch.eye(3).expand(6, 3, 3), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(6))


@pytest.mark.parametrize("target", [(0.0, 0.0, 0.0), (0.0, 5.0, 0.0)])
def test_look_at_refuses_views_without_direction(target: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="not parallel to up"):
        look_at((0.0, 0.0, 0.0), target)


def test_field_of_view_spans_the_image() -> None:
    intrinsics = intrinsics_from_fov(math.radians(50), 80, 60)
    top = project_points(torch.tensor([0.0, -math.tan(math.radians(25)), 1.0]), intrinsics)
    torch.testing.assert_close(top, torch.tensor([40.0, 0.0]), atol=1e-4, rtol=0)


@given(
    x0=st.floats(-100, 400),
    y0=st.floats(-100, 400),
    scale=st.floats(0.1, 4),
    x=st.floats(-2, 2),
    y=st.floats(-2, 2),
)
def test_crops_map_pixels_affinely(x0: float, y0: float, scale: float, x: float, y: float) -> None:
    full = intrinsics_from_fov(0.7, 640, 480).double()
    point = torch.tensor([x, y, 2.5], dtype=torch.float64)
    cropped = project_points(point, crop_intrinsics(full, x0, y0, scale))
    expected = (project_points(point, full) - torch.tensor([x0, y0], dtype=torch.float64)) * scale
    torch.testing.assert_close(cropped, expected)
    as_numpy = crop_intrinsics(np.asarray(full), x0, y0, scale)
    np.testing.assert_array_equal(as_numpy, crop_intrinsics(full, x0, y0, scale).numpy())


def test_identity_expands_one_intrinsics_matrix() -> None:
    cameras = Cameras.identity(torch.eye(3), 4, 4)
    assert (len(cameras), len(cameras.select(slice(0, 0)))) == (1, 0)
    points = torch.rand(2, 5, 3)
    torch.testing.assert_close(cameras.transform(points), points[None])
    assert cameras.project(points)[0].shape == (1, 2, 5, 2)


@pytest.mark.parametrize(
    ("intrinsics", "pose", "width", "message"),
    [
        (torch.eye(3), torch.eye(4)[None], 4, r"intrinsics must be \[C, 3, 3\]"),
        (torch.eye(3)[None], torch.eye(4), 4, r"world_to_camera must be \[1, 4, 4\]"),
        (torch.eye(3)[None], torch.eye(4)[None], 0, "positive, got 0 x 4"),
    ],
)
def test_wrong_cameras_are_refused(
    intrinsics: torch.Tensor, pose: torch.Tensor, width: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Cameras(intrinsics, pose, width, 4)
