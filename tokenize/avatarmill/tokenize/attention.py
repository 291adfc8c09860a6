"""LCA's transformer layer: image attention, geometry attention, then attention over both.

Shape letters: B identities, N images each, I tokens an image, T geometry tokens, D channels,
H heads.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head self-attention with RMS-normalised queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        # Normalised queries and keys keep the logits bounded, so bf16 and high rates stay stable.
        self.query_norm = nn.RMSNorm(width // heads)
        self.key_norm = nn.RMSNorm(width // heads)

    def forward(self, tokens_bsd: Tensor) -> Tensor:
        """Mix tokens [B, S, D] within each row of the batch."""
        batch, length, width = tokens_bsd.shape
        qkv = self.qkv(tokens_bsd).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        query = self.query_norm(query).to(value.dtype)
        key = self.key_norm(key).to(value.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(1, 2).reshape(batch, length, width)
        return cast(Tensor, self.out(mixed))


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each on a residual path."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        widen, narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.mlp = nn.Sequential(widen, nn.GELU(), narrow)
        # Blocks start as small corrections: what the pixels say passes through unharmed.
        with torch.no_grad():
            for last in (self.attention.out, narrow):
                last.weight.mul_(0.1)
                last.bias.zero_()

    def forward(self, tokens_bsd: Tensor) -> Tensor:
        """Update tokens [B, S, D]."""
        tokens_bsd = tokens_bsd + self.attention(self.attention_norm(tokens_bsd))
        return cast(Tensor, tokens_bsd + self.mlp(self.mlp_norm(tokens_bsd)))


class LcaLayer(nn.Module):
    """One layer in LCA's order (arXiv 2604.02320, section 2.3 of our notes).

    ```
    image tokens ──▶ image attention (within each image) ──┐
                                                           ├─▶ joint attention ─▶ both
    geometry tokens ─▶ geometry attention ─────────────────┘
    ```
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.image = Block(width, heads, mlp_ratio)
        self.geometry = Block(width, heads, mlp_ratio)
        self.joint = Block(width, heads, mlp_ratio)

    def forward(self, image_bnid: Tensor, geometry_btd: Tensor) -> tuple[Tensor, Tensor]:
        """Update image tokens [B, N, I, D] and geometry tokens [B, T, D]."""
        batch, images, length, width = image_bnid.shape
        image = self.image(image_bnid.reshape(batch * images, length, width))
        geometry = self.geometry(geometry_btd)
        both = torch.cat([geometry, image.reshape(batch, images * length, width)], dim=1)
        both = self.joint(both)
        num_tokens = geometry.shape[1]
        return both[:, num_tokens:].reshape(image_bnid.shape), both[:, :num_tokens]
