"""MediaPipe's landmarks on the body: which point of the body each of them is."""

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatarmill.avatar.body import Body
from avatarmill.pipeline.fit_kinematics import NUM_JOINTS, PointModel

NUM_BODY, NUM_HAND = 33, 21
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 11, 12, 23, 24
NOSE, LEFT_WRIST, RIGHT_WRIST = 0, 15, 16

# The face points used, as rows of MediaPipe's 478: enough of each feature to place it, none of
# the forehead (hair) or the inner lips' corners (they slide).
FACE_LIPS = (61, 291, 0, 17, 13, 14, 37, 267, 84, 314, 40, 270, 91, 321)
FACE_NOSE = (1, 2, 4, 6, 168, 98, 327, 195)
FACE_EYES = (33, 133, 159, 145, 160, 158, 153, 144, 263, 362, 386, 374, 387, 385, 380, 373)
FACE_BROWS = (70, 63, 105, 66, 107, 300, 293, 334, 296, 336)
FACE_OVAL = (152, 132, 361, 172, 397, 136, 365, 148, 377, 93, 323, 234, 454)
FACE_CHEEKS = (50, 280, 205, 425, 117, 346)
FACE_IRIS = (468, 473)
FACE = FACE_LIPS + FACE_NOSE + FACE_EYES + FACE_BROWS + FACE_OVAL + FACE_CHEEKS + FACE_IRIS

LEFT_HAND_ROWS = slice(NUM_BODY, NUM_BODY + NUM_HAND)
RIGHT_HAND_ROWS = slice(LEFT_HAND_ROWS.stop, LEFT_HAND_ROWS.stop + NUM_HAND)
FACE_ROWS = slice(RIGHT_HAND_ROWS.stop, RIGHT_HAND_ROWS.stop + len(FACE))
NUM_LANDMARKS = FACE_ROWS.stop
NUM_BODY_JOINTS = 22
JOINT_ROWS = slice(NUM_LANDMARKS, NUM_LANDMARKS + NUM_BODY_JOINTS)
"""Rows of the joints in a model of `with_joints`."""
_HAND_FRAME, _FACE_FRAME = (
    (0, 5, 9, 17),
    (61, 291, 1, 168, 33, 263, 133, 362, 152, 323, 93, 159, 386),
)
# What turns the wrists and the head; the rest of hands and face says nothing of the body.
BODY_ROWS = (
    *range(NUM_BODY),
    *(rows.start + point for rows in (LEFT_HAND_ROWS, RIGHT_HAND_ROWS) for point in _HAND_FRAME),
    *(FACE_ROWS.start + FACE.index(point) for point in _FACE_FRAME),
    *range(JOINT_ROWS.start, JOINT_ROWS.stop),
)

_SURFACE_BONES = (15, 22, 23, 24)
"""Head, jaw and eyes: what is measured from them is skin, and moves with shape and expression."""


@dataclass(frozen=True, slots=True)
class LandmarkMap:
    """Where each of the `NUM_LANDMARKS` landmarks sits on the body: body, hands, chosen face."""

    bone: NDArray[np.int64]
    """[L] the joint a landmark moves with."""
    base: NDArray[np.int64]
    """[L] the joint its place is measured from."""
    offset: NDArray[np.float64]
    """[L, 3] metres from that joint in the rest pose."""


@cache
def landmark_map() -> LandmarkMap:
    """The calibrated map: landmarks detected on renders of the free body, triangulated."""
    text = resources.files("avatarmill.pipeline").joinpath("data/landmarks.json").read_text()
    table = json.loads(text)
    rows = [*table["body"], *table["left_hand"], *table["right_hand"]]
    rows += [table["face"][str(point)] for point in FACE]
    values = np.array(rows)
    return LandmarkMap(values[:, 0].astype(np.int64), values[:, 1].astype(np.int64), values[:, 2:])


def point_model(body: Body) -> PointModel:
    """The landmarks as points of a body, float64.

    A landmark inside the body moves rigidly with its bone. One on the face takes skinning,
    shape and expression of the nearest vertex, so the map works on any mesh of this skeleton.
    """
    chart = landmark_map()
    base = torch.from_numpy(chart.base)
    points = body.joint_template.double()[base] + torch.from_numpy(chart.offset)
    dirs = body.joint_dirs.double()[base]
    weights = torch.nn.functional.one_hot(torch.from_numpy(chart.bone), NUM_JOINTS).double()
    skin = torch.from_numpy(np.flatnonzero(np.isin(chart.bone, _SURFACE_BONES)))
    nearest = _nearest_vertices(body, points[skin])
    blend = torch.cat((body.shapedirs, body.exprdirs), dim=-1)
    dirs[skin] = blend[nearest].double()
    # A pupil is rigid on its eyeball whatever lid lies nearest to it.
    lids = torch.from_numpy(chart.bone)[skin] < 23
    weights[skin[lids]] = body.weights[nearest[lids]].double()
    bones, slots = _sparse(weights)
    return PointModel(
        parents=body.parents,
        joints=body.joint_template.double(),
        joint_dirs=body.joint_dirs.double(),
        points=points,
        point_dirs=dirs,
        bones=bones,
        weights=slots,
    )


def with_joints(model: PointModel) -> PointModel:
    """The model with the 22 joints of the body as more points: a joint moves with its parent."""
    count = NUM_BODY_JOINTS
    bones = torch.zeros(count, model.bones.shape[1], dtype=torch.int64)
    bones[1:, 0] = torch.tensor(model.parents[1:count])
    weights = torch.zeros(count, model.weights.shape[1], dtype=torch.float64)
    weights[:, 0] = 1
    return replace(
        model,
        points=torch.cat((model.points, model.joints[:count])),
        point_dirs=torch.cat((model.point_dirs, model.joint_dirs[:count])),
        bones=torch.cat((model.bones, bones)),
        weights=torch.cat((model.weights, weights)),
    )


def _nearest_vertices(body: Body, points: Tensor) -> Tensor:
    """[n] outer vertices nearest to points [n, 3] of the template."""
    outer = torch.nonzero(~body.vertex_inner)[:, 0]
    nearest: Tensor = outer[torch.cdist(points, body.template[outer].double()).argmin(-1)]
    return nearest


def _sparse(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The few joints and weights [L, K] that matter of dense skinning weights [L, 55]."""
    count = int((weights > 1e-3).sum(-1).max())
    slots, bones = weights.topk(count, dim=-1)
    return bones, slots / slots.sum(-1, keepdim=True)
