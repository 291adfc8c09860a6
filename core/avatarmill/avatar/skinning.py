"""Linear blend skinning of free points and of Gaussians.

Transforms are a body's rest -> posed matrices (`Body.transforms`), translation included.
"""

import torch
from torch import Tensor

from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rotations import matrix_to_quaternion, quaternion_multiply

# Newton steps towards the nearest rotation: the error squares each time, and blends of bones
# bent by a right angle start within 0.3 of a rotation.
_POLAR_STEPS = 4


def blend_transforms(weights: Tensor, transforms: Tensor) -> Tensor:
    """Blended matrices [..., P, 3, 4] of `weights` [P, 55] and `transforms` [..., 55, 4, 4].

    Raises:
        ValueError: the numbers of joints differ.
    """
    if weights.shape[-1] != transforms.shape[-3] or transforms.shape[-2:] != (4, 4):
        raise ValueError(
            f"weights {list(weights.shape)} and transforms {list(transforms.shape)} must be "
            "[P, J] and [..., J, 4, 4] with the same J"
        )
    rows = weights @ transforms[..., :3, :].flatten(-2)
    return rows.reshape(*rows.shape[:-1], 3, 4)


def skin_points(points: Tensor, weights: Tensor, transforms: Tensor) -> Tensor:
    """Posed points [..., P, 3] of rest `points` [..., P, 3] with skinning `weights` [P, 55]."""
    blended = blend_transforms(weights, transforms)
    return _apply(blended, points)


def skin_gaussians(gaussians: Gaussians, weights: Tensor, transforms: Tensor) -> Gaussians:
    """Pose canonical Gaussians: means moved, rotations turned; scales, opacities, colours kept.

    Args:
        gaussians: N canonical Gaussians, around the rest pose.
        weights: [N, 55] skinning weights.
        transforms: [55, 4, 4] of one pose.
    """
    blended = blend_transforms(weights, transforms)
    turn = matrix_to_quaternion(nearest_rotation(blended[..., :3]))
    return Gaussians(
        means=_apply(blended, gaussians.means),
        rotations=quaternion_multiply(turn, gaussians.rotations),
        scales=gaussians.scales,
        opacities=gaussians.opacities,
        colors=gaussians.colors,
    )


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The rotation [..., 3, 3] nearest to a blend of rotations [..., 3, 3] (polar factor).

    Higham's Newton iteration X <- (X + X^-T) / 2, differentiable unlike an SVD at equal
    singular values; the inverse comes from cross products of rows.
    """
    for _ in range(_POLAR_STEPS):
        first, second, third = matrix.unbind(-2)
        cofactor = torch.stack(
            (
                torch.linalg.cross(second, third),
                torch.linalg.cross(third, first),
                torch.linalg.cross(first, second),
            ),
            dim=-2,
        )
        determinant = (first * cofactor[..., 0, :]).sum(-1).clamp_min(1e-3)
        matrix = (matrix + cofactor / determinant[..., None, None]) / 2
    return matrix


def _apply(blended: Tensor, points: Tensor) -> Tensor:
    return (blended[..., :3] @ points.unsqueeze(-1)).squeeze(-1) + blended[..., 3]
