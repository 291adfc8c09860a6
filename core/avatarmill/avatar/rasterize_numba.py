"""The CPU rasterizer: numba kernels joined into one differentiable torch function."""

from typing import Any, cast

import numpy as np
import torch
from numba import get_num_threads
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatarmill.avatar.camera import Cameras
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rasterize_numba_backward import blend_backward
from avatarmill.avatar.rasterize_numba_project import project_backward, project_forward
from avatarmill.avatar.rasterize_numba_strips import blend_forward
from avatarmill.avatar.rasterize_numba_tiles import bin_tiles, tile_grid
from avatarmill.avatar.rasterize_rules import MIN_COVERAGE

Floats = NDArray[np.float32]


class _Rasterize(torch.autograd.Function):
    """Forward and exact backward for means, rotations, scales, opacities and colors."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        rotations: Tensor,
        scales: Tensor,
        opacities: Tensor,
        colors: Tensor,
        background: Tensor,
        cameras: Cameras,
    ) -> tuple[Tensor, Tensor, Tensor]:
        size = cameras.width, cameras.height
        grid = tile_grid(*size)
        lens = _array(cameras.intrinsics), _array(cameras.world_to_camera)
        shapes = _array(means), _array(rotations), _array(scales), _array(opacities)
        paint, backdrop = _array(colors), _array(background)
        workers = get_num_threads()
        splats, boxes = project_forward(*shapes, *lens, *size, workers)
        offsets, ids, starts = bin_tiles(splats, boxes, *grid)
        color, light, depth, last = blend_forward(
            splats, paint, offsets, ids, backdrop, *size, *grid, workers
        )
        alpha = 1.0 - light
        ctx.shapes, ctx.lens, ctx.size, ctx.grid = shapes, lens, size, grid
        ctx.paint, ctx.backdrop = paint, backdrop
        ctx.lists = splats, boxes, offsets, ids, starts
        ctx.pixels = light, last, alpha, depth
        return torch.from_numpy(color), torch.from_numpy(alpha), torch.from_numpy(depth)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_color, grad_alpha, grad_depth = (_array(grad) for grad in grads)
        workers = get_num_threads()
        light, last, alpha, depth = ctx.pixels
        splats, boxes, offsets, ids, starts = ctx.lists
        # Expected depth is a quotient: hand its gradient on to the weighted sum and to alpha.
        covered = np.maximum(alpha, MIN_COVERAGE)
        grad_sum = grad_depth / covered
        grad_behind = grad_sum * depth * (alpha > MIN_COVERAGE) - grad_alpha
        grad_behind += np.einsum("chwd,cd->chw", grad_color, ctx.backdrop)
        slots = blend_backward(
            *(splats, ctx.paint, offsets, ids, boxes, starts, light, last),
            *(grad_color, grad_behind, grad_sum, *ctx.grid, workers),
        )
        table = torch.from_numpy(
            project_backward(*ctx.shapes, *ctx.lens, *ctx.size, boxes, starts, slots, workers)
        )
        means, rotations, scales, opacities, colors = table.split(
            [3, 4, 3, 1, table.shape[1] - 11], dim=1
        )
        return means, rotations, scales, opacities[:, 0], colors, None, None


def rasterize_numba(
    gaussians: Gaussians, cameras: Cameras, background: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Color [C, H, W, D], alpha [C, H, W] and expected depth [C, H, W]; background is [C, D].

    Differentiable with respect to all five tensors of the Gaussians; not to cameras or background.
    """
    return cast(
        tuple[Tensor, Tensor, Tensor],
        _Rasterize.apply(*gaussians.tensors(), background, cameras),  # type: ignore[no-untyped-call]
    )


def contributions_numba(gaussians: Gaussians, cameras: Cameras) -> Tensor:
    """Sum over pixels of each Gaussian's compositing weight, [C, N]."""
    size = cameras.width, cameras.height
    grid = tile_grid(*size)
    shapes = [_array(tensor) for tensor in gaussians.tensors()[:4]]
    workers = get_num_threads()
    lens = _array(cameras.intrinsics), _array(cameras.world_to_camera)
    splats, boxes = project_forward(*shapes, *lens, *size, workers)
    offsets, ids, starts = bin_tiles(splats, boxes, *grid)
    white, black = np.ones((len(gaussians), 1), np.float32), np.zeros((len(cameras), 1), np.float32)
    color, light, _, last = blend_forward(splats, white, offsets, ids, black, *size, *grid, workers)
    # A weight is the gradient of the image's sum with respect to one white channel.
    slots = blend_backward(
        *(splats, white, offsets, ids, boxes, starts, light, last),
        *(np.ones_like(color), np.zeros_like(light), np.zeros_like(light), *grid, workers),
    )
    # Gaussians' slots follow each other: differences of the running sum add up each run.
    running = np.concatenate([[0.0], np.cumsum(slots[:, -1], dtype=np.float64)])
    ends = np.append(starts.reshape(-1)[1:], len(slots))
    totals = running[ends] - running[starts.reshape(-1)]
    return torch.from_numpy(totals.astype(np.float32).reshape(starts.shape))


def _array(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)
