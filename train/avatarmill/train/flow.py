"""Flow matching on the straight path from data to noise, with the Gaussian prior of the data."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST_DEVIATION = 1e-3


@dataclass(frozen=True, slots=True)
class LinearPath:
    """x_t = a(t) x_0 + b(t) eps with a = 1 - t, b = t: data at t = 0, noise at t = 1.

    The schedule and its derivatives live here alone (Lipman et al. 2023, rectified flow of
    Liu et al. 2023). Tensors `t` broadcast against `x`; use `expand_time` for batches.
    """

    def data_weight(self, t: Tensor) -> Tensor:
        """a(t)."""
        return 1.0 - t

    def noise_weight(self, t: Tensor) -> Tensor:
        """b(t)."""
        return t

    def data_weight_rate(self, t: Tensor) -> Tensor:
        """da/dt."""
        return -torch.ones_like(t)

    def noise_weight_rate(self, t: Tensor) -> Tensor:
        """db/dt."""
        return torch.ones_like(t)

    def interpolate(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The point of the path at time t."""
        return self.data_weight(t) * data + self.noise_weight(t) * noise

    def velocity(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """dx_t/dt, the regression target."""
        return self.data_weight_rate(t) * data + self.noise_weight_rate(t) * noise

    def to_data(self, x: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
        """x_0 from a point and its velocity."""
        return (self.noise_weight_rate(t) * x - self.noise_weight(t) * velocity) / self._wronskian(
            t
        )

    def to_noise(self, x: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
        """eps from a point and its velocity."""
        cross = self.data_weight(t) * velocity - self.data_weight_rate(t) * x
        return cross / self._wronskian(t)

    def _wronskian(self, t: Tensor) -> Tensor:
        # a b' - a' b: 1 everywhere on the straight path, written out for other schedules.
        forward = self.data_weight(t) * self.noise_weight_rate(t)
        return forward - self.data_weight_rate(t) * self.noise_weight(t)


@dataclass(frozen=True, slots=True)
class GaussianPrior:
    """What the best linear model knows about the velocity when each entry of the data is
    N(mean, deviation^2): the network only learns what the text and its neighbours add.

    With m_t = a mean and s_t^2 = a^2 deviation^2 + b^2 (EDM's preconditioning, Karras et al. 2022,
    with a mean and a deviation for every anchor and channel instead of one number):
        input     (x_t - m_t) / s_t                      unit variance at every t
        E[v|x_t]  -mean + (b - a deviation^2) / s_t^2 (x_t - m_t)
        Dev[v|x_t] deviation / s_t
    """

    mean: Tensor
    deviation: Tensor

    def normalise(self, x: Tensor, t: Tensor) -> Tensor:
        """The network's input for a point of the path; unit variance under the prior."""
        return (x - (1.0 - t) * self.mean) / self._spread(t)

    def velocity(self, x: Tensor, network: Tensor, t: Tensor) -> Tensor:
        """Velocity from the network's unit-variance output."""
        variance = self._deviation().square()
        gain = (t - (1.0 - t) * variance) / self._spread(t).square()
        expected = -self.mean + gain * (x - (1.0 - t) * self.mean)
        return expected + network * self._deviation() / self._spread(t)

    def _deviation(self) -> Tensor:
        return self.deviation.clamp_min(_SMALLEST_DEVIATION)

    def _spread(self, t: Tensor) -> Tensor:
        return torch.sqrt(((1.0 - t) * self._deviation()).square() + t.square())


def expand_time(t: Tensor, like: Tensor) -> Tensor:
    """[B] times shaped to broadcast against [B, ...]."""
    return t.reshape(-1, *([1] * (like.ndim - 1)))


def sample_times(num: int, generator: torch.Generator, *, mean: float, deviation: float) -> Tensor:
    """[num] logit-normal times in (0, 1) (Esser et al. 2024, section 3.1).

    Stratified: one normal quantile from each of `num` equal strata, so that a small batch still
    covers the whole path and the loss is less noisy.
    """
    uniform = (torch.arange(num) + torch.rand(num, generator=generator)) / num
    shuffled = uniform[torch.randperm(num, generator=generator)].clamp(1e-6, 1.0 - 1e-6)
    normal = math.sqrt(2.0) * torch.erfinv(2.0 * shuffled - 1.0)
    return torch.sigmoid(mean + deviation * normal)


def masked_mean_square(
    error: Tensor, valid: Tensor, num_valid: Tensor | float | None = None
) -> Tensor:
    """Mean over valid tokens of the squared error, averaged over channels.

    error [B, T, C]; valid [B, T] bool. `num_valid` replaces the number of valid tokens where the
    caller knows the count over all ranks. Errors at invalid tokens are cut, not multiplied by
    zero: not even a NaN there reaches the loss or its gradient.
    """
    squared = torch.where(valid[..., None], error, 0.0).square().mean(dim=-1)
    count = valid.sum() if num_valid is None else num_valid
    return squared.sum() / torch.as_tensor(count).clamp_min(1)
