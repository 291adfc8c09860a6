"""Landmark points of the posed body with analytic Jacobians, for all frames of a track at once."""

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

    def select(self, rows: list[int]) -> "PointModel":
        """The model with only the given points."""
        return replace(
            self,
            points=self.points[rows],
            point_dirs=self.point_dirs[rows],
            bones=self.bones[rows],
            weights=self.weights[rows],
        )

    def descendants(self) -> Tensor:
        """[55, 55] with 1 where column is row or hangs below it."""
        below = torch.eye(NUM_JOINTS, dtype=torch.float64)
        for joint in range(NUM_JOINTS - 1, 0, -1):
            below[self.parents[joint]] += below[joint]
        return below


@dataclass(frozen=True, slots=True)
class Posed:
    """Points of T frames in camera space and what their derivatives are built from."""

    points: Tensor
    """[T, L, 3]."""
    joints: Tensor
    """[T, 55, 3]."""
    rotations: Tensor
    """[T, 55, 3, 3] world rotation of each joint."""
    parts: Tensor
    """[T, L, K, 3] the point as each of its bones moves it."""
    axes: Tensor
    """[T, 55, 3, 3]: columns turn a change of the joint's axis-angle into a world rotation."""


def left_jacobian(vectors: Tensor) -> Tensor:
    """[..., 3, 3] mapping a change of axis-angle to the world-side rotation it causes.

    Barfoot, State Estimation for Robotics, eq. 7.77.
    """
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1)
    cross = cross.reshape(*vectors.shape, 3)
    angle = vectors.norm(dim=-1)[..., None, None]
    cosine = 0.5 * torch.sinc(angle / (2 * torch.pi)) ** 2
    # (a - sin a) / a^3 cancels near zero: its series is exact to 1e-15 below 1e-3.
    small = angle < 1e-3
    safe = torch.where(small, torch.ones_like(angle), angle)
    cubic = torch.where(small, 1 / 6 - angle**2 / 120, (safe - safe.sin()) / safe**3)
    return torch.eye(3, dtype=vectors.dtype) + cosine * cross + cubic * (cross @ cross)


def pose_points(
    model: PointModel, root: Tensor, pose: Tensor, blend: Tensor, translation: Tensor
) -> Posed:
    """Forward kinematics and skinning.

    Args:
        model: the body's points.
        root: [T, 3, 3] rotation of joint 0 in camera space.
        pose: [T, 55, 3] axis-angle; row 0 is not read.
        blend: [T, D] shape and expression coefficients.
        translation: [T, 3] metres, added after posing about the rest pelvis as in SMPL-X.
    """
    rest_joints, rest_points = model.rest(blend)
    local = axis_angle_to_matrix(pose)
    jacobians = left_jacobian(pose)
    eye = torch.eye(3, dtype=pose.dtype).expand(len(pose), 3, 3)
    rotations, positions, axes = [root], [rest_joints[:, 0] + translation], [eye]
    for joint in range(1, NUM_JOINTS):
        parent = model.parents[joint]
        offset = rest_joints[:, joint] - rest_joints[:, parent]
        rotations.append(rotations[parent] @ local[:, joint])
        positions.append(positions[parent] + (rotations[parent] @ offset[..., None])[..., 0])
        axes.append(rotations[parent] @ jacobians[:, joint])
    world = torch.stack(rotations, dim=1)
    joints = torch.stack(positions, dim=1)
    arms = rest_points[:, :, None] - rest_joints[:, model.bones]
    parts = torch.einsum("tlkab,tlkb->tlka", world[:, model.bones], arms) + joints[:, model.bones]
    points = (parts * model.weights[..., None]).sum(dim=2)
    return Posed(points, joints, world, parts, torch.stack(axes, dim=1))


def pose_jacobian(model: PointModel, posed: Posed, joints: Tensor) -> Tensor:
    """[T, L, 3, J, 3]: change of each point with the axis-angle of the given joints [J].

    For joint 0 the variable is a world-side rotation, so that the root has no singular pose.
    """
    hangs = model.descendants()[joints][:, model.bones] * model.weights  # [J, L, K]
    lever = torch.einsum("jlk,tlkc->tljc", hangs, posed.parts)
    lever = lever - hangs.sum(-1).T[None, :, :, None] * posed.joints[:, None, joints]
    columns = posed.axes[:, joints].mT  # [T, J, 3 (variable), 3 (axis)]
    turned = torch.linalg.cross(columns[:, None], lever[:, :, :, None], dim=-1)
    jacobian: Tensor = turned.permute(0, 1, 4, 2, 3)
    return jacobian


def blend_jacobian(model: PointModel, posed: Posed, columns: slice) -> Tensor:
    """[T, L, 3, D']: change of each point with the blend coefficients in `columns`."""
    joint_dirs = model.joint_dirs[..., columns]
    moved = [joint_dirs[0].expand(len(posed.points), -1, -1)]
    for joint in range(1, NUM_JOINTS):
        parent = model.parents[joint]
        step = joint_dirs[joint] - joint_dirs[parent]
        moved.append(moved[parent] + posed.rotations[:, parent] @ step)
    origins = torch.stack(moved, dim=1)  # [T, 55, 3, D']
    arms = model.point_dirs[:, None, :, columns] - joint_dirs[model.bones]
    weighted = arms * model.weights[..., None, None]
    result = torch.zeros(*posed.points.shape, arms.shape[-1], dtype=arms.dtype)
    for slot in range(model.bones.shape[1]):
        bones = model.bones[:, slot]
        result += posed.rotations[:, bones] @ weighted[:, slot]
        result += origins[:, bones] * model.weights[:, slot, None, None]
    return result
