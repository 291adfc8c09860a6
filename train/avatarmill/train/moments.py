"""Mean and deviation of every anchor's latent over the samples that saw it."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from avatarmill.train.loader import TokenBatch

# Anchors seen by few samples lean on the mean over all anchors, as if that many more had seen it.
_PSEUDO_COUNT = 4.0


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the latents [T, C] and of the body shape [num_shape]."""

    latent_mean: Tensor
    latent_deviation: Tensor
    shape_mean: Tensor
    shape_deviation: Tensor


def token_moments(batches: Iterable[TokenBatch], *, threshold: int) -> Moments:
    """One pass over batches, in float64; tokens with visibility below `threshold` do not count.

    Raises:
        ValueError: not one token is visible.
    """
    latent, shape = _Sums(), _Sums()
    for batch in batches:
        valid = (batch.visibility >= threshold).double()[..., None]
        latent.add(batch.latent.double(), valid)
        shape.add(batch.shape.double(), torch.ones(len(batch.shape), 1, dtype=torch.float64))
    if not latent.count.sum():
        raise ValueError(f"no token has a visibility of {threshold} or more: lower the threshold")
    return Moments(*_shrunk(latent), *_shrunk(shape))


class _Sums:
    """Running sums over the batch axis."""

    def __init__(self) -> None:
        self.count = self.first = self.second = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor, weights: Tensor) -> None:
        # where, not a product: what an unseen token holds may be anything.
        values = torch.where(weights > 0, values, 0.0)
        self.count = self.count + weights.sum(dim=0)
        self.first = self.first + values.sum(dim=0)
        self.second = self.second + values.square().sum(dim=0)


def _shrunk(sums: _Sums) -> tuple[Tensor, Tensor]:
    """Mean and deviation with a prior: the pooled mean over anchors, and unit variance."""
    if sums.first.ndim == 2:
        pooled = sums.first.sum(dim=0) / sums.count.sum()
    else:
        pooled = torch.zeros_like(sums.first)
    count = sums.count + _PSEUDO_COUNT
    mean = (sums.first + _PSEUDO_COUNT * pooled) / count
    second = (sums.second + _PSEUDO_COUNT * (1.0 + pooled.square())) / count
    variance = (second - mean.square()).clamp_min(1e-6)
    return mean.float(), variance.sqrt().float()
