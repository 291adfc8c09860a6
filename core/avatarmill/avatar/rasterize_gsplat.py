"""The CUDA rasterizer: an adapter to gsplat, which is imported on first use."""

import torch
from torch import Tensor

from avatarmill.avatar.camera import Cameras
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rasterize_rules import EPS2D, NEAR_PLANE, TILE


def rasterize_gsplat(
    gaussians: Gaussians, cameras: Cameras, background: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Color [C, H, W, D], alpha [C, H, W] and expected depth [C, H, W]; background is [C, D].

    Raises:
        ValueError: gsplat is not installed.
    """
    try:
        from gsplat import rasterization
    except ImportError as error:
        raise ValueError(
            "rendering on CUDA needs gsplat: `pip install 'gsplat>=1.5'`, or move the Gaussians "
            "and cameras to the CPU"
        ) from error
    means, rotations, scales, opacities, colors = gaussians.tensors()
    if not len(gaussians) or not len(cameras):
        return _nothing(gaussians, cameras, background)
    images, alpha, _ = rasterization(
        *(means, rotations, scales, opacities, colors),
        *(cameras.world_to_camera, cameras.intrinsics, cameras.width, cameras.height),
        near_plane=NEAR_PLANE,
        eps2d=EPS2D,
        tile_size=TILE,
        packed=False,  # one avatar fills the view: nearly all Gaussians are visible
        backgrounds=background,
        render_mode="RGB+ED",
        rasterize_mode="antialiased",
    )
    return images[..., :-1], alpha[..., 0], images[..., -1]


def _nothing(
    gaussians: Gaussians, cameras: Cameras, background: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The background alone: gsplat's kernels do not take empty scenes."""
    size = len(cameras), cameras.height, cameras.width
    # Zero, but part of the graph: a backward pass then finds its (empty) way to the Gaussians.
    empty = torch.cat([tensor.flatten() for tensor in gaussians.tensors()])[:0].sum()
    blank = background.new_zeros(size) + empty
    return background[:, None, None, :] + blank[..., None], blank, blank


def contributions_gsplat(gaussians: Gaussians, cameras: Cameras) -> Tensor:
    """Sum over pixels of each Gaussian's compositing weight, [C, N].

    gsplat does not hand out weights, but the gradient of an image's sum with respect to one white
    channel is just that.
    """
    rows = []
    for c in range(len(cameras)):
        white = torch.ones_like(gaussians.opacities)[:, None].requires_grad_()
        painted = Gaussians(*gaussians.detach().tensors()[:4], white)
        color, _, _ = rasterize_gsplat(
            painted, cameras.select(slice(c, c + 1)), white.new_zeros(1, 1)
        )
        rows.append(torch.autograd.grad(color.sum(), white)[0][:, 0])
    return torch.stack(rows) if rows else gaussians.opacities.new_zeros(0, len(gaussians))
