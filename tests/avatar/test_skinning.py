"""Skinning of points and Gaussians agrees with the body's own and turns rotations rigidly."""

import pytest
import torch

from avatarmill.avatar.body import Body, BodyParams, load_body
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rotations import (
    axis_angle_to_matrix,
    axis_angle_to_quaternion,
    quaternion_to_matrix,
)
from avatarmill.avatar.skinning import nearest_rotation, skin_gaussians, skin_points


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def some_gaussians(count: int) -> Gaussians:
    random = torch.Generator().manual_seed(0)
    return Gaussians(
        means=torch.randn(count, 3, generator=random),
        rotations=axis_angle_to_quaternion(torch.randn(count, 3, generator=random)),
        scales=torch.full((count, 3), 0.01),
        opacities=torch.rand(count, generator=random),
        colors=torch.rand(count, 3, generator=random),
    )


def test_skinned_template_is_the_posed_body(body: Body) -> None:
    rest = BodyParams.rest(2)
    random = torch.Generator().manual_seed(3)
    pose = 0.5 * torch.randn(rest.pose.shape, generator=random)
    mesh = body(BodyParams(pose, rest.shape, rest.expression, rest.translation + 1))
    points = skin_points(body.template, body.weights, mesh.transforms)
    torch.testing.assert_close(points, mesh.vertices, atol=1e-5, rtol=0)


def test_rest_pose_changes_nothing(body: Body) -> None:
    gaussians = some_gaussians(20)
    _, transforms = body.transforms(BodyParams.rest())
    moved = skin_gaussians(gaussians, body.weights[:20], transforms[0])
    for before, after in zip(gaussians.tensors(), moved.tensors(), strict=True):
        sign = 1.0 if before.shape[-1] != 4 else (before * after).sum(-1, keepdim=True).sign()
        torch.testing.assert_close(after * sign, before, atol=1e-5, rtol=0)


def test_a_turned_body_turns_its_gaussians(body: Body) -> None:
    gaussians, params = some_gaussians(30), BodyParams.rest()
    params.pose[0, 0] = torch.tensor([0.4, 1.1, -0.7])
    _, transforms = body.transforms(params)
    moved = skin_gaussians(gaussians, body.weights[:30], transforms[0])
    turn = axis_angle_to_matrix(params.pose[0, 0])
    torch.testing.assert_close(
        quaternion_to_matrix(moved.rotations),
        turn @ quaternion_to_matrix(gaussians.rotations),
        atol=1e-5,
        rtol=0,
    )
    assert torch.equal(moved.scales, gaussians.scales)
    assert torch.equal(moved.opacities, gaussians.opacities)


def test_nearest_rotation_is_the_polar_factor() -> None:
    random = torch.Generator().manual_seed(5)
    axes = torch.randn(2, 50, 3, generator=random, dtype=torch.float64)
    axes = 1.5 * axes / axes.norm(dim=-1, keepdim=True) * torch.tensor([[[0.5]], [[-0.5]]])
    blend = axis_angle_to_matrix(axes).mean(0)
    u, _, v = torch.linalg.svd(blend)
    torch.testing.assert_close(nearest_rotation(blend), u @ v, atol=1e-4, rtol=0)


def test_gradients_flow_through_posed_gaussians(body: Body) -> None:
    gaussians, params = some_gaussians(10), BodyParams.rest()
    params.pose.requires_grad_()
    _, transforms = body.transforms(params)
    moved = skin_gaussians(gaussians, body.weights[:10], transforms[0])
    (moved.means.sum() + moved.rotations.sum()).backward()
    assert params.pose.grad is not None and params.pose.grad.isfinite().all()


def test_mismatched_joints_are_named() -> None:
    with pytest.raises(ValueError, match=r"weights \[4, 54\] and transforms \[55, 4, 4\]"):
        skin_points(torch.zeros(4, 3), torch.zeros(4, 54), torch.zeros(55, 4, 4))
