"""Rotation conversions: round trips in float64, and finite gradients where they are delicate."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from avatarmill.avatar.rotations import (
    axis_angle_to_matrix,
    axis_angle_to_quaternion,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_multiply,
    quaternion_to_axis_angle,
    quaternion_to_matrix,
)

Conversion = Callable[[Tensor], Tensor]
DELICATE_ANGLES = (0.0, 1e-9, 1e-5, 9.9e-3, 1.01e-2, 1.0, 3.0, math.pi - 1e-4)


def axis_angle(angle: float, seed: int) -> Tensor:
    axis = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    unit: Tensor = axis / axis.norm()
    return angle * unit


@given(angle=st.floats(0, 3.1), seed=st.integers(0, 10_000))
def test_axis_angle_matrix_round_trip(angle: float, seed: int) -> None:
    vector = axis_angle(angle, seed)
    torch.testing.assert_close(
        matrix_to_axis_angle(axis_angle_to_matrix(vector)), vector, atol=1e-7, rtol=0
    )


@given(angle=st.floats(0, 3.1), seed=st.integers(0, 10_000))
def test_quaternion_and_matrix_agree(angle: float, seed: int) -> None:
    vector = axis_angle(angle, seed)
    quaternion = axis_angle_to_quaternion(vector)
    matrix = axis_angle_to_matrix(vector)
    torch.testing.assert_close(quaternion_to_matrix(quaternion), matrix, atol=1e-10, rtol=0)
    torch.testing.assert_close(matrix_to_quaternion(matrix), quaternion, atol=1e-7, rtol=0)
    torch.testing.assert_close(quaternion_to_axis_angle(quaternion), vector, atol=1e-7, rtol=0)


@given(first=st.integers(0, 10_000), second=st.integers(0, 10_000))
def test_quaternion_product_is_matrix_product(first: int, second: int) -> None:
    a, b = axis_angle(1.7, first), axis_angle(2.2, second)
    product = quaternion_multiply(axis_angle_to_quaternion(a), axis_angle_to_quaternion(b))
    torch.testing.assert_close(
        quaternion_to_matrix(product), axis_angle_to_matrix(a) @ axis_angle_to_matrix(b)
    )


def test_axis_angle_is_right_handed() -> None:
    quarter = torch.tensor([0.0, 0.0, math.pi / 2])
    turned = axis_angle_to_matrix(quarter) @ torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(turned, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("angle", DELICATE_ANGLES)
@pytest.mark.parametrize("function", [axis_angle_to_matrix, axis_angle_to_quaternion])
def test_gradients_match_finite_differences(angle: float, function: Conversion) -> None:
    vector = axis_angle(angle, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(function, (vector,), atol=1e-5)


@pytest.mark.parametrize("axis", torch.eye(3).unbind())
def test_half_turns_have_finite_quaternions_and_gradients(axis: Tensor) -> None:
    matrix = axis_angle_to_matrix(math.pi * axis).requires_grad_()
    quaternion = matrix_to_quaternion(matrix)
    quaternion.sum().backward()
    torch.testing.assert_close(quaternion[1:].abs(), axis, atol=1e-6, rtol=0)
    assert matrix.grad is not None and matrix.grad.isfinite().all()


def test_zero_rotation_has_a_finite_gradient_through_the_round_trip() -> None:
    vector = torch.zeros(5, 3, requires_grad=True)
    matrix_to_axis_angle(axis_angle_to_matrix(vector)).sum().backward()
    torch.testing.assert_close(vector.grad, torch.ones(5, 3))


def test_leading_dimensions_are_kept() -> None:
    vectors = torch.randn(2, 4, 3)
    assert axis_angle_to_matrix(vectors).shape == (2, 4, 3, 3)
    assert matrix_to_quaternion(axis_angle_to_matrix(vectors)).shape == (2, 4, 4)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (axis_angle_to_matrix, "axis_angle"),
        (quaternion_to_matrix, "quaternion"),
        (matrix_to_quaternion, "matrix"),
    ],
)
def test_wrong_shapes_are_named(function: Conversion, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must end in .*got \[7\]"):
        function(torch.zeros(7))
