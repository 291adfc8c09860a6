"""Rendering a reconstruction into target frames and measuring how wrong it is.

Both renders are supervised (LCA's eq. 12): the canonical Gaussians merely skinned, and the
same with pose-dependent offsets.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avatarmill.avatar.body import Body, BodyParams
from avatarmill.avatar.camera import Cameras
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rasterize import rasterize
from avatarmill.avatar.skinning import skin_gaussians
from avatarmill.tokenize.local import LocalGaussians, apply_offsets, place
from avatarmill.tokenize.losses import (
    ImageLosses,
    LossWeights,
    PerceptualLoss,
    as_close_as_possible,
    as_spherical_as_possible,
    image_losses,
)
from avatarmill.tokenize.reconstructor import Reconstructor
from avatarmill.tokenize.sites import Sites
from avatarmill.train.actor_set import TargetViews


@dataclass(frozen=True, slots=True)
class AvatarLosses:
    """Every term of one step, unweighted scalars."""

    color_canonical: Tensor
    color_posed: Tensor
    alpha: Tensor
    perceptual: Tensor
    acap: Tensor
    asap: Tensor
    calm: Tensor

    def total(self, weights: LossWeights) -> Tensor:
        """The scalar to descend."""
        color = self.color_canonical + self.color_posed
        return (
            weights.color * color
            + weights.alpha * self.alpha
            + weights.perceptual * self.perceptual
            + weights.acap * self.acap
            + weights.asap * self.asap
            + weights.calm * self.calm
        )

    def row(self) -> dict[str, float]:
        """Numbers for the log."""
        return {field.name: float(getattr(self, field.name).detach()) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class PosedPair:
    """One frame's Gaussians, without and with pose-dependent offsets."""

    canonical: Gaussians
    posed: Gaussians


def pose_pairs(
    model: Reconstructor, sites: Sites, body: Body, tokens: Tensor, params: BodyParams
) -> tuple[LocalGaussians, list[PosedPair], Tensor]:
    """Pose one identity's tokens [1, T, D] in M ways.

    Returns the canonical Gaussians, the pairs, and the mean size of the offsets (`calm`).
    """
    local = model.decode(tokens)[0]
    count = len(params.pose)
    change = model.pose_offsets(tokens.expand(count, -1, -1), params)
    with torch.no_grad():
        vertices, _ = body.rest(params.shape, params.expression)
        _, transforms = body.transforms(params)
    pairs = []
    for row in range(count):
        corrected = apply_offsets(local, change[row])
        both = [
            skin_gaussians(place(either, sites, vertices[row]), sites.weights, transforms[row])
            for either in (local, corrected)
        ]
        pairs.append(PosedPair(*both))
    calm = change.colors.abs().mean() + 10.0 * change.offsets.abs().mean()
    return local, pairs, calm


def zoom(views: TargetViews, size: int, rng: np.random.Generator, face_share: float) -> TargetViews:
    """Cut a square out of each view and resize it to `size`: the whole crop, or its face."""
    side = views.images.shape[1]
    windows = [_window(box, side, rng, face_share) for box in views.face_boxes.tolist()]
    layers = torch.cat([views.images, views.masks[..., None], views.known[..., None]], dim=-1)
    cut = [
        _resize(image[:, y : y + span, x : x + span], size)
        for image, (x, y, span) in zip(layers.permute(0, 3, 1, 2), windows, strict=True)
    ]
    intrinsics = views.intrinsics.clone()
    for row, (x, y, span) in enumerate(windows):
        intrinsics[row, 0, 2] -= x
        intrinsics[row, 1, 2] -= y
        intrinsics[row, :2] *= size / span
    out = torch.stack(cut).clamp(0.0, 1.0)
    return TargetViews(
        images=out[:, :3].permute(0, 2, 3, 1),
        masks=out[:, 3],
        known=out[:, 4],
        intrinsics=intrinsics,
        params=views.params,
        face_boxes=views.face_boxes,
    )


def _window(
    box: list[float], side: int, rng: np.random.Generator, face_share: float
) -> tuple[int, int, int]:
    """x, y, side of a square window inside the crop."""
    x0, y0, x1, y1 = box
    if x1 <= x0 or rng.random() >= face_share:
        return 0, 0, side
    span = int(np.clip((x1 - x0) * rng.uniform(1.6, 3.5), side / 4, side))
    left = (x0 + x1) / 2 - span / 2 + rng.uniform(-0.1, 0.1) * span
    top = (y0 + y1) / 2 - span / 2 + rng.uniform(-0.1, 0.3) * span
    return int(np.clip(left, 0, side - span)), int(np.clip(top, 0, side - span)), span


def _resize(image: Tensor, size: int) -> Tensor:
    if image.shape[-1] == size:
        return image
    return F.interpolate(image[None], (size, size), mode="bilinear", antialias=True)[0]


def render(gaussians: Gaussians, intrinsics: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Color [size, size, 3] over black and alpha [size, size] through a camera [3, 3]."""
    rendering = rasterize(gaussians, Cameras.identity(intrinsics[None], size, size))
    return rendering.color[0], rendering.alpha[0]


def avatar_losses(
    model: Reconstructor,
    sites: Sites,
    body: Body,
    tokens: Tensor,
    views: TargetViews,
    perceptual: PerceptualLoss,
) -> AvatarLosses:
    """All losses of one identity's tokens [1, T, D] against M views."""
    local, pairs, calm = pose_pairs(model, sites, body, tokens, views.params)
    terms = [
        _compare([getattr(pair, kind) for pair in pairs], views, perceptual)
        for kind in ("canonical", "posed")
    ]
    return AvatarLosses(
        color_canonical=terms[0].color,
        color_posed=terms[1].color,
        alpha=terms[0].alpha + terms[1].alpha,
        perceptual=terms[0].perceptual + terms[1].perceptual,
        acap=as_close_as_possible(local),
        asap=as_spherical_as_possible(local),
        calm=calm,
    )


def _compare(
    gaussians: list[Gaussians], views: TargetViews, perceptual: PerceptualLoss
) -> ImageLosses:
    size = views.images.shape[1]
    rendered = [render(g, k, size) for g, k in zip(gaussians, views.intrinsics, strict=True)]
    color = torch.stack([color for color, _ in rendered])
    alpha = torch.stack([alpha for _, alpha in rendered])
    color, alpha = color * views.known[..., None], alpha * views.known
    return image_losses(color, alpha, views.images, views.masks, perceptual)
