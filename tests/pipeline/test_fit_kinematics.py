"""Analytic Jacobians of the landmark points against autograd."""

import torch
from torch import Tensor

from avatarmill.avatar.rotations import axis_angle_to_matrix
from avatarmill.pipeline.fit_kinematics import (
    NUM_JOINTS,
    PointModel,
    blend_jacobian,
    left_jacobian,
    pose_jacobian,
    pose_points,
)

PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15) + (
    *(20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38),
    *(21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53),
)


def random_model(*, points: int = 9, blends: int = 5) -> PointModel:
    """A skeleton of random proportions with points skinned to three random joints each."""
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = normal(points, 3).abs()
    return PointModel(
        parents=PARENTS,
        joints=normal(NUM_JOINTS, 3),
        joint_dirs=0.1 * normal(NUM_JOINTS, 3, blends),
        points=normal(points, 3),
        point_dirs=0.1 * normal(points, 3, blends),
        bones=torch.randint(0, NUM_JOINTS, (points, 3), generator=generator),
        weights=weights / weights.sum(-1, keepdim=True),
    )


def random_state(frames: int, blends: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    pose = torch.randn(frames, NUM_JOINTS, 3, generator=generator, dtype=torch.float64)
    pose[0] = 0  # the series near zero is its own branch
    blend = torch.randn(frames, blends, generator=generator, dtype=torch.float64)
    translation = torch.randn(frames, 3, generator=generator, dtype=torch.float64)
    return axis_angle_to_matrix(pose[:, 0]), pose, blend, translation


def test_left_jacobian_is_the_derivative_of_the_exponential() -> None:
    vector = torch.tensor((0.4, -1.1, 0.7), dtype=torch.float64)
    change = 1e-6 * torch.tensor((0.3, 0.5, -0.2), dtype=torch.float64)
    moved = axis_angle_to_matrix(vector + change)
    turned = axis_angle_to_matrix(left_jacobian(vector) @ change) @ axis_angle_to_matrix(vector)
    torch.testing.assert_close(moved, turned, atol=1e-11, rtol=0)


def test_pose_jacobian_matches_autograd() -> None:
    model = random_model()
    root, pose, blend, translation = random_state(2, 5)
    joints = torch.tensor((0, 3, 16, 18, 40))
    analytic = pose_jacobian(model, pose_points(model, root, pose, blend, translation), joints)

    def points(turn: Tensor, values: Tensor) -> Tensor:
        return pose_points(
            model, axis_angle_to_matrix(turn) @ root, values, blend, translation
        ).points

    zero = torch.zeros(2, 3, dtype=torch.float64)
    by_root, by_pose = torch.autograd.functional.jacobian(points, (zero, pose))
    for frame in range(2):
        torch.testing.assert_close(analytic[frame, ..., 0, :], by_root[frame, ..., frame, :])
        expected = by_pose[frame, :, :, frame][:, :, joints[1:]]
        torch.testing.assert_close(analytic[frame, ..., 1:, :], expected)


def test_blend_jacobian_matches_autograd() -> None:
    model = random_model()
    root, pose, blend, translation = random_state(2, 5)
    posed = pose_points(model, root, pose, blend, translation)

    def points(values: Tensor) -> Tensor:
        return pose_points(model, root, pose, values, translation).points

    expected = torch.autograd.functional.jacobian(points, blend)
    analytic = blend_jacobian(model, posed, slice(1, 4))
    for frame in range(2):
        torch.testing.assert_close(analytic[frame], expected[frame, :, :, frame, 1:4])
