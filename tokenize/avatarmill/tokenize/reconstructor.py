"""The reconstructor (LCA, arXiv 2604.02320): images of a person in, geometry tokens out.

```
crops ──encoder──▶ image tokens ────────────────┐
   └──▶ pixel-aligned features ─┐               ├─▶ L x (image, geometry, joint attention)
anchors ─▶ positional encoding ─┴─▶ geometry tokens ─┘            │
                                                                  ▼
                          tokens [T, D] ─▶ canonical decoder ─▶ Gaussians at rest
                                 └───────▶ pose decoder ──────▶ offsets for a pose
```

Shape letters: B identities, N images, T tokens, D channels, P = T * K Gaussians.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from avatarmill.avatar.anchors import Anchors
from avatarmill.avatar.body import BodyParams
from avatarmill.avatar.parts import PARTS
from avatarmill.tokenize.attention import LcaLayer
from avatarmill.tokenize.config import ReconstructorConfig
from avatarmill.tokenize.decoders import CanonicalDecoder, PoseDecoder, color_channels
from avatarmill.tokenize.features import ReconstructorInput, aligned_features, site_colors
from avatarmill.tokenize.image_encoder import ConvEncoder, ImageEncoder, ImageFeatures
from avatarmill.tokenize.local import LocalGaussians, PoseOffsets
from avatarmill.tokenize.sites import Sites

_FREQUENCIES = 6


class Reconstructor(nn.Module):
    """Network of the tokenizer; nano and base differ in their configuration only."""

    position: Tensor
    part: Tensor
    mirror: Tensor

    def __init__(
        self,
        config: ReconstructorConfig,
        anchors: Anchors,
        sites: Sites,
        image_encoder: nn.Module | None = None,
    ) -> None:
        """Build with random weights.

        Args:
            image_encoder: an `ImageEncoder` to use frozen; needed when config.image_encoder
                says "frozen", whose channels must equal config.feature_channels.
        """
        super().__init__()
        if len(anchors.face) != config.num_tokens:
            raise ValueError(
                f"{len(anchors.face)} anchors for num_tokens {config.num_tokens}; "
                "load_anchors(body, count=config.num_tokens) gives the right set"
            )
        self.config = config
        width = config.width
        self.image_encoder = _image_encoder(config, image_encoder)
        self.image_projection = nn.Linear(self._encoder.token_channels, width)
        self.face_mark = nn.Parameter(torch.zeros(width))
        position = positional_encoding(anchors.position.float())
        self.register_buffer("position", position, persistent=False)
        self.register_buffer("part", anchors.part.long(), persistent=False)
        self.register_buffer("mirror", sites.mirror, persistent=False)
        self.part_embedding = nn.Embedding(len(PARTS), width)
        nn.init.normal_(self.part_embedding.weight, std=0.02)
        self.anchor_embedding = nn.Parameter(
            torch.randn(config.num_tokens, config.anchor_channels) * 0.02
        )
        seen = 4 * config.gaussians_per_token + 10 + config.feature_channels
        self.geometry_projection = nn.Sequential(
            nn.Linear(position.shape[1] + config.anchor_channels + seen, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )
        last = self.geometry_projection[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight[: 3 * config.gaussians_per_token] *= 0.1
        self.layers = nn.ModuleList(
            LcaLayer(width, config.heads, config.mlp_ratio) for _ in range(config.layers)
        )
        self.canonical = CanonicalDecoder(width, config.gaussians_per_token, sites.spacing)
        self.posed = PoseDecoder(width, config.gaussians_per_token, config.pose_channels)

    @property
    def _encoder(self) -> ImageEncoder:
        return cast(ImageEncoder, self.image_encoder)

    def forward(self, inputs: ReconstructorInput) -> Tensor:
        """Tokens [B, T, D] of B identities from any number of images each."""
        batch, images = inputs.images.shape[:2]
        body = self._encoder(inputs.images.flatten(0, 1))
        face = self._encoder(inputs.faces.flatten(0, 1))
        valid = inputs.face_valid.flatten()[:, None, None]
        image_tokens = torch.cat(
            [self._image_tokens(body), (self._image_tokens(face) + self.face_mark) * valid], dim=1
        ).unflatten(0, (batch, images))
        geometry = self._geometry_tokens(body, inputs)
        for layer in self.layers:
            image_tokens, geometry = layer(image_tokens, geometry)
        return geometry

    def decode(self, tokens_btd: Tensor) -> LocalGaussians:
        """Canonical Gaussians [B, P] of tokens."""
        return cast(LocalGaussians, self.canonical(tokens_btd))

    def pose_offsets(self, tokens_btd: Tensor, params: BodyParams) -> PoseOffsets:
        """Offsets [B, P] that B poses add to the canonical Gaussians."""
        return cast(PoseOffsets, self.posed(tokens_btd, params))

    def _image_tokens(self, features: ImageFeatures) -> Tensor:
        rows, columns = features.tokens.shape[-2:]
        cells = features.tokens.flatten(2).transpose(1, 2)
        where = pixel_encoding(rows, columns, self.config.width, cells.device)
        return cast(Tensor, self.image_projection(cells) + where)

    def _geometry_tokens(self, body: ImageFeatures, inputs: ReconstructorInput) -> Tensor:
        static = torch.cat([self.position, self.anchor_embedding], dim=1)
        static = static.expand(len(inputs.images), -1, -1)
        colors = site_colors(inputs, self.mirror)
        detail = aligned_features(body.detail.float(), inputs)
        tokens = self.geometry_projection(torch.cat([static, colors.features, detail], dim=-1))
        tokens = tokens + self.part_embedding(self.part)
        # The guess enters where the decoder reads colours, so training starts from it.
        start = color_channels(colors.guess.flatten(2))
        rest = tokens.shape[-1] - start.shape[-1]
        return cast(Tensor, tokens + nn.functional.pad(start, (0, rest)))


def _image_encoder(config: ReconstructorConfig, given: nn.Module | None) -> nn.Module:
    if config.image_encoder == "conv":
        if given is not None:
            raise ValueError("image_encoder='conv' trains its own encoder; give none")
        return ConvEncoder(config.width, config.feature_channels)
    if given is None:
        raise ValueError(
            "image_encoder='frozen' needs a backbone: FrozenEncoder(path) of a transformers folder"
        )
    channels = cast(ImageEncoder, given).token_channels
    if channels != config.feature_channels:
        raise ValueError(
            f"the frozen encoder has {channels} channels, the configuration says "
            f"feature_channels={config.feature_channels}; set it to {channels}"
        )
    return given.requires_grad_(False)


def positional_encoding(points: Tensor) -> Tensor:
    """Coordinates in metres and their sines and cosines at 0.5 to 16 waves a metre: [T, 39]."""
    waves = points[:, :, None] * (math.pi * 2.0 ** torch.arange(_FREQUENCIES))
    return torch.cat([points, waves.sin().flatten(1), waves.cos().flatten(1)], dim=1)


def pixel_encoding(rows: int, columns: int, width: int, device: torch.device) -> Tensor:
    """Sine-cosine encoding [rows * columns, width] of where a cell lies in its image, 0..1."""
    count = width // 4
    rate = math.pi * 2.0 ** torch.linspace(-1.0, 4.0, count, device=device)
    row = ((torch.arange(rows, device=device) + 0.5) / rows)[:, None] * rate
    column = ((torch.arange(columns, device=device) + 0.5) / columns)[:, None] * rate
    by_row = torch.cat([row.sin(), row.cos()], dim=1)[:, None].expand(-1, columns, -1)
    by_column = torch.cat([column.sin(), column.cos()], dim=1)[None].expand(rows, -1, -1)
    return torch.cat([by_row, by_column], dim=-1).flatten(0, 1)
