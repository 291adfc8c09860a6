"""Sizes of the tokenizer: the nano preset that ships with weights, and LCA's own sizes."""

from dataclasses import dataclass
from typing import Literal

ImageEncoderKind = Literal[
    "conv",  # a small pyramid trained together with the reconstructor
    "frozen",  # feature maps of an external backbone, handed to the reconstructor at construction
]


@dataclass(frozen=True, slots=True)
class ReconstructorConfig:
    """Sizes of the reconstructor; everything that changes the meaning of its weights."""

    num_tokens: int = 1024
    """Anchors on the body, one geometry token each."""
    gaussians_per_token: int = 8
    width: int = 128
    """Channels of a token, LCA's D."""
    layers: int = 2
    """Each layer is image, then geometry, then joint attention, LCA's L."""
    heads: int = 2
    mlp_ratio: float = 2.0
    image_size: int = 256
    """Side of the square body crops in pixels."""
    face_size: int = 96
    """Side of the square face crops in pixels."""
    image_encoder: ImageEncoderKind = "conv"
    feature_channels: int = 32
    """Channels of the pixel-aligned features (conv) or of the external backbone (frozen)."""
    anchor_channels: int = 16
    """Learned channels an anchor adds to its token: what is usual at this place of a body."""
    pose_channels: int = 64
    """Width of the code that carries pose, expression and gaze to the pose decoder."""

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"width {self.width} must be heads {self.heads} times an even number; "
                f"for example width={self.heads * 32}"
            )
        if self.width % 4:
            raise ValueError(f"width {self.width} must be a multiple of 4 for the pixel encoding")
        if self.image_size % 32 or self.face_size % 32:
            raise ValueError(
                f"image_size {self.image_size} and face_size {self.face_size} must be "
                "multiples of 32, the coarsest stride of the image encoder"
            )
        if 3 * self.gaussians_per_token > self.width:
            raise ValueError(
                f"width {self.width} cannot hold the colours of {self.gaussians_per_token} "
                f"Gaussians; at least {3 * self.gaussians_per_token} channels are needed"
            )
        if min(self.num_tokens, self.gaussians_per_token, self.layers) < 1:
            raise ValueError("num_tokens, gaussians_per_token and layers must be at least 1")

    @property
    def num_gaussians(self) -> int:
        """Gaussians of one avatar."""
        return self.num_tokens * self.gaussians_per_token


@dataclass(frozen=True, slots=True)
class CompressorConfig:
    """Sizes of the per-token compressor."""

    channels: int = 8
    """Channels of a stored latent."""
    hidden: int = 256


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """Everything one needs to build a tokenizer before its weights are read."""

    name: str
    reconstructor: ReconstructorConfig
    compressor: CompressorConfig


NANO = TokenizerConfig("nano", ReconstructorConfig(), CompressorConfig())
"""1,024 tokens of 8 Gaussians; trained on a CPU in under an hour, weights in the repository."""

BASE = TokenizerConfig(
    "base",
    ReconstructorConfig(
        num_tokens=8192,
        width=1024,
        layers=8,
        heads=16,
        mlp_ratio=4.0,
        image_size=1024,
        face_size=512,
        image_encoder="frozen",
        feature_channels=1536,
        anchor_channels=64,
        pose_channels=256,
    ),
    CompressorConfig(hidden=2048),
)
"""LCA's sizes (arXiv 2604.02320): 8 layers of 1,024 channels on frozen 1,536-channel features."""

TINY = TokenizerConfig(
    "tiny",
    ReconstructorConfig(
        num_tokens=128,
        gaussians_per_token=4,
        width=32,
        layers=1,
        heads=2,
        image_size=64,
        face_size=32,
        feature_channels=16,
        anchor_channels=4,
        pose_channels=16,
    ),
    CompressorConfig(hidden=32),
)
"""For tests and smoke runs: everything there, nothing good."""

PRESETS: dict[str, TokenizerConfig] = {preset.name: preset for preset in (NANO, BASE, TINY)}
