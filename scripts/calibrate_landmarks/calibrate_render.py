"""Shaded pictures of the free body, painted like a dressed person, in random poses and framings.

MediaPipe was trained on photographs. It finds a body in plain clothes with brows, lips, irises and
hair in their places; on a grey mesh it does not place the face.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import (
    FREE_BODY,
    JOINT_NAMES,
    NUM_EXPRESSION,
    NUM_JOINTS,
    NUM_SHAPE,
    Body,
    BodyParams,
)
from avatarmill.avatar.parts import part_ids
from avatarmill.avatar.rotations import matrix_to_axis_angle
from avatarmill.avatar.zbuffer import mesh_zbuffer

Array = NDArray[np.float64]

SIZE = 512
FOCAL = 1.3 * SIZE
INTRINSICS = np.array([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]])

_LEFT_FINGERS = JOINT_NAMES.index("left_index1")
_THUMBS = 12  # of the fifteen finger joints of a hand, the last three are the thumb's
_BROWS = (slice(0, 5), slice(5, 10))
_LIPS = slice(31, 43)
_SKIN = (224, 172, 140)
_CLOTHES = {
    ("scalp",): (50, 35, 25),
    ("torso", "left_upper_arm", "right_upper_arm", "left_forearm", "right_forearm"): (70, 110, 170),
    ("hips", "left_thigh", "right_thigh", "left_shin", "right_shin"): (60, 60, 70),
    ("left_foot", "right_foot"): (120, 60, 40),
}
_BROW_COLOR, _LIP_COLOR = (60, 40, 30), (180, 80, 80)
_EYE_COLOR, _IRIS_COLOR = (245, 245, 245), (60, 40, 30)
_IRIS_RADIANS = 0.42
_BROW_RADIUS, _LIP_DEPTH = 0.004, 0.04  # metres


@dataclass(frozen=True, slots=True)
class Framing:
    """A kind of picture: what the camera looks at and how it may be turned."""

    name: str
    count: int
    target: tuple[float, float, float]
    """Metres on the resting body: the point in the middle of the picture."""
    distance: float
    yaw: float
    """Radians: the body is turned by at most this to either side."""
    pitch: tuple[float, float]
    half_all_round: bool = False
    """Every second picture takes any yaw, backs included."""


FRAMINGS = (
    Framing("full", 40, (0, -0.5, 0), 2.9, 0.8, (-0.1, 0.25), half_all_round=True),
    Framing("hand", 40, (0, -0.1, 0), 1.4, 0.7, (-0.1, 0.2)),
    Framing("face", 40, (0, 0.22, 0.1), 0.65, 0.6, (-0.25, 0.25)),
    Framing("upper", 16, (0, 0, 0), 1.5, 0.9, (-0.1, 0.2)),
)


@dataclass(frozen=True, slots=True)
class Views:
    """Poses in camera space, a picture each."""

    params: BodyParams
    """Batch of N."""
    framing: NDArray[np.str_]
    """[N] name of each view's framing."""


def sample_views(body: Body, seed: int) -> Views:
    """Poses of every framing in turn; the order of draws is part of the result."""
    rng = np.random.default_rng(seed)
    pelvis = body.joint_template[0].numpy().astype(np.float64)
    poses, places, names = [], [], []
    for framing in FRAMINGS:
        for number in range(framing.count):
            turn = _turn(rng, framing, number)
            pose = _pose(rng, framing.name)
            pose[0] = matrix_to_axis_angle(torch.from_numpy(turn)).numpy()
            away = np.array([0, 0, framing.distance * rng.uniform(0.9, 1.1)])
            # Joint 0 turns about the pelvis, so the target does too.
            poses.append(pose)
            places.append(away - (turn @ (np.array(framing.target) - pelvis) + pelvis))
            names.append(framing.name)
    count = len(poses)
    params = BodyParams(
        torch.from_numpy(np.array(poses, np.float32)),
        torch.zeros(count, NUM_SHAPE),
        torch.zeros(count, NUM_EXPRESSION),
        torch.from_numpy(np.array(places, np.float32)),
    )
    return Views(params, np.array(names))


def _turn(rng: np.random.Generator, framing: Framing, number: int) -> NDArray[np.float32]:
    """Rotation [3, 3] from the body's axes (y up) to the camera's (y down)."""
    around = np.pi if framing.half_all_round and number % 2 else framing.yaw
    yaw, pitch = rng.uniform(-around, around), rng.uniform(*framing.pitch)
    c, s = np.cos(yaw), np.sin(yaw)
    turn_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = np.cos(pitch), np.sin(pitch)
    turn_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    turned: NDArray[np.float32] = (np.diag([1, -1, -1]) @ turn_x @ turn_y).astype(np.float32)
    return turned


def _pose(rng: np.random.Generator, framing: str) -> Array:
    """[55, 3] arms hanging to spread, legs walking, fingers half closed."""
    pose = np.zeros((NUM_JOINTS, 3))
    rng.random()  # unused: the committed map was made from the stream that skips this number
    drop = (1.1, 1.1) if framing == "face" else rng.uniform(0.3, 1.25, 2)
    sides = ((1, "left"), (-1, "right"))
    for (sign, side), angle in zip(sides, drop, strict=True):
        twist, swing = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.7)
        pose[JOINT_NAMES.index(f"{side}_shoulder")] = twist, -sign * swing, -sign * angle
    for sign, side in sides:
        pose[JOINT_NAMES.index(f"{side}_elbow"), 1] = -sign * rng.uniform(0, 1.3)
    for sign, side in sides:
        pose[JOINT_NAMES.index(f"{side}_hip")] = -rng.uniform(0, 0.6), 0, 0.1 * sign
        pose[JOINT_NAMES.index(f"{side}_knee"), 0] = rng.uniform(0, 0.8)
    fingers = pose[_LEFT_FINGERS:].reshape(2, -1, 3)
    fingers[:, :_THUMBS, 2] = rng.uniform(0, 0.5, (2, _THUMBS)) * [[-1], [1]]
    if framing == "hand":
        _raise_hands(rng, pose)
    return pose


def _raise_hands(rng: np.random.Generator, pose: Array) -> None:
    """Bends the elbows so that both hands are in front of the chest."""
    elbows = [JOINT_NAMES.index(f"{side}_elbow") for side in ("left", "right")]
    shoulders = [JOINT_NAMES.index(f"{side}_shoulder") for side in ("left", "right")]
    pose[shoulders] = (0, -0.2, -1.0), (0, 0.2, 1.0)
    pose[elbows, 1] = rng.uniform(1.5, 2.2, 2) * (-1, 1)
    pose[elbows, 0] = -rng.uniform(0.2, 1.6, 2)


def render_views(body: Body, views: Views) -> Iterator[NDArray[np.uint8]]:
    """One picture [SIZE, SIZE, 3] sRGB after the other."""
    colors = paint(body)
    for row in range(len(views.framing)):
        with torch.no_grad():
            vertices = body(views.params[row : row + 1]).vertices[0].numpy()
        yield _draw(vertices, body.faces.numpy(), colors)


def _draw(
    vertices: NDArray[np.float32], faces: NDArray[np.int64], colors: NDArray[np.float32]
) -> NDArray[np.uint8]:
    buffer = mesh_zbuffer(vertices, faces, INTRINSICS, SIZE, SIZE)
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face_normals)
    smooth = buffer.interpolate(normals, faces)
    smooth = smooth / np.linalg.norm(smooth, axis=-1, keepdims=True).clip(1e-9)
    light = np.array([-0.35, -0.6, -0.75])
    shade = 0.45 + 0.55 * np.clip(smooth @ (light / np.linalg.norm(light)), 0, 1)
    image = buffer.interpolate(colors, faces) * shade[..., None]
    wall = np.linspace(200, 150, SIZE)[:, None, None] * np.array([1, 1, 0.97])
    drawn = np.where((buffer.face >= 0)[..., None], image, wall).clip(0, 255)
    picture: NDArray[np.uint8] = drawn.astype(np.uint8)
    return picture


def paint(body: Body) -> NDArray[np.float32]:
    """[V, 3] sRGB 0..255 of skin, clothes, hair, brows, lips and eyes."""
    vertices, parts = body.template.numpy(), body.vertex_part.numpy()
    colors = np.tile(np.array(_SKIN, np.float32), (len(vertices), 1))
    for names, color in _CLOTHES.items():
        colors[np.isin(parts, part_ids(*names))] = color
    face = np.isin(parts, part_ids("face"))
    marks = _feature_points(vertices, body.faces.numpy())
    colors[face & _near_brows(vertices, marks)] = _BROW_COLOR
    colors[face & _inside_lips(vertices, marks[_LIPS])] = _LIP_COLOR
    for joint in ("left_eye", "right_eye"):
        ball = body.weights[:, JOINT_NAMES.index(joint)].numpy() > 0.5
        out = vertices - vertices[ball].mean(0)
        cosine = out[:, 2] / np.linalg.norm(out, axis=1).clip(1e-9)
        colors[ball] = _EYE_COLOR
        colors[ball & (cosine > np.cos(_IRIS_RADIANS))] = _IRIS_COLOR
    return colors


def _feature_points(vertices: NDArray[np.float32], faces: NDArray[np.int64]) -> Array:
    """[51, 3] the face landmarks that the body's file names (brows, nose, eyes, mouth)."""
    with np.load(FREE_BODY, allow_pickle=False) as archive:
        chosen, barycentric = archive["lmk_faces_idx"], archive["lmk_bary_coords"]
    points: Array = np.einsum("lkc,lk->lc", vertices[faces[chosen]], barycentric).astype(np.float64)
    return points


def _near_brows(vertices: NDArray[np.float32], marks: Array) -> NDArray[np.bool_]:
    steps = np.linspace(0, 1, 5)[:, None, None]
    brows = [marks[brow][:-1] * (1 - steps) + marks[brow][1:] * steps for brow in _BROWS]
    points = np.concatenate(brows).reshape(-1, 3)
    distance = np.linalg.norm(vertices[:, None] - points, axis=-1).min(1)
    near: NDArray[np.bool_] = distance < _BROW_RADIUS
    return near


def _inside_lips(vertices: NDArray[np.float32], outline: Array) -> NDArray[np.bool_]:
    """Vertices within the outline [12, 3], whose radius is a function of the angle."""
    centre = outline.mean(0)
    spokes, places = (outline - centre)[:, :2], vertices[:, :2] - centre[:2]
    angle = np.arctan2(places[:, 1], places[:, 0])
    radius = np.interp(
        angle,
        np.arctan2(spokes[:, 1], spokes[:, 0]),
        np.linalg.norm(spokes, axis=1),
        period=2 * np.pi,
    )
    flat = np.abs(vertices[:, 2] - centre[2]) < _LIP_DEPTH
    inside: NDArray[np.bool_] = flat & (np.linalg.norm(places, axis=1) < 1.02 * radius)
    return inside
