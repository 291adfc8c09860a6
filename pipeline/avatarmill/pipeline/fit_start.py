"""Where the fit starts: orientation, place and limbs from the 3D landmarks in closed form."""

import torch
from torch import Tensor

from avatarmill.avatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from avatarmill.pipeline.fit_kinematics import NUM_JOINTS, PointModel
from avatarmill.pipeline.fit_landmarks import LEFT_HIP, LEFT_SHOULDER, RIGHT_HIP, RIGHT_SHOULDER
from avatarmill.pipeline.fit_prior import PosePrior

GUESSED_FOCAL = 1.2
"""Focal length of an unknown camera, as a multiple of the longer image side."""

_TORSO = (LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP)

# (joint, next joint, landmarks of the upper bone, landmarks of the lower bone, hinge axis at rest)
_LIMBS = (
    (16, 18, (11, 13), (13, 15), (0.0, -1.0, 0.0)),
    (17, 19, (12, 14), (14, 16), (0.0, 1.0, 0.0)),
    (1, 4, (23, 25), (25, 27), (1.0, 0.0, 0.0)),
    (2, 5, (24, 26), (26, 28), (1.0, 0.0, 0.0)),
)


def camera_turn(pixels: Tensor, seen: Tensor, focal: float, center: Tensor) -> Tensor:
    """Rotations [T, 3, 3] from the axes of MediaPipe's world landmarks to those of the camera.

    MediaPipe sees a crop around the person as if the optical axis went through it, so its axes
    are those of a camera turned towards the person.

    Args:
        pixels: [T, 33, 2] of the frame.
        seen: [T, 33] weights.
        focal: pixels.
        center: [2] principal point.
    """
    weight = seen / seen.sum(-1, keepdim=True).clamp_min(1e-6)
    middle = (torch.nan_to_num(pixels) * weight[..., None]).sum(1) - center
    ray = torch.cat((middle / focal, torch.ones_like(middle[:, :1])), dim=-1)
    ray = ray / ray.norm(dim=-1, keepdim=True)
    return align(ray.new_tensor((0.0, 0.0, 1.0)).expand_as(ray), ray)


def place(world: Tensor, pixels: Tensor, seen: Tensor, focal: float, center: Tensor) -> Tensor:
    """Position [T, 3] of the landmarks' origin that makes them project onto their pixels.

    Linear least squares on f (X + tx) = (u - cx)(Z + tz), the same for y.
    """
    offset = (torch.nan_to_num(pixels) - center) / focal
    one, zero = torch.ones_like(seen), torch.zeros_like(seen)
    rows_x = torch.stack((one, zero, -offset[..., 0]), dim=-1)
    rows_y = torch.stack((zero, one, -offset[..., 1]), dim=-1)
    right = offset * world[..., 2:] - world[..., :2]
    rows = torch.cat((rows_x, rows_y), dim=1) * torch.cat((seen, seen), dim=1)[..., None]
    values = torch.cat((right[..., 0], right[..., 1]), dim=1) * torch.cat((seen, seen), dim=1)
    normal = rows.mT @ rows + 1e-6 * torch.eye(3, dtype=rows.dtype)
    position: Tensor = torch.linalg.solve(normal, rows.mT @ values[..., None])[..., 0]
    return position


def torso_rotation(model: PointModel, world: Tensor) -> Tensor:
    """Global orientation [T, 3, 3] that turns the rest torso onto the landmarks (Kabsch)."""
    rest = model.points[list(_TORSO)]
    rest = rest - rest.mean(0)
    seen = world[:, _TORSO] - world[:, _TORSO].mean(1, keepdim=True)
    u, _, vt = torch.linalg.svd(seen.mT @ rest)
    flip = torch.ones(len(world), 3, dtype=world.dtype)
    flip[:, 2] = torch.linalg.det(u @ vt).sign()
    rotation: Tensor = (u * flip[:, None]) @ vt
    return rotation


def limb_pose(model: PointModel, root: Tensor, world: Tensor, prior: PosePrior) -> Tensor:
    """Axis-angle [T, 55, 3]: shoulders, elbows, hips and knees along the landmarks' bones.

    The twist of the upper bone puts the lower one in the plane its hinge allows, as far as the
    limb is bent enough to show that plane.
    """
    pose = prior.mean.expand(len(root), NUM_JOINTS, 3).clone()
    for upper_joint, lower_joint, upper, lower, hinge in _LIMBS:
        rest = model.joints[lower_joint] - model.joints[upper_joint]
        rest = (rest / rest.norm()).expand(len(root), 3)
        thigh, shin = (_direction(root, world, bone) for bone in (upper, lower))
        swing = align(rest, thigh)
        axis = (swing @ rest.new_tensor(hinge)[:, None])[..., 0]
        bent = torch.linalg.cross(thigh, shin, dim=-1)
        bend = bent.norm(dim=-1, keepdim=True)
        sine = (torch.linalg.cross(axis, bent, dim=-1) * thigh).sum(-1, keepdim=True)
        twist = torch.atan2(sine, (axis * bent).sum(-1, keepdim=True)).clamp(-1.3, 1.3)
        twist = twist * ((bend - 0.3) / 0.4).clamp(0, 1)
        turn = axis_angle_to_matrix(thigh * twist) @ swing
        pose[:, upper_joint] = matrix_to_axis_angle(turn)
        pose[:, lower_joint] = matrix_to_axis_angle(
            align(rest, (turn.mT @ shin[..., None])[..., 0])
        )
    return torch.clamp(pose, prior.low, prior.high)


def align(start: Tensor, stop: Tensor) -> Tensor:
    """The smallest rotations [..., 3, 3] that turn unit vectors `start` into `stop` [..., 3]."""
    cross = torch.linalg.cross(start, stop, dim=-1)
    sine = cross.norm(dim=-1, keepdim=True)
    cosine = (start * stop).sum(-1, keepdim=True)
    # Opposite vectors: any axis across will do.
    across = torch.linalg.cross(
        start, start.roll(1, -1) * start.new_tensor((1.0, -1.0, 1.0)), dim=-1
    )
    axis = torch.where(sine > 1e-6, cross / sine.clamp_min(1e-6), across)
    axis = axis / axis.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return axis_angle_to_matrix(axis * torch.atan2(sine, cosine))


def _direction(root: Tensor, world: Tensor, bone: tuple[int, int]) -> Tensor:
    """Unit direction [T, 3] of a bone in the frame of the pelvis."""
    vector = world[:, bone[1]] - world[:, bone[0]]
    local = (root.mT @ vector[..., None])[..., 0]
    unit: Tensor = local / local.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return unit
