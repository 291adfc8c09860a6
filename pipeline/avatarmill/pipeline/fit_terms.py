"""The unknowns of a track fit, the evidence against them, and the residuals between the two."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

NUM_SHAPE = 20


@dataclass(frozen=True, slots=True)
class State:
    """All unknowns of a track of T frames."""

    root: Tensor
    """[T, 3, 3] global orientation in camera space."""
    pose: Tensor
    """[T, 55, 3] axis-angle; row 0 unused."""
    translation: Tensor
    """[T, 3] metres."""
    expression: Tensor
    """[T, E]."""
    shape: Tensor
    """[20]."""
    log_focal: Tensor
    """Scalar: log of the focal length in pixels."""

    def blend(self) -> Tensor:
        """[T, 20 + E] shape and expression side by side, as `PointModel` wants them."""
        shape = self.shape.expand(len(self.pose), -1)
        return torch.cat((shape, self.expression), dim=-1)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the landmarks say, in units of their own uncertainty."""

    pixels: Tensor
    """[T, L, 2] observed positions; anything where the precision is 0."""
    precision: Tensor
    """[T, L] 1/sigma in 1/metre at the depth of the person; 0 where nothing was seen."""
    pixel_metres: Tensor
    """[T] metres a pixel spans at the depth of the person."""
    center: Tensor
    """[2] principal point, pixels."""
    bone_pairs: Tensor
    """[B, 2] rows of points (from, to); they may lie beyond the landmarks."""
    bone_directions: Tensor
    """[T, B, 3] unit vectors in camera space."""
    bone_precision: Tensor
    """[T, B] 1/sigma of the direction in 1/radian; 0 where nothing was seen."""
    robust: float = 4.0
    """Geman-McClure scale, in sigmas."""

    def select(self, rows: Sequence[int], *, robust: float) -> "Evidence":
        """Only the given points: landmarks first, then others that only bones refer to.

        Bones whose ends are not both among them are left out.
        """
        landmarks = [row for row in rows if row < self.pixels.shape[1]]
        place = torch.full((int(max(*rows, int(self.bone_pairs.max()))) + 1,), -1)
        place[list(rows)] = torch.arange(len(rows))
        pairs = place[self.bone_pairs]
        kept = (pairs >= 0).all(-1)
        return replace(
            self,
            pixels=self.pixels[:, landmarks],
            precision=self.precision[:, landmarks],
            bone_pairs=pairs[kept],
            bone_directions=self.bone_directions[:, kept],
            bone_precision=self.bone_precision[:, kept],
            robust=robust,
        )


@dataclass(frozen=True, slots=True)
class Unknowns:
    """Which parts of the state a stage moves."""

    joints: tuple[int, ...]
    """Joints besides the root."""
    body: bool
    """Root rotation and translation."""
    shared: bool
    """Shape and focal length."""
    expression: bool = False

    @property
    def offset(self) -> int:
        """First column of the joints among a frame's unknowns."""
        return 6 if self.body else 0


@dataclass(frozen=True, slots=True)
class Weights:
    """Strengths of everything that is not evidence."""

    prior: float = 1.0
    """Multiplies 1/sigma of the pose prior."""
    speed: float = 8.0
    """Sigma of joint velocity, rad/s."""
    jerk: float = 16.0
    """Sigma of joint acceleration, rad/s^2."""
    travel: float = 3.0
    """Sigma of the velocity of the body, m/s."""
    push: float = 5.5
    """Sigma of the acceleration of the body, m/s^2."""
    shape: float = 1.0
    """Sigma of the shape coefficients."""
    focal: float = 0.15
    """Sigma of the log focal length around its start."""
    expression: float = 0.35
    """Sigma of an expression coefficient."""
    upright: float = 0.6
    """Sigma of the lean of the pelvis against the camera's vertical, radians."""


def reproject(points: Tensor, log_focal: Tensor, center: Tensor) -> Tensor:
    """Pixels [T, L, 2] of camera-space points [T, L, 3]."""
    return points[..., :2] / points[..., 2:].clamp_min(0.05) * log_focal.exp() + center
