"""Gaussians in the frames of their sites, and their way to the posed body.

Shape letters: P Gaussians of an avatar; `...` any batch.
"""

from dataclasses import dataclass

from torch import Tensor

from avatarmill.avatar.body import Body, BodyParams
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rotations import matrix_to_quaternion, quaternion_multiply
from avatarmill.avatar.skinning import skin_gaussians
from avatarmill.tokenize.sites import Sites


@dataclass(frozen=True, slots=True)
class LocalGaussians:
    """Gaussians before they are put on a body: relative to each site's frame."""

    colors: Tensor
    """[..., P, 3] sRGB in 0..1."""
    offsets: Tensor
    """[..., P, 3] metres along tangent, second tangent, normal."""
    opacities: Tensor
    """[..., P] in 0..1."""
    rotations: Tensor
    """[..., P, 4] unit quaternions, w first, in the site's frame."""
    log_scales: Tensor
    """[..., P, 3] natural logarithm of metres."""

    def __getitem__(self, row: int) -> "LocalGaussians":
        """One avatar of a batch."""
        return LocalGaussians(
            self.colors[row],
            self.offsets[row],
            self.opacities[row],
            self.rotations[row],
            self.log_scales[row],
        )


@dataclass(frozen=True, slots=True)
class PoseOffsets:
    """What a pose changes; opacity stays, which keeps animation from flickering (LCA)."""

    colors: Tensor
    """[..., P, 3] added to the colour."""
    offsets: Tensor
    """[..., P, 3] metres, added in the site's frame."""
    rotations: Tensor
    """[..., P, 4] unit quaternions, applied in the site's frame after the canonical ones."""
    log_scales: Tensor
    """[..., P, 3] added to the logarithm of the scale."""

    def __getitem__(self, row: int) -> "PoseOffsets":
        """One pose of a batch."""
        return PoseOffsets(
            self.colors[row], self.offsets[row], self.rotations[row], self.log_scales[row]
        )


def apply_offsets(local: LocalGaussians, change: PoseOffsets) -> LocalGaussians:
    """Canonical attributes plus their pose-dependent corrections."""
    return LocalGaussians(
        colors=(local.colors + change.colors).clamp(0.0, 1.0),
        offsets=local.offsets + change.offsets,
        opacities=local.opacities,
        rotations=quaternion_multiply(change.rotations, local.rotations),
        log_scales=local.log_scales + change.log_scales,
    )


def place(local: LocalGaussians, sites: Sites, rest_vertices: Tensor) -> Gaussians:
    """Seat local Gaussians [P] on a body at rest with vertices [V, 3]: T-pose Gaussians."""
    shift = (sites.frame @ local.offsets[..., None])[..., 0]
    frame = matrix_to_quaternion(sites.frame)
    return Gaussians(
        means=sites.points(rest_vertices) + shift,
        rotations=quaternion_multiply(frame, local.rotations),
        scales=local.log_scales.exp(),
        opacities=local.opacities,
        colors=local.colors,
    )


def pose(local: LocalGaussians, sites: Sites, body: Body, params: BodyParams) -> Gaussians:
    """Gaussians [P] of one avatar on a posed body: seated on its shape and expression, skinned.

    Args:
        params: one unbatched pose; the Gaussians arrive in its camera or world space.
    """
    vertices, _ = body.rest(params.shape, params.expression)
    _, transforms = body.transforms(params)
    return skin_gaussians(place(local, sites, vertices), sites.weights, transforms)
