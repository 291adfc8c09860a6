"""Gaussians to frames: a turntable of one pose, and a driven motion seen by a following camera."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatarmill.avatar.camera import Cameras, orbit
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rasterize import rasterize
from avatarmill.generate.motion import Motion, relaxed_pose
from avatarmill.tokenize.tokenizer import CanonicalAvatar

Frame = NDArray[np.uint8]
"""[H, W, 3] sRGB."""

_FIELD_OF_VIEW = math.radians(30.0)
_MARGIN = 1.12
"""Share of the figure's extent that the image shows."""
_ELEVATION = math.radians(6.0)
_BACKGROUND = (1.0, 1.0, 1.0)
_OUTLIERS = 0.002
"""Share of Gaussians on either end that may lie outside the picture."""


def turntable(avatar: CanonicalAvatar, *, num_frames: int, size: int) -> Iterator[Frame]:
    """`num_frames` views all around the relaxed avatar, the front first; square images."""
    gaussians = avatar.pose(relaxed_pose())
    azimuths = torch.arange(num_frames) * (2.0 * math.pi / num_frames)
    cameras = orbit_around(gaussians, azimuths, size)
    for index in range(num_frames):
        yield draw(gaussians, cameras.select(slice(index, index + 1)))


def driven(
    avatar: CanonicalAvatar, motion: Motion, *, size: int, azimuth: float = math.radians(30.0)
) -> Iterator[Frame]:
    """The avatar in each frame of a motion, seen at `azimuth` by a camera that moves along.

    It follows over the ground and keeps one height, so that steps and jumps show.
    """
    framing = orbit_around(avatar.pose(relaxed_pose()), torch.tensor([azimuth]), size)
    follow = motion.translation.clone()
    follow[:, 1] = follow[:, 1].mean()
    for frame in range(len(motion)):
        gaussians = avatar.pose(motion.params(frame, avatar.shape))
        yield draw(gaussians, _moved(framing, follow[frame]))


def draw(gaussians: Gaussians, camera: Cameras) -> Frame:
    """One camera's picture over white, uint8."""
    color = rasterize(gaussians, camera, background=torch.tensor(_BACKGROUND)).color[0]
    return (color.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu().numpy()


def orbit_around(gaussians: Gaussians, azimuths: Tensor, size: int) -> Cameras:
    """Square cameras on a circle that all show the whole figure."""
    low = torch.quantile(gaussians.means, _OUTLIERS, dim=0)
    high = torch.quantile(gaussians.means, 1.0 - _OUTLIERS, dim=0)
    center = (low + high) / 2.0
    reach = max(float(high[1] - low[1]) / 2.0, float(torch.hypot(*(high - low)[[0, 2]])) / 2.0)
    return orbit(
        azimuths,
        width=size,
        height=size,
        target=center.tolist(),
        distance=_MARGIN * reach / math.tan(_FIELD_OF_VIEW / 2.0),
        elevation=_ELEVATION,
        fov_y=_FIELD_OF_VIEW,
    )


def _moved(camera: Cameras, shift: Tensor) -> Cameras:
    """The camera carried along by a shift [3] in the world."""
    matrix = camera.world_to_camera.clone()
    matrix[:, :3, 3] -= (matrix[:, :3, :3] @ shift[:, None])[..., 0]
    return Cameras(camera.intrinsics, matrix, camera.width, camera.height)
