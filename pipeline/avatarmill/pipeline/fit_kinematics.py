"""Points of the body that landmarks and joints are, and where posing puts them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avatarmill.avatar.rotations import axis_angle_to_matrix

NUM_JOINTS = 55


@dataclass(frozen=True, slots=True)
class PointModel:
    """L skinned points and 55 joints of a body, linear in D blend coefficients before posing.

    D is shape first, then expression. Everything is float64: the solver squares it.
    """

    parents: tuple[int, ...]
    joints: Tensor
    """[55, 3] rest joints of the template, metres."""
    joint_dirs: Tensor
    """[55, 3, D]."""
    points: Tensor
    """[L, 3] rest points of the template, metres."""
    point_dirs: Tensor
    """[L, 3, D]."""
    bones: Tensor
    """[L, K] int64: joints a point is skinned to."""
    weights: Tensor
    """[L, K] skinning weights, rows sum to 1."""

    def rest(self, blend: Tensor) -> tuple[Tensor, Tensor]:
        """Rest joints [T, 55, 3] and points [T, L, 3] at blend coefficients [T, D]."""
        joints = self.joints + torch.einsum("jcd,td->tjc", self.joint_dirs, blend)
        points = self.points + torch.einsum("lcd,td->tlc", self.point_dirs, blend)
        return joints, points

    def select(self, rows: Sequence[int]) -> "PointModel":
        """The model with only the given points."""
        return replace(
            self,
            points=self.points[list(rows)],
            point_dirs=self.point_dirs[list(rows)],
            bones=self.bones[list(rows)],
            weights=self.weights[list(rows)],
        )


def pose_points(
    model: PointModel, root: Tensor, pose: Tensor, blend: Tensor, translation: Tensor
) -> Tensor:
    """Forward kinematics and skinning, differentiable: points [T, L, 3] in camera space.

    The kernels of the fit do the same by themselves (`fit_kernels`).

    Args:
        model: the body's points.
        root: [T, 3, 3] rotation of joint 0 in camera space.
        pose: [T, 55, 3] axis-angle; row 0 is not read.
        blend: [T, D] shape and expression coefficients.
        translation: [T, 3] metres, added after posing about the rest pelvis as in SMPL-X.
    """
    rest_joints, rest_points = model.rest(blend)
    local = axis_angle_to_matrix(pose)
    rotations, positions = [root], [rest_joints[:, 0] + translation]
    for joint in range(1, NUM_JOINTS):
        parent = model.parents[joint]
        offset = rest_joints[:, joint] - rest_joints[:, parent]
        rotations.append(rotations[parent] @ local[:, joint])
        positions.append(positions[parent] + (rotations[parent] @ offset[..., None])[..., 0])
    world, joints = torch.stack(rotations, dim=1), torch.stack(positions, dim=1)
    arms = rest_points[:, :, None] - rest_joints[:, model.bones]
    parts = torch.einsum("tlkab,tlkb->tlka", world[:, model.bones], arms) + joints[:, model.bones]
    return (parts * model.weights[..., None]).sum(dim=2)
