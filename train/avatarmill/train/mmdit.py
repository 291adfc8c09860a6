"""The diffusion network: a dual-stream MMDiT over avatar tokens and text tokens.

Tensor suffixes: B batch, T anchors, P patches, M anchors of a patch, S avatar sequence (P patches
and one body-shape token), L text tokens, C latent channels, W width, H heads.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from avatarmill.train.flow import GaussianPrior, expand_time
from avatarmill.train.patches import fourier_features, patch_order
from avatarmill.train.text import TEXT_WIDTH, TextFeatures


@dataclass(frozen=True, slots=True)
class MMDiTConfig:
    """Sizes of the network; `NANO`, `BASE` and `TINY` below are the presets."""

    num_tokens: int = 1024
    channels: int = 8
    num_shape: int = 20
    patch: int = 8
    """Neighbouring anchors that share one sequence position."""
    width: int = 128
    depth: int = 6
    heads: int = 4
    mlp_ratio: int = 3
    text_mlp_ratio: int = 1
    frequencies: int = 6
    """Octaves of the anchor's positional encoding."""
    text_width: int = TEXT_WIDTH

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"width {self.width} does not split into {self.heads} even heads")
        if self.num_tokens % self.patch:
            raise ValueError(f"patch {self.patch} does not divide {self.num_tokens} tokens")


NANO = MMDiTConfig()
TINY = MMDiTConfig(patch=4, width=32, depth=2, heads=2, mlp_ratio=2, frequencies=3)
BASE = MMDiTConfig(
    num_tokens=8192,
    patch=1,
    width=1024,
    depth=24,
    heads=16,
    mlp_ratio=4,
    text_mlp_ratio=4,
    frequencies=8,
)
SizeName = Literal["tiny", "nano", "base"]
SIZES: dict[SizeName, MMDiTConfig] = {"tiny": TINY, "nano": NANO, "base": BASE}


class Velocity(NamedTuple):
    """What the network predicts, in units of the latents and of the shape coefficients.

    A tuple, because DeepSpeed's ZeRO-3 hooks must find the tensors in it.
    """

    latent: Tensor
    """[B, T, C]."""
    shape: Tensor
    """[B, num_shape]."""


class Stream(nn.Module):
    """One stream's own weights in a block: attention projections, MLP and modulation table.

    The last text stream is read only (`reads=True`): it gives keys and values and ends there.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, *, reads: bool = False) -> None:
        super().__init__()
        self.heads, self.reads = heads, reads
        self.table = nn.Parameter(torch.zeros(6, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.key_value = nn.Linear(width, 2 * width)
        self.key_norm = nn.RMSNorm(width // heads)
        if reads:
            return
        self.query = nn.Linear(width, width)
        self.query_norm = nn.RMSNorm(width // heads)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_ratio * width),
            nn.GELU(approximate="tanh"),
            nn.Linear(mlp_ratio * width, width),
        )

    def forward(self, x_BSW: Tensor, modulation: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Queries (None where read only), keys, values, each [B, H, S, W/H].

        `modulation` [B, 6, W] is shared by all blocks; the block's own table is added to it
        (adaLN-single, Chen et al. 2023).
        """
        shift, scale = (modulation + self.table)[:, :2].unsqueeze(2).unbind(1)
        hidden = self.norm(x_BSW) * (1 + scale) + shift
        key, value = (self._split(part) for part in self.key_value(hidden).chunk(2, dim=-1))
        query = None if self.reads else self.query_norm(self._split(self.query(hidden)).float())
        # Normalised in float32 also under bf16 autocast: the norm's weights are.
        return query, self.key_norm(key.float()), value

    def finish(self, x_BSW: Tensor, attended: Tensor, modulation: Tensor) -> Tensor:
        """Residual update from the attention output [B, H, S, W/H], then the MLP."""
        gate, shift, scale, mlp_gate = (modulation + self.table)[:, 2:].unsqueeze(2).unbind(1)
        x_BSW = x_BSW + gate * self.out(attended.transpose(1, 2).flatten(2))
        hidden = self.mlp_norm(x_BSW) * (1 + scale) + shift
        updated: Tensor = x_BSW + mlp_gate * self.mlp(hidden)
        return updated

    def _split(self, x_BSW: Tensor) -> Tensor:
        batch, length, width = x_BSW.shape
        return x_BSW.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)


class DualBlock(nn.Module):
    """Separate weights for avatar and text, one joint attention (Esser et al. 2024, figure 2b)."""

    def __init__(self, config: MMDiTConfig, *, last: bool) -> None:
        super().__init__()
        self.avatar = Stream(config.width, config.heads, config.mlp_ratio)
        self.text = Stream(config.width, config.heads, config.text_mlp_ratio, reads=last)

    def forward(
        self,
        avatar_BSW: Tensor,
        text_BLW: Tensor,
        avatar_modulation: Tensor,
        text_modulation: Tensor,
        mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Both streams after the block; `mask` [B, 1, 1, S + L] is true where keys are real."""
        query, key, value = self.avatar(avatar_BSW, avatar_modulation)
        text_query, text_key, text_value = self.text(text_BLW, text_modulation)
        queries = query if text_query is None else torch.cat([query, text_query], dim=2)
        attended = functional.scaled_dot_product_attention(
            queries,
            torch.cat([key, text_key], dim=2),
            torch.cat([value, text_value], dim=2),
            attn_mask=mask,
        )
        length = avatar_BSW.shape[1]
        avatar_BSW = self.avatar.finish(avatar_BSW, attended[:, :, :length], avatar_modulation)
        if text_query is not None:
            text_BLW = self.text.finish(text_BLW, attended[:, :, length:], text_modulation)
        return avatar_BSW, text_BLW


class AvatarEmbedding(nn.Module):
    """Latents and shape -> sequence; invalid anchors enter as a learnable token instead."""

    codes: Tensor

    def __init__(self, config: MMDiTConfig, positions: Tensor, normals: Tensor) -> None:
        super().__init__()
        width, num_patches = config.width, config.num_tokens // config.patch
        self.weight = nn.Parameter(
            torch.randn(config.patch, config.channels, width)
            / (config.patch * config.channels) ** 0.5
        )
        self.placeholder = nn.Parameter(torch.randn(config.patch, width) / width**0.5)
        self.shape = nn.Linear(config.num_shape, width)
        # The anchor's place twice: an encoding of the canonical point (nested anchor sets share
        # it), and a learnt residue for each patch.
        codes = torch.cat([fourier_features(positions, config.frequencies), normals], dim=-1)
        self.register_buffer("codes", codes.mean(dim=1), persistent=False)
        self.position = nn.Sequential(
            nn.Linear(codes.shape[-1], width), nn.GELU(approximate="tanh"), nn.Linear(width, width)
        )
        self.residue = nn.Parameter(torch.zeros(num_patches, width))

    def forward(self, latent_BPMC: Tensor, shape: Tensor, valid_BPM: Tensor | None) -> Tensor:
        """[B, S, W]: patches, then the shape token."""
        embedded = torch.einsum("bpmc,mcw->bpmw", latent_BPMC, self.weight)
        if valid_BPM is not None:
            embedded = torch.where(valid_BPM[..., None], embedded, self.placeholder)
        tokens = embedded.sum(dim=2) + self.position(self.codes) + self.residue
        sequence: Tensor = torch.cat([tokens, self.shape(shape)[:, None]], dim=1)
        return sequence


class Condition(nn.Module):
    """Time and text -> text stream, key mask, and the modulation of both streams."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        width = config.width
        self.time = nn.Sequential(
            nn.Linear(_TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.tokens = nn.Linear(config.text_width, width)
        self.pooled = nn.Linear(config.text_width, width)
        self.null_token = nn.Parameter(torch.randn(width) / width**0.5)
        self.null_pooled = nn.Parameter(torch.zeros(width))
        self.modulation = nn.Linear(width, 12 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self, t: Tensor, text: TextFeatures, dropped: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Text [B, L, W], its mask [B, L], and the two modulations [B, 6, W].

        Where `dropped` [B] is true the caption is gone: one learnable null token stands for it.
        """
        first = torch.zeros_like(text.mask)
        first[:, 0] = True
        mask = torch.where(dropped[:, None], first, text.mask)
        tokens = torch.where(dropped[:, None, None], self.null_token, self.tokens(text.tokens))
        pooled = torch.where(dropped[:, None], self.null_pooled, self.pooled(text.pooled()))
        vector = self.time(_time_features(t)) + pooled
        shared = self.modulation(functional.silu(vector)).reshape(len(t), 12, -1)
        return tokens, mask, shared[:, :6], shared[:, 6:]


class MMDiT(nn.Module):
    """Velocity of noisy avatar latents and body shape, given time and text.

        latent x_t --prior--> patches --+                              +--> head --prior--> v
        shape  s_t --prior--> token   --+--> avatar stream --+         |
                                                             joint x depth
        text   ---------------------------> text stream   ---+
        t, pooled text --> modulation of both streams

    `positions` [T, 3] and `normals` [T, 3] are the anchors on the canonical body; they come from
    `avatarmill.avatar.anchors` and are not part of the weights (their fingerprint is).
    """

    order: Tensor
    inverse: Tensor
    latent_mean: Tensor
    latent_deviation: Tensor
    shape_mean: Tensor
    shape_deviation: Tensor

    def __init__(self, config: MMDiTConfig, positions: Tensor, normals: Tensor) -> None:
        super().__init__()
        if positions.shape != (config.num_tokens, 3):
            raise ValueError(
                f"{config.num_tokens} tokens need as many anchors, got {tuple(positions.shape)}"
            )
        self.config = config
        order = patch_order(positions, normals, config.patch)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", torch.argsort(order), persistent=False)
        self._register_prior("latent", (config.num_tokens, config.channels))
        self._register_prior("shape", (config.num_shape,))
        grouped = order.reshape(-1, config.patch)
        self.embedding = AvatarEmbedding(config, positions[grouped], normals[grouped])
        self.condition = Condition(config)
        self.blocks = nn.ModuleList(
            DualBlock(config, last=index == config.depth - 1) for index in range(config.depth)
        )
        self.head_norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.patch * config.channels)
        self.shape_head = nn.Linear(config.width, config.num_shape)
        for head in (self.head, self.shape_head):
            # Starts as the prior alone.
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def _register_prior(self, name: str, size: tuple[int, ...]) -> None:
        self.register_buffer(f"{name}_mean", torch.zeros(size))
        self.register_buffer(f"{name}_deviation", torch.ones(size))

    def latent_prior(self) -> GaussianPrior:
        """Mean and deviation of every anchor's channels over the training set."""
        return GaussianPrior(self.latent_mean, self.latent_deviation)

    def shape_prior(self) -> GaussianPrior:
        """Mean and deviation of the body-shape coefficients."""
        return GaussianPrior(self.shape_mean, self.shape_deviation)

    def forward(
        self,
        latent: Tensor,
        shape: Tensor,
        t: Tensor,
        text: TextFeatures,
        *,
        valid: Tensor | None = None,
        dropped: Tensor | None = None,
    ) -> Velocity:
        """Velocity at the noisy `latent` [B, T, C] and `shape` [B, num_shape], t [B] in [0, 1].

        `valid` [B, T] bool: anchors that were seen. The others enter as learnable tokens,
        whatever their latent holds. None means all (sampling). `dropped` [B] bool: captions
        replaced by the null condition.
        """
        if valid is not None:
            # Cut before any product, so that not even a NaN at an unseen anchor gets further.
            latent = torch.where(valid[..., None], latent, 0.0)
        latent_t, shape_t = expand_time(t, latent), expand_time(t, shape)
        sequence = self.embedding(
            self._to_patches(self.latent_prior().normalise(latent, latent_t)),
            self.shape_prior().normalise(shape, shape_t),
            None if valid is None else self._to_patches(valid),
        )
        hidden = self._transform(sequence, t, text, dropped)
        # [B, P, M * C] -> [B, T, C] in the anchors' own order.
        out = self.head(hidden[:, :-1]).float().reshape(len(t), -1, self.config.channels)
        network = out[:, self.inverse]
        shape_network = self.shape_head(hidden[:, -1]).float()
        return Velocity(
            self.latent_prior().velocity(latent, network, latent_t),
            self.shape_prior().velocity(shape, shape_network, shape_t),
        )

    def _transform(
        self, sequence: Tensor, t: Tensor, text: TextFeatures, dropped: Tensor | None
    ) -> Tensor:
        if dropped is None:
            dropped = torch.zeros(len(t), dtype=torch.bool, device=t.device)
        tokens, text_mask, avatar_modulation, text_modulation = self.condition(t, text, dropped)
        real = torch.ones(sequence.shape[:2], dtype=torch.bool, device=t.device)
        mask = torch.cat([real, text_mask], dim=1)[:, None, None]
        for block in self.blocks:
            sequence, tokens = block(sequence, tokens, avatar_modulation, text_modulation, mask)
        normed: Tensor = self.head_norm(sequence)
        return normed

    def _to_patches(self, tokens: Tensor) -> Tensor:
        """[B, T, ...] -> [B, P, M, ...]."""
        grouped = tokens[:, self.order]
        return grouped.reshape(len(tokens), -1, self.config.patch, *tokens.shape[2:])


_TIME_FEATURES = 64


def _time_features(t: Tensor) -> Tensor:
    """[B] in [0, 1] -> [B, 64] sines and cosines of 1 to 1,000 radians."""
    scales = torch.logspace(0.0, 3.0, _TIME_FEATURES // 2, device=t.device)
    angles = t[:, None] * scales
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)
