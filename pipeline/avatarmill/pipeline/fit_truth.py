"""A fit held against the truth: aligned errors, jitter, and landmarks made from true bodies."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatarmill.avatar.body import Body, BodyParams
from avatarmill.avatar.rotations import axis_angle_to_matrix
from avatarmill.pipeline.fit_kinematics import PointModel, pose_points
from avatarmill.pipeline.fit_landmarks import (
    FACE,
    FACE_ROWS,
    LEFT_HAND_ROWS,
    LEFT_HIP,
    NUM_BODY,
    NUM_BODY_JOINTS,
    RIGHT_HAND_ROWS,
    RIGHT_HIP,
)
from avatarmill.pipeline.fit_start import align
from avatarmill.pipeline.types import Fit, Float, Landmarks

_RIDGE = 1e-3
Array = NDArray[np.float64]


def aligned_errors_mm(found: Array, truth: Array) -> Array:
    """[T, J] distances in mm after the best similarity of each frame (PA-MPJPE before the mean).

    Umeyama, Least-squares estimation of transformation parameters, 1991.

    Args:
        found: [T, J, 3] metres.
        truth: [T, J, 3] metres.
    """
    moved = aligned(found, truth)
    errors: Array = 1000 * np.linalg.norm(moved - truth, axis=-1)
    return errors


def aligned(found: Array, truth: Array) -> Array:
    """`found` [T, J, 3] turned, scaled and moved onto `truth` [T, J, 3], each frame by itself."""
    middle = truth.mean(1, keepdims=True)
    start, stop = found - found.mean(1, keepdims=True), truth - middle
    u, s, vt = np.linalg.svd(np.swapaxes(start, 1, 2) @ stop)
    # Reflections are no rotations: the weakest axis is turned back.
    flip = np.sign(np.linalg.det(u @ vt))
    u[:, :, 2] *= flip[:, None]
    s[:, 2] *= flip
    scale = s.sum(-1) / np.square(start).sum((1, 2))
    moved: Array = scale[:, None, None] * start @ (u @ vt) + middle
    return moved


def acceleration(points: Array, seconds: Array) -> Array:
    """[T-2, J] acceleration in m/s^2 of points [T, J, 3] at evenly spaced times [T]."""
    step = float(np.median(np.diff(seconds)))
    second = np.diff(points, n=2, axis=0) / step**2
    size: Array = np.linalg.norm(second, axis=-1)
    return size


def turned_degrees(pose: Array, other: Array) -> Array:
    """Angles [...] in degrees between rotations given as axis-angle [..., 3]."""
    # Copies: what is broadcast shares memory, which scipy does not like.
    start, stop = (part.copy() for part in np.broadcast_arrays(pose, other))
    turns = [Rotation.from_rotvec(part.reshape(-1, 3)) for part in (start, stop)]
    return np.asarray(np.degrees((turns[0].inv() * turns[1]).magnitude()).reshape(start.shape[:-1]))


def body_params(pose: Float, shape: Float, expression: Float, translation: Float) -> BodyParams:
    """Parameters of T frames that share one shape [20], as tensors."""
    return BodyParams(
        torch.from_numpy(np.asarray(pose, np.float32)),
        torch.from_numpy(np.asarray(shape, np.float32)).expand(len(pose), -1),
        torch.from_numpy(np.asarray(expression, np.float32)),
        torch.from_numpy(np.asarray(translation, np.float32)),
    )


def params_of(fit: Fit) -> BodyParams:
    """The parameters of a fit as tensors."""
    return body_params(fit.pose, fit.shape, fit.expression, fit.translation)


def body_joints(body: Body, params: BodyParams) -> Array:
    """[T, 22, 3] camera-space joints of the body without hands and face."""
    joints: Array = body.transforms(params)[0][:, :NUM_BODY_JOINTS].double().numpy()
    return joints


def true_points(model: PointModel, params: BodyParams) -> Array:
    """[T, L, 3] where the landmarks of a body truly are, camera space."""
    blend = torch.cat((params.shape, params.expression), dim=-1).double()
    root, pose = axis_angle_to_matrix(params.pose[:, 0].double()), params.pose.double()
    place = params.translation.double()
    points: Array = pose_points(model, root, pose, blend, place).numpy()
    return points


def true_landmarks(
    model: PointModel, params: BodyParams, intrinsics: Array, size: tuple[int, int]
) -> Landmarks:
    """Landmarks without error: projected points, and world points as MediaPipe's axes have them.

    Visibility is 1 inside the image and 0 outside.

    Args:
        model: where the landmarks sit on the body.
        params: T frames in camera space.
        intrinsics: [3, 3] pixels, no skew.
        size: width and height of the image.
    """
    points = true_points(model, params)
    center, focal = intrinsics[:2, 2], intrinsics[0, 0]
    plane = points[..., :2] / points[..., 2:]
    pixels = plane * focal + center
    inside = ((pixels >= 0) & (pixels < size)).all(-1)
    # MediaPipe looks straight at the person: its axes are turned to the middle of what is seen.
    seen = inside[:, :NUM_BODY, None] + 1e-9
    middle = (plane[:, :NUM_BODY] * seen).sum(1) / seen.sum(1)
    ray = torch.from_numpy(np.concatenate((middle, np.ones((len(middle), 1))), axis=-1))
    ray = ray / ray.norm(dim=-1, keepdim=True)
    turn = align(ray.new_tensor((0.0, 0.0, 1.0)).expand_as(ray), ray).numpy()
    hips = points[:, [LEFT_HIP, RIGHT_HIP]].mean(1, keepdims=True)
    world = (points[:, :NUM_BODY] - hips) @ turn
    flat = np.concatenate((pixels, np.zeros_like(pixels[..., :1])), -1).astype(np.float32)
    face = np.full((len(flat), 478, 3), np.nan, np.float32)
    face[:, FACE] = flat[:, FACE_ROWS]
    visible = inside[:, :NUM_BODY, None].astype(np.float32)
    return Landmarks(
        body=np.concatenate((flat[:, :NUM_BODY], visible), -1),
        body_world=world.astype(np.float32),
        left_hand=flat[:, LEFT_HAND_ROWS],
        right_hand=flat[:, RIGHT_HAND_ROWS],
        face=face,
    )


def joints_from_landmarks(points: Array, joints: Array) -> Array:
    """Weights [J, 33], rows summing to one, that turn the 33 landmarks into joints.

    Ridge regression from where the landmarks truly are to where the joints truly are. Nothing of
    a detector goes in: this is the best that its 33 points allow of a linear map.

    Args:
        points: [N, 33, 3] true landmarks of many poses, metres.
        joints: [N, J, 3] true joints of the same.
    """
    # Offsets from the middle of the landmarks make the weights sum to one.
    middle = points.mean(1, keepdims=True)
    rows = np.swapaxes(points - middle, 1, 2).reshape(-1, points.shape[1])
    wanted = np.swapaxes(joints - middle, 1, 2).reshape(-1, joints.shape[1])
    normal = rows.T @ rows / len(rows) + _RIDGE**2 * np.eye(rows.shape[1])
    weights = np.linalg.solve(normal, rows.T @ wanted / len(rows)).T
    weights += (1 - weights.sum(-1, keepdims=True)) / points.shape[1]
    return np.asarray(weights)
