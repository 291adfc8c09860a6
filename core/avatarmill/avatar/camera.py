"""Pinhole cameras in the OpenCV convention, and the intrinsics of crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", Tensor, np.ndarray)

WORLD_UP = (0.0, 1.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Cameras:
    """C pinhole cameras with one image size: x right, y down, z forward.

    A point at pixel coordinates (u, v) lies in pixel (floor(u), floor(v)): centres are at +0.5.
    Intrinsics have no skew (K[0, 1] is ignored by the rasterizers).

    Raises:
        ValueError: shapes do not match or the image size is not positive.
    """

    intrinsics: Tensor
    """[C, 3, 3] in pixels."""
    world_to_camera: Tensor
    """[C, 4, 4] rigid transforms; points are columns."""
    width: int
    height: int

    def __post_init__(self) -> None:
        count = self.intrinsics.shape[0] if self.intrinsics.ndim == 3 else 1
        if self.intrinsics.shape != (count, 3, 3):
            raise ValueError(f"intrinsics must be [C, 3, 3], got {list(self.intrinsics.shape)}")
        if self.world_to_camera.shape != (count, 4, 4):
            got = list(self.world_to_camera.shape)
            raise ValueError(f"world_to_camera must be [{count}, 4, 4], got {got}")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"image size must be positive, got {self.width} x {self.height}")

    def __len__(self) -> int:
        return self.intrinsics.shape[0]

    def __repr__(self) -> str:
        return f"Cameras(C={len(self)}, {self.width}x{self.height})"

    @classmethod
    def identity(cls, intrinsics: Tensor, width: int, height: int) -> Cameras:
        """Cameras at the origin, for scenes in camera space; intrinsics [3, 3] or [C, 3, 3]."""
        intrinsics = intrinsics.reshape(-1, 3, 3)
        pose = torch.eye(4, dtype=intrinsics.dtype, device=intrinsics.device)
        return cls(intrinsics, pose.expand(len(intrinsics), 4, 4), width, height)

    def to(self, target: torch.device | torch.dtype | str) -> Cameras:
        """The same cameras on another device or in another dtype."""
        moved = self.intrinsics.to(target), self.world_to_camera.to(target)
        return Cameras(*moved, self.width, self.height)

    def select(self, index: slice | Tensor) -> Cameras:
        """The cameras at `index` (a slice, bool [C] or int64 [M])."""
        picked = self.intrinsics[index], self.world_to_camera[index]
        return Cameras(*picked, self.width, self.height)

    @property
    def centers(self) -> Tensor:
        """[C, 3] camera positions in the world."""
        rotation, translation = self.world_to_camera[:, :3, :3], self.world_to_camera[:, :3, 3]
        return -(rotation.transpose(1, 2) @ translation[..., None])[..., 0]

    def transform(self, points: Tensor) -> Tensor:
        """World points [..., 3] in the frame of each camera, [C, ..., 3]."""
        flat = points.reshape(-1, 3)
        rotation, translation = self.world_to_camera[:, :3, :3], self.world_to_camera[:, :3, 3]
        moved = flat @ rotation.transpose(1, 2) + translation[:, None]
        return moved.reshape(len(self), *points.shape)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """World points [..., 3] to pixels [C, ..., 2] and depths [C, ...] (metres along z).

        Points on or behind the camera plane get the pixel of a point 1e-6 m in front of it: check
        the sign of the depth before using a pixel.
        """
        moved = self.transform(points)
        depth = moved[..., 2]
        return project_points(moved, self._spread(self.intrinsics, points.ndim)), depth

    @staticmethod
    def _spread(intrinsics: Tensor, dims: int) -> Tensor:
        """Intrinsics [C, 3, 3] with singleton axes to broadcast over points of `dims` axes."""
        return intrinsics.reshape(-1, *[1] * (dims - 1), 3, 3)


def project_points(points: Tensor, intrinsics: Tensor) -> Tensor:
    """Camera-space points [..., 3] to pixels [..., 2] by intrinsics [..., 3, 3] (broadcast)."""
    focal = torch.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]], dim=-1)
    depth = points[..., 2:].clamp_min(1e-6)
    return points[..., :2] / depth * focal + intrinsics[..., :2, 2]


def look_at(
    eye: Tensor | Sequence[float],
    target: Tensor | Sequence[float],
    up: Tensor | Sequence[float] = WORLD_UP,
) -> Tensor:
    """World-to-camera transforms [..., 4, 4] of cameras at `eye` [..., 3] facing `target` [..., 3].

    Raises:
        ValueError: a viewing direction is zero or parallel to `up`.
    """
    position = torch.as_tensor(eye, dtype=torch.float32)
    toward = torch.as_tensor(target, dtype=torch.float32) - position
    forward = torch.nn.functional.normalize(toward, dim=-1)
    right = torch.linalg.cross(forward, torch.as_tensor(up, dtype=torch.float32).expand_as(forward))
    if bool((right.norm(dim=-1) < 1e-6).any()):
        raise ValueError("look_at needs eye != target and a view that is not parallel to up")
    right = torch.nn.functional.normalize(right, dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-2)
    transform = torch.zeros(*forward.shape[:-1], 4, 4)
    transform[..., :3, :3] = rotation
    transform[..., :3, 3] = -(rotation @ position[..., None])[..., 0]
    transform[..., 3, 3] = 1.0
    return transform


def orbit(
    azimuths: Tensor | Sequence[float],
    *,
    width: int,
    height: int,
    target: Sequence[float] = (0.0, 0.0, 0.0),
    distance: float = 3.0,
    elevation: float = 0.0,
    fov_y: float = math.radians(40.0),
) -> Cameras:
    """Cameras on a circle around `target`, one per azimuth, all angles in radians.

    Azimuth 0 stands in front of a body that faces +z; pi / 2 is on the body's left (+x).
    `elevation` lifts the cameras above the horizon (below +-pi / 2); `fov_y` is the full angle.
    """
    azimuth = torch.as_tensor(azimuths, dtype=torch.float32)
    flat = math.cos(elevation)
    level = torch.full_like(azimuth, math.sin(elevation))
    offsets = torch.stack([azimuth.sin() * flat, level, azimuth.cos() * flat], dim=-1)
    center = torch.tensor(target, dtype=torch.float32)
    intrinsics = intrinsics_from_fov(fov_y, width, height).expand(len(azimuth), 3, 3)
    return Cameras(intrinsics, look_at(center + distance * offsets, center), width, height)


def intrinsics_from_fov(fov_y: float, width: int, height: int) -> Tensor:
    """Square-pixel, centred intrinsics [3, 3] for a full vertical field of view in radians."""
    focal = 0.5 * height / math.tan(0.5 * fov_y)
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def crop_intrinsics(intrinsics: Array, x0: float, y0: float, scale: float = 1.0) -> Array:
    """Intrinsics [..., 3, 3] of an image cropped at (x0, y0) pixels, then resized by `scale`.

    Because a pixel spans [i, i + 1), the new coordinates are exactly ((u, v) - (x0, y0)) * scale;
    `scale` is new size / old size (256 / 512 = 0.5). Works on torch tensors and numpy arrays.
    """
    shift = [[scale, 0.0, -x0 * scale], [0.0, scale, -y0 * scale], [0.0, 0.0, 1.0]]
    if isinstance(intrinsics, torch.Tensor):
        return torch.tensor(shift, dtype=intrinsics.dtype, device=intrinsics.device) @ intrinsics
    cropped: np.ndarray = np.asarray(shift, dtype=intrinsics.dtype) @ intrinsics
    return cropped
