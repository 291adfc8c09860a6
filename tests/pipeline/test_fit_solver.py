"""The banded solve against a dense one, and smoothness against its own cost."""

import pytest
import torch
from torch import Tensor

from avatarmill.pipeline.fit_solver import Normal, Smoothness, solve_banded, solve_step


def random_normal(frames: int, unknowns: int, shared: int) -> Normal:
    """Positive definite equations, as a Jacobian of random rows gives them."""
    generator = torch.Generator().manual_seed(frames)
    rows = unknowns + shared + 3
    jacobian = torch.randn(
        frames, rows, unknowns + shared, generator=generator, dtype=torch.float64
    )
    residual = torch.randn(frames, rows, generator=generator, dtype=torch.float64)
    frame, common = jacobian[..., :unknowns], jacobian[..., unknowns:]
    return Normal(
        frame.mT @ frame,
        torch.einsum("trp,tr->tp", frame, residual),
        frame.mT @ common,
        torch.einsum("trs,tru->su", common, common),
        torch.einsum("trs,tr->s", common, residual),
    )


def dense(normal: Normal, near: Tensor, far: Tensor, own: Tensor) -> Tensor:
    """The whole matrix, frames first, shared unknowns last."""
    frames, unknowns, shared = normal.border.shape
    size = frames * unknowns
    matrix = torch.zeros(size + shared, size + shared, dtype=torch.float64)
    for t in range(frames):
        here = slice(t * unknowns, (t + 1) * unknowns)
        matrix[here, here] = normal.blocks[t] + torch.diag(own[t])
        matrix[here, size:] = normal.border[t]
        matrix[size:, here] = normal.border[t].T
        for distance, band in ((1, near), (2, far)):
            if t + distance < frames:
                there = slice((t + distance) * unknowns, (t + distance + 1) * unknowns)
                matrix[here, there] = matrix[there, here] = torch.diag(band[t])
    matrix[size:, size:] = normal.shared
    return matrix


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shared", [0, 3])
def test_step_equals_a_dense_solve(frames: int, shared: int) -> None:
    normal = random_normal(frames, 4, shared)
    smooth = Smoothness(
        velocity=torch.tensor((1.0, 2.0, 0.5, 0.0), dtype=torch.float64),
        acceleration=torch.tensor((0.3, 0.0, 2.0, 1.0), dtype=torch.float64),
        joined=torch.ones(frames - 1, dtype=torch.float64),
    )
    steps = torch.linspace(-1, 1, (frames - 1) * 4, dtype=torch.float64).reshape(-1, 4)
    gradient, own, near, far = smooth.bands(steps)
    right = -torch.cat(((normal.gradient + gradient).flatten(), normal.shared_gradient))
    expected = torch.linalg.solve(dense(normal, near, far, own), right)
    frame, common = solve_step(normal, smooth, steps, damping=0.0)
    if shared:
        torch.testing.assert_close(
            torch.cat((frame.flatten(), common)), expected, rtol=1e-5, atol=1e-7
        )
    else:
        torch.testing.assert_close(frame.flatten(), expected, rtol=1e-5, atol=1e-7)


def test_bands_are_the_derivatives_of_the_smoothness_cost() -> None:
    smooth = Smoothness(
        velocity=torch.tensor((1.0, 0.5), dtype=torch.float64),
        acceleration=torch.tensor((2.0, 0.1), dtype=torch.float64),
        joined=torch.tensor((1.0, 1.0, 0.0, 1.0, 1.0), dtype=torch.float64),
    )
    values = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def cost(x: Tensor) -> Tensor:
        first, second = smooth.residuals(x.diff(dim=0))
        return 0.5 * (first.square().sum() + second.square().sum())

    gradient, own, near, far = smooth.bands(values.diff(dim=0))
    torch.testing.assert_close(torch.autograd.functional.jacobian(cost, values), gradient)
    hessian = torch.autograd.functional.hessian(cost, values)
    for t in range(6):
        torch.testing.assert_close(hessian[t, :, t].diagonal(), own[t])
        for distance, band in ((1, near), (2, far)):
            if t + distance < 6:
                torch.testing.assert_close(hessian[t, :, t + distance].diagonal(), band[t])


def test_a_gap_in_time_is_not_bridged() -> None:
    smooth = Smoothness(torch.ones(1), torch.ones(1), torch.tensor((1.0, 0.0, 1.0)))
    first, second = smooth.residuals(torch.tensor([[0.0], [5.0], [0.0]]))
    assert not first.any() and not second.any()


def test_an_indefinite_matrix_is_refused() -> None:
    blocks = -torch.eye(2, dtype=torch.float64)[None]
    zero = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="not positive-definite"):
        solve_banded(blocks, zero, zero, zero[..., None])
