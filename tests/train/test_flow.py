"""The path and the prior invert exactly, and the masked loss sees valid tokens only."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.train.flow import (
    GaussianPrior,
    LinearPath,
    expand_time,
    masked_mean_square,
    sample_times,
)

PATH = LinearPath()
times = st.floats(0.0, 1.0, allow_nan=False).map(lambda t: torch.tensor(t, dtype=torch.float64))


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(4, 6, 8, generator=generator, dtype=torch.float64),
        torch.randn(4, 6, 8, generator=generator, dtype=torch.float64),
    )


@given(t=times, seed=st.integers(0, 1000))
def test_data_and_noise_come_back_from_point_and_velocity(t: torch.Tensor, seed: int) -> None:
    data, noise = pair(seed)
    x, v = PATH.interpolate(data, noise, t), PATH.velocity(data, noise, t)
    torch.testing.assert_close(PATH.to_data(x, v, t), data, rtol=0, atol=1e-13)
    torch.testing.assert_close(PATH.to_noise(x, v, t), noise, rtol=0, atol=1e-13)


def test_path_ends_at_data_and_noise() -> None:
    data, noise = pair()
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    torch.testing.assert_close(PATH.interpolate(data, noise, zero), data, rtol=0, atol=0)
    torch.testing.assert_close(PATH.interpolate(data, noise, one), noise, rtol=0, atol=0)


@given(t=times)
def test_velocity_is_the_derivative_of_the_path(t: torch.Tensor) -> None:
    data, noise = pair()
    _, rate = torch.autograd.functional.jvp(
        lambda time: PATH.interpolate(data, noise, time), t, torch.ones_like(t)
    )
    torch.testing.assert_close(rate, PATH.velocity(data, noise, t))


def test_prior_is_the_best_linear_guess() -> None:
    """Regressing v on x_t over many draws gives the prior's mean and residual deviation."""
    generator = torch.Generator().manual_seed(0)
    mean, deviation, t = torch.tensor(0.7), torch.tensor(0.4), torch.tensor(0.35)
    data = mean + deviation * torch.randn(200_000, generator=generator)
    noise = torch.randn(200_000, generator=generator)
    x, v = PATH.interpolate(data, noise, t), PATH.velocity(data, noise, t)
    prior = GaussianPrior(mean, deviation)
    residual = v - prior.velocity(x, torch.zeros(()), t)
    unit = prior.velocity(x, torch.ones(()), t) - prior.velocity(x, torch.zeros(()), t)
    assert abs(residual.mean()) < 5e-3
    assert abs((residual * prior.normalise(x, t)).mean()) < 5e-3, "no linear part is left over"
    torch.testing.assert_close(residual.std(), unit.mean(), rtol=0.01, atol=0)
    torch.testing.assert_close(prior.normalise(x, t).std(), torch.tensor(1.0), rtol=0.01, atol=0)


def test_prior_is_finite_at_both_ends_of_the_path() -> None:
    prior = GaussianPrior(torch.zeros(3), torch.tensor([0.0, 1e-6, 1.0]))
    for t in (0.0, 1.0):
        time = torch.tensor(t)
        assert prior.normalise(torch.ones(3), time).isfinite().all()
        assert prior.velocity(torch.ones(3), torch.ones(3), time).isfinite().all()


@given(num=st.integers(1, 64), seed=st.integers(0, 99))
def test_times_lie_inside_and_repeat(num: int, seed: int) -> None:
    def draw() -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return sample_times(num, generator, mean=0.0, deviation=1.0)

    t = draw()
    assert t.shape == (num,) and (t > 0).all() and (t < 1).all()
    assert torch.equal(t, draw())


def test_times_are_logit_normal() -> None:
    t = sample_times(20_000, torch.Generator().manual_seed(0), mean=0.5, deviation=1.3)
    logit = torch.log(t / (1 - t))
    assert abs(logit.mean() - 0.5) < 0.01 and abs(logit.std() - 1.3) < 0.01


def test_loss_is_the_mean_over_valid_tokens() -> None:
    error = torch.tensor([[[1.0, 3.0], [100.0, 100.0]], [[2.0, 0.0], [0.0, 0.0]]])
    valid = torch.tensor([[True, False], [True, True]])
    # (1 + 9) / 2, 4 / 2 and 0 over three valid tokens.
    assert masked_mean_square(error, valid).item() == pytest.approx((5 + 2 + 0) / 3)


def test_loss_ignores_even_nan_at_invalid_tokens() -> None:
    error = torch.randn(2, 5, 8)
    valid = torch.rand(2, 5) < 0.5
    spoilt = torch.where(valid[..., None], error, torch.nan).requires_grad_()
    loss = masked_mean_square(spoilt, valid)
    loss.backward()
    assert torch.equal(loss.detach(), masked_mean_square(error, valid))
    assert spoilt.grad is not None
    assert torch.equal(spoilt.grad[~valid], torch.zeros_like(spoilt.grad[~valid]))


def test_loss_of_no_valid_token_is_zero() -> None:
    assert masked_mean_square(torch.ones(1, 3, 2), torch.zeros(1, 3, dtype=torch.bool)) == 0


def test_expanded_time_broadcasts() -> None:
    assert expand_time(torch.rand(3), torch.zeros(3, 5, 8)).shape == (3, 1, 1)
