"""The compressor: a token's channels to the few that are stored and diffused, and back.

Both directions work on each token alone. They know which anchor it belongs to, so the latent
only has to say how this person differs there from what is usual.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from avatarmill.tokenize.config import CompressorConfig

_ANCHOR_CHANNELS = 16


class Compressor(nn.Module):
    """Encoder and decoder between tokens [..., T, D] and latents [..., T, C] of unit variance."""

    mean: Tensor
    std: Tensor
    usual: Tensor
    spread: Tensor

    def __init__(self, config: CompressorConfig, num_tokens: int, width: int) -> None:
        super().__init__()
        self.config = config
        channels, hidden = config.channels, config.hidden
        self.anchor = nn.Parameter(torch.randn(num_tokens, _ANCHOR_CHANNELS) * 0.1)
        self.encoder = nn.Sequential(
            nn.Linear(width + _ANCHOR_CHANNELS, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )
        self.decoder = nn.Sequential(
            nn.Linear(channels + _ANCHOR_CHANNELS, hidden), nn.GELU(), nn.Linear(hidden, width)
        )
        # A straight path beside the networks: the compressor starts as good as PCA.
        self.down = nn.Linear(width, channels, bias=False)
        self.up = nn.Linear(channels, width, bias=False)
        for network in (self.encoder, self.decoder):
            last = network[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.register_buffer("usual", torch.zeros(num_tokens, width))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def raw(self, tokens: Tensor) -> Tensor:
        """Latents before they are normalised: [..., T, C]."""
        centred = (tokens - self.usual) / self.spread
        where = self.anchor.expand(*centred.shape[:-1], -1)
        latents: Tensor = self.down(centred) + self.encoder(torch.cat([centred, where], dim=-1))
        return latents

    def encode(self, tokens: Tensor) -> Tensor:
        """Latents [..., T, C], per channel of zero mean and unit variance over the training set."""
        return (self.raw(tokens) - self.mean) / self.std

    def decode(self, latents: Tensor) -> Tensor:
        """Tokens [..., T, D] from normalised latents."""
        return self.decode_raw(latents * self.std + self.mean)

    def decode_raw(self, raw: Tensor) -> Tensor:
        """Tokens [..., T, D] from latents as `raw` gives them."""
        where = self.anchor.expand(*raw.shape[:-1], -1)
        centred: Tensor = self.up(raw) + self.decoder(torch.cat([raw, where], dim=-1))
        return self.usual + self.spread * centred

    @torch.no_grad()
    def start_from(self, basis: "PcaBasis") -> None:
        """Start from principal components: unit-variance latents, exact PCA reconstruction."""
        self.usual.copy_(basis.usual)
        self.spread.copy_(basis.spread)
        self.down.weight.copy_(basis.components / basis.deviation[:, None])
        self.up.weight.copy_(basis.components.T * basis.deviation)

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Store the per-channel mean and deviation of raw latents [C] with the weights."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=1e-4))


@dataclass(frozen=True, slots=True)
class PcaBasis:
    """Principal components of tokens around the usual token of each anchor: the baseline."""

    usual: Tensor
    """[T, D]: visibility-weighted mean token of each anchor."""
    spread: Tensor
    """Scalar: one deviation for all channels."""
    components: Tensor
    """[C, D] orthonormal rows."""
    deviation: Tensor
    """[C] deviation of each component, in units of spread."""

    @classmethod
    def fit(cls, tokens: Tensor, weights: Tensor, channels: int) -> Self:
        """Weighted PCA of tokens [M, T, D] with weights [M, T]."""
        total = weights.sum(0).clamp(min=1e-6)
        usual = (tokens * weights[..., None]).sum(0) / total[:, None]
        centred = tokens - usual
        share = weights / weights.sum()
        spread = (share[..., None] * centred.square()).sum((0, 1)).mean().sqrt()
        centred = centred / spread
        flat, flat_share = centred.flatten(0, 1), share.flatten()
        covariance = (flat * flat_share[:, None]).T @ flat
        values, vectors = torch.linalg.eigh(covariance.double())
        components = vectors[:, -channels:].flip(1).T.float()
        deviation = values[-channels:].flip(0).clamp(min=1e-10).sqrt().float()
        return cls(usual, spread, _signed(components), deviation)

    def reconstruct(self, tokens: Tensor) -> Tensor:
        """Project tokens [..., T, D] onto the components and back."""
        centred = (tokens - self.usual) / self.spread
        return self.usual + self.spread * (centred @ self.components.T @ self.components)


def _signed(components: Tensor) -> Tensor:
    """Fix the sign of each component, which eigenvectors leave open."""
    largest = components.abs().argmax(dim=1, keepdim=True)
    return components * components.gather(1, largest).sign()
