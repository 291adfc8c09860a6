"""The rasterizer in plain torch, every Gaussian at every pixel: the truth for the fast ones.

Nothing is tiled, culled or hand-differentiated here. It works in any floating dtype on any device;
memory grows with pixels times Gaussians, so it is for tests and for explaining the rules.
"""

import torch
from torch import Tensor

from avatarmill.avatar.camera import Cameras
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rasterize_rules import (
    ALPHA_THRESHOLD,
    EPS2D,
    FRUSTUM_MARGIN,
    MAX_ALPHA,
    MIN_COVERAGE,
    NEAR_PLANE,
    TRANSMITTANCE_THRESHOLD,
)


def rasterize_reference(
    gaussians: Gaussians, cameras: Cameras, background: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Color [C, H, W, D], alpha [C, H, W] and expected depth [C, H, W]; background is [C, D]."""
    views = [
        _render(gaussians, cameras.select(slice(c, c + 1)), background[c])
        for c in range(len(cameras))
    ]
    color, alpha, depth = (torch.stack(images) for images in zip(*views, strict=True))
    return color, alpha, depth


def _render(
    gaussians: Gaussians, camera: Cameras, background: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One camera: color [H, W, D], alpha [H, W], expected depth [H, W]."""
    points = camera.transform(gaussians.means)[0]
    seen = points[:, 2] >= NEAR_PLANE
    gaussians, points = gaussians.select(seen), points[seen]
    order = torch.argsort(points[:, 2], stable=True)
    gaussians, points = gaussians.select(order), points[order]
    # [P, N] pixels by Gaussians from here on, nearest Gaussian first.
    alpha = _alphas(gaussians, points, camera)
    after = torch.cumprod(1.0 - alpha, dim=1)
    taken = alpha * (after > TRANSMITTANCE_THRESHOLD)
    after = torch.cumprod(1.0 - taken, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after], dim=1)
    weights = taken * before[:, :-1]
    light = before[:, -1]
    color = weights @ gaussians.colors + light[:, None] * background
    coverage = 1.0 - light
    depth = weights @ points[:, 2] / coverage.clamp_min(MIN_COVERAGE)
    size = camera.height, camera.width
    return color.reshape(*size, -1), coverage.reshape(size), depth.reshape(size)


def _alphas(gaussians: Gaussians, points: Tensor, camera: Cameras) -> Tensor:
    """Clamped, thresholded alpha of each Gaussian at each pixel centre, [H * W, N]."""
    mean, covariance = _project(gaussians, points, camera)
    sharp = torch.linalg.det(covariance)
    blurred = covariance + EPS2D * torch.eye(2).to(covariance)
    opacity = gaussians.opacities * (sharp / torch.linalg.det(blurred)).clamp_min(0.0).sqrt()
    conic = torch.linalg.inv(blurred)
    rows = torch.arange(camera.height).to(mean) + 0.5
    columns = torch.arange(camera.width).to(mean) + 0.5
    grid_y, grid_x = torch.meshgrid(rows, columns, indexing="ij")
    offset = mean - torch.stack([grid_x, grid_y], dim=-1).reshape(-1, 1, 2)
    sigma = 0.5 * torch.einsum("pni,nij,pnj->pn", offset, conic, offset)
    alpha = (opacity * torch.exp(-sigma)).clamp_max(MAX_ALPHA)
    return torch.where(alpha >= ALPHA_THRESHOLD, alpha, 0.0)


def _project(gaussians: Gaussians, points: Tensor, camera: Cameras) -> tuple[Tensor, Tensor]:
    """Screen means [N, 2] and covariances [N, 2, 2] before blurring (EWA, Zwicker 2001)."""
    lens = camera.intrinsics[0]
    focal, center = torch.stack([lens[0, 0], lens[1, 1]]), lens[:2, 2]
    size = torch.tensor([camera.width, camera.height]).to(center)
    margin = FRUSTUM_MARGIN * size
    depth = points[:, 2:]
    slope = points[:, :2] / depth
    clamped = slope.clamp(-(center + margin) / focal, (size - center + margin) / focal)
    jacobian = torch.cat(
        [torch.diag_embed(focal / depth), (-focal * clamped / depth)[..., None]], 2
    )
    shape = _rotation_matrices(gaussians.rotations) * gaussians.scales[:, None, :]
    root = jacobian @ camera.world_to_camera[0, :3, :3] @ shape
    return slope * focal + center, root @ root.transpose(1, 2)


def _rotation_matrices(quaternions: Tensor) -> Tensor:
    """Rotations [N, 3, 3] of quaternions wxyz of any non-zero length."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
