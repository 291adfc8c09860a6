"""Image encoders: crops in, a coarse map of image tokens and a finer map to sample from out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What an encoder sees in a batch of crops."""

    tokens: Tensor
    """[B, C, h, w]: the coarse map whose cells become image tokens."""
    detail: Tensor
    """[B, feature_channels, h', w']: the map that pixel-aligned features are sampled from."""


class ImageEncoder(Protocol):
    """The seam behind which a frozen backbone can replace the small encoder."""

    token_channels: int

    def __call__(self, images: Tensor) -> ImageFeatures:
        """Encode masked crops [B, 4, S, S]: RGB in 0..1 with background 0, then the mask."""
        ...


class ConvEncoder(nn.Module):
    """A five-step convolutional pyramid of stride 32, with a top-down path to stride 4."""

    def __init__(self, width: int, feature_channels: int) -> None:
        super().__init__()
        widths = (4, 16, 32, 64, 96, width)
        self.token_channels = width
        self.steps = nn.ModuleList(
            _step(before, after) for before, after in zip(widths[:-1], widths[1:], strict=True)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(w, feature_channels, 1) for w in widths[2:5])

    def forward(self, images: Tensor) -> ImageFeatures:
        """Encode [B, 4, S, S] to tokens [B, width, S/32, S/32] and detail at S/4."""
        levels = [images * 2.0 - 1.0]
        for step in self.steps:
            levels.append(step(levels[-1]))
        detail = self.lateral[2](levels[4])
        for lateral, level in ((self.lateral[1], levels[3]), (self.lateral[0], levels[2])):
            detail = F.interpolate(detail, scale_factor=2.0, mode="nearest") + lateral(level)
        return ImageFeatures(levels[5], detail)


def _step(before: int, after: int) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1)
    return nn.Sequential(conv, nn.GroupNorm(8, after), nn.GELU())


class FrozenEncoder(nn.Module):
    """A vision transformer of `transformers`, read from a local folder and never trained.

    Its last hidden state, without class and register tokens, serves as both maps. Nothing is
    downloaded: `path` must hold a config.json and safetensors weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        # transformers is wanted by this encoder only, and takes seconds to import.
        from transformers import AutoModel

        if not (path / "config.json").is_file():
            raise ValueError(
                f"no frozen image encoder at {path}: expected config.json and model.safetensors "
                "as written by transformers' save_pretrained"
            )
        self.model = AutoModel.from_pretrained(path, local_files_only=True).eval()
        self.model.requires_grad_(False)
        self.token_channels = int(self.model.config.hidden_size)
        self.patch = int(self.model.config.patch_size)
        # ImageNet statistics: what DINO and Sapiens backbones were trained with.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    @torch.no_grad()
    def forward(self, images: Tensor) -> ImageFeatures:
        """Encode [B, 4, S, S] to one map of [B, hidden_size, S/patch, S/patch]."""
        rgb = (images[:, :3] - self.mean) / self.std
        hidden = self.model(pixel_values=rgb).last_hidden_state
        rows, columns = images.shape[-2] // self.patch, images.shape[-1] // self.patch
        cells = hidden[:, -rows * columns :].transpose(1, 2)
        maps = cells.reshape(len(images), self.token_channels, rows, columns)
        return ImageFeatures(maps, maps)
