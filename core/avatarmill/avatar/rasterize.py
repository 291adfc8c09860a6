"""Differentiable rendering of Gaussians: one function, numba on CPU and gsplat on CUDA."""

from dataclasses import dataclass

import torch
from torch import Tensor

from avatarmill.avatar.camera import Cameras
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rasterize_gsplat import contributions_gsplat, rasterize_gsplat
from avatarmill.avatar.rasterize_numba import contributions_numba, rasterize_numba


@dataclass(frozen=True, slots=True, eq=False)
class Rendering:
    """Images of C cameras; the first axis is the camera."""

    color: Tensor
    """[C, H, W, D] colour, already over the background (premultiplied where there is none)."""
    alpha: Tensor
    """[C, H, W] coverage in 0..1."""
    depth: Tensor
    """[C, H, W] expected depth in metres along z; 0 where nothing is drawn."""


def rasterize(
    gaussians: Gaussians, cameras: Cameras, *, background: Tensor | None = None
) -> Rendering:
    """Render Gaussians to all cameras, differentiably with respect to their five tensors.

    The conventions are gsplat 1.5's `antialiased` mode (see rasterize_rules.py): the device of
    the tensors chooses numba kernels (CPU, deterministic) or gsplat (CUDA).

    Args:
        gaussians: N Gaussians of D channels in world space, float32.
        cameras: C cameras on the same device.
        background: [D] or [C, D] colour behind everything; black without it. It gets no gradient.

    Raises:
        ValueError: dtype, device or background do not fit, or a number is not finite.
    """
    _check(gaussians, cameras)
    shape = (len(cameras), gaussians.channels)
    if background is None:
        background = gaussians.colors.new_zeros(shape)
    elif background.shape not in (shape, shape[1:]):
        raise ValueError(
            f"background must be [{shape[1]}] or {list(shape)}, got {list(background.shape)}"
        )
    else:
        _check_finite("background", background)
    background = background.to(gaussians.colors).expand(shape)
    render = rasterize_gsplat if gaussians.means.is_cuda else rasterize_numba
    return Rendering(*render(gaussians, cameras, background))


def contributions(gaussians: Gaussians, cameras: Cameras) -> Tensor:
    """Sum over all pixels of each Gaussian's weight (alpha times transmittance), [C, N].

    A Gaussian that no camera sees gets 0; one that covers k pixels alone gets about k times its
    mean alpha. Without gradient.

    Raises:
        ValueError: dtype or device do not fit, or a number is not finite.
    """
    _check(gaussians, cameras)
    weigh = contributions_gsplat if gaussians.means.is_cuda else contributions_numba
    return weigh(gaussians.detach(), cameras)


def _check(gaussians: Gaussians, cameras: Cameras) -> None:
    if gaussians.means.dtype != torch.float32:
        raise ValueError(
            f"the rasterizers take float32 Gaussians, got {gaussians.means.dtype}: "
            "use .to(torch.float32)"
        )
    if cameras.intrinsics.device != gaussians.means.device:
        raise ValueError(
            f"Gaussians are on {gaussians.means.device}, cameras on {cameras.intrinsics.device}"
        )
    for name, tensor in zip(gaussians.__slots__, gaussians.tensors(), strict=True):
        _check_finite(name, tensor)
    _check_finite("intrinsics", cameras.intrinsics)
    _check_finite("world_to_camera", cameras.world_to_camera)


def _check_finite(name: str, tensor: Tensor) -> None:
    finite = torch.isfinite(tensor)
    if bool(finite.all()):
        return
    first = torch.nonzero(~finite)[0].tolist()
    value = tensor[tuple(first)].item()
    raise ValueError(
        f"{name} holds {int((~finite).sum())} values that are not finite, the first is {value} at "
        f"{first}: drop or clamp them before rendering"
    )
