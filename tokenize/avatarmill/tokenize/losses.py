"""Losses of the reconstructor: image terms on the foreground and regularisers of Gaussians.

LPIPS needs network weights that are not shipped here. Its stated substitute is a difference of
image gradients over a Gaussian pyramid (`PyramidLoss`): like LPIPS it asks for edges in the
right places rather than for a right mean, unlike LPIPS it knows nothing of natural images.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from avatarmill.tokenize.local import LocalGaussians

ACAP_THRESHOLD = 0.0525
"""Metres a Gaussian may leave its site for free (LHM's paper)."""
ASAP_THRESHOLD = 5.0
"""Largest to smallest axis a Gaussian may have for free (LHM's ball loss)."""


class PerceptualLoss(Protocol):
    """The seam for LPIPS: `avatarmill.tokenize.lpips` where its weights are at hand."""

    def __call__(self, rendered: Tensor, target: Tensor) -> Tensor:
        """Scalar distance of images [C, 3, H, W] in 0..1."""
        ...


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the terms of LCA's eq. 12."""

    color: float = 1.0
    alpha: float = 0.5
    perceptual: float = 1.0
    acap: float = 2.0
    asap: float = 0.01
    calm: float = 0.02
    """On the size of the pose offsets: the canonical avatar should explain most."""


@dataclass(frozen=True, slots=True)
class ImageLosses:
    """The image terms of one set of renders, each a scalar."""

    color: Tensor
    alpha: Tensor
    perceptual: Tensor


def image_losses(
    rendered: Tensor, alpha: Tensor, target: Tensor, mask: Tensor, perceptual: PerceptualLoss
) -> ImageLosses:
    """Compare renders over black with the person cut out of the target.

    Args:
        rendered: [C, H, W, 3] premultiplied by alpha.
        alpha: [C, H, W].
        target: [C, H, W, 3] the person cut out, premultiplied by the mask like the renders.
        mask: [C, H, W] in 0..1.

    Errors are divided by the person's area, so that a small person counts as much as a large.
    """
    area = mask.mean().clamp(min=0.02)
    images = rendered.movedim(-1, -3), target.movedim(-1, -3)
    return ImageLosses(
        color=(rendered - target).abs().mean() / area,
        alpha=(alpha - mask).abs().mean() / area,
        perceptual=perceptual(*images) / area,
    )


class PyramidLoss:
    """Mean absolute difference of horizontal and vertical gradients at several scales."""

    def __init__(self, levels: int = 3) -> None:
        self.levels = levels

    def __call__(self, rendered: Tensor, target: Tensor) -> Tensor:
        """Scalar distance of images [C, 3, H, W]."""
        difference = rendered - target
        total = difference.new_zeros(())
        # Gradients and pooling are linear, so one pyramid of the difference is enough.
        for _ in range(self.levels):
            total = (
                total + difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
            )
            difference = F.avg_pool2d(difference, 2)
        return total / self.levels


def as_close_as_possible(local: LocalGaussians) -> Tensor:
    """ACAP: how far Gaussians stray from their sites beyond the threshold, mean in metres."""
    distance = (local.offsets.square().sum(-1) + 1e-12).sqrt()
    return (distance - ACAP_THRESHOLD).relu().mean()


def as_spherical_as_possible(local: LocalGaussians) -> Tensor:
    """ASAP: ratio of longest to shortest axis beyond the threshold, mean."""
    spread = local.log_scales.amax(-1) - local.log_scales.amin(-1)
    return (spread.exp() - ASAP_THRESHOLD).relu().mean()


def psnr(rendered: Tensor, target: Tensor, mask: Tensor) -> float:
    """Peak signal to noise ratio in decibels over the pixels of the mask (> 0.5).

    Args:
        rendered, target: [C, H, W, 3] in 0..1.
        mask: [C, H, W].
    """
    inside = mask > 0.5
    if not inside.any():
        raise ValueError("psnr needs a mask with at least one pixel above 0.5")
    error = (rendered - target).square().mean(-1)[inside].mean()
    return float(-10.0 * torch.log10(error.clamp(min=1e-10)))
