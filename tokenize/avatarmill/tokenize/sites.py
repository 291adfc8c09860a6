"""Sites: the surface points that an avatar's Gaussians start from, several around each anchor.

A token describes its Gaussians relative to their sites: in the site's frame (tangent along the
bone, second tangent, normal) and in units of the site's spacing. An undecided token therefore
already shows a body, and the same token means the same thing on every shape.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from avatarmill.avatar.anchors import Anchors
from avatarmill.avatar.body import JOINT_NAMES, NUM_EXPRESSION, NUM_SHAPE, Body
from avatarmill.tokenize.triangles import closest_barycentric

Floats = NDArray[np.float64]

_NEIGHBOURS = 6
# A disk as large as a cell of a hexagonal lattice of unit spacing has this radius.
_CELL_RADIUS = 0.525
_CANDIDATE_FACES = 48
# Two points of surface belong together when their normals are closer than about 80 degrees.
_SAME_SIDE = 0.17
_UPRIGHT_JOINTS = ("head", "jaw", "left_eye", "right_eye")


@dataclass(frozen=True, slots=True)
class Sites:
    """P = T * K surface points, K around each of T anchors, in anchor order.

    All lengths are metres in the rest pose of the template shape.
    """

    vertices: Tensor
    """[P, 3] int64: the corners of each site's face."""
    barycentric: Tensor
    """[P, 3] float32."""
    weights: Tensor
    """[P, 55] float32 skinning weights, blended like the position."""
    frame: Tensor
    """[P, 3, 3] float32: columns are tangent along the bone, second tangent, outward normal."""
    spacing: Tensor
    """[P] float32: radius of the piece of surface a site stands for."""
    mirror: Tensor
    """[T] int64: for each anchor, the anchor nearest to its left-right mirror image."""

    @classmethod
    def around(cls, body: Body, anchors: Anchors, per_anchor: int) -> Self:
        """Spread `per_anchor` sites over the surface around each anchor.

        Points of a sunflower pattern in the anchor's tangent plane, as large as the anchor's
        share of the surface, moved to the closest point of the mesh. Deterministic.
        """
        rest_vertices, rest_joints = _rest(body)
        position = anchors.position.double().numpy()
        normal = anchors.normal.double().numpy()
        radius = _CELL_RADIUS * _local_spacing(position, normal)
        tangent = _bone_tangents(
            rest_joints, body.parents, anchors.weights.double().numpy(), normal
        )
        wanted = _sunflower(position, normal, tangent, radius, per_anchor)

        faces = _outer_faces(body)
        triangles = rest_vertices[faces]
        face, barycentric = _seat(wanted, np.repeat(normal, per_anchor, 0), triangles)
        frame = _frames(_face_normals(triangles)[face], np.repeat(tangent, per_anchor, 0))
        corners = torch.from_numpy(faces[face])
        weights = torch.from_numpy(barycentric).float()
        return cls(
            vertices=corners,
            barycentric=weights,
            weights=(body.weights.cpu()[corners] * weights[..., None]).sum(1),
            frame=torch.from_numpy(frame).float(),
            spacing=torch.from_numpy(np.repeat(radius / np.sqrt(per_anchor), per_anchor)).float(),
            mirror=torch.from_numpy(_mirror(position)),
        )

    def points(self, vertices: Tensor) -> Tensor:
        """Site positions [..., P, 3] on body vertices [..., V, 3], in the vertices' frame."""
        corners = vertices[..., self.vertices.flatten(), :]
        corners = corners.unflatten(-2, (-1, 3))
        points: Tensor = (corners * self.barycentric[..., None]).sum(-2)
        return points


def _rest(body: Body) -> tuple[Floats, Floats]:
    with torch.no_grad():
        vertices, joints = body.rest(torch.zeros(1, NUM_SHAPE), torch.zeros(1, NUM_EXPRESSION))
    return vertices[0].double().numpy(), joints[0].double().numpy()


def _outer_faces(body: Body) -> NDArray[np.int64]:
    """Vertex indices [F', 3] of the faces outside of mouth and eye sockets."""
    faces = body.faces.cpu().numpy()
    outer: NDArray[np.int64] = faces[~body.vertex_inner.cpu().numpy()[faces].any(axis=1)]
    return outer


def _local_spacing(position: Floats, normal: Floats) -> Floats:
    """Mean distance of each anchor to its nearest neighbours on the same side of the body."""
    count = min(4 * _NEIGHBOURS, len(position) - 1)
    found = cKDTree(position).query(position, k=count + 1)
    # The nearest is the anchor itself.
    distance, index = np.asarray(found[0])[:, 1:], np.asarray(found[1])[:, 1:]
    opposite = (normal[index] * normal[:, None]).sum(-1) < _SAME_SIDE
    nearest = np.sort(np.where(opposite, np.inf, distance), axis=1)[:, :_NEIGHBOURS]
    # Fingertips may have fewer neighbours than asked for on their side; one is always there.
    nearest = np.where(np.isinf(nearest), nearest[:, :1], nearest)
    fallback: Floats = distance[:, :_NEIGHBOURS].mean(axis=1)
    spacing = np.where(np.isinf(nearest[:, 0]), fallback, nearest.mean(axis=1))
    return spacing


def _bone_tangents(
    joints: Floats, parents: tuple[int, ...], weights: Floats, normal: Floats
) -> Floats:
    """Unit tangents along the bones: one smooth direction over each limb and the trunk."""
    parent = np.array(parents)
    direction = np.zeros_like(joints)
    for joint in range(len(joints)):
        children = np.flatnonzero(parent == joint)
        if JOINT_NAMES[joint] in _UPRIGHT_JOINTS:
            direction[joint] = (0.0, 1.0, 0.0)
        elif len(children):
            direction[joint] = joints[children].mean(0) - joints[joint]
        else:
            direction[joint] = joints[joint] - joints[parent[joint]]
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    return _tangential(weights @ direction, normal)


def _tangential(direction: Floats, normal: Floats) -> Floats:
    """Unit component of each direction in the plane of its normal, never degenerate."""
    direction = direction / np.maximum(np.linalg.norm(direction, axis=-1, keepdims=True), 1e-9)
    inside = direction - (direction * normal).sum(-1, keepdims=True) * normal
    # Where the bone points out of the surface (crown, fingertips) forward, then up, stand in.
    for axis in (2, 1):
        unit = np.eye(3)[axis]
        spare = unit - normal[..., axis : axis + 1] * normal
        weak = np.linalg.norm(inside, axis=-1, keepdims=True) < 0.2
        inside = np.where(weak, spare, inside)
    unit_tangent: Floats = inside / np.linalg.norm(inside, axis=-1, keepdims=True)
    return unit_tangent


def _sunflower(
    position: Floats, normal: Floats, tangent: Floats, radius: Floats, count: int
) -> Floats:
    """Points [T * count, 3] spread evenly over each anchor's tangent disk."""
    step = np.arange(count)
    reach = np.sqrt((step + 0.5) / count)
    angle = step * np.pi * (3.0 - np.sqrt(5.0))
    across = np.cross(normal, tangent)
    pattern = (reach * np.cos(angle))[None, :, None] * tangent[:, None] + (reach * np.sin(angle))[
        None, :, None
    ] * across[:, None]
    spread: Floats = position[:, None] + radius[:, None, None] * pattern
    return spread.reshape(-1, 3)


def _seat(wanted: Floats, normal: Floats, triangles: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Face and barycentric coordinates of the mesh point closest to each wanted point.

    Only faces that look the same way as the anchor count, so that no site slips to the other
    side of a finger or into the mouth.
    """
    centroid = triangles.mean(axis=1)
    face_normal = _face_normals(triangles)
    count = min(_CANDIDATE_FACES, len(triangles))
    _, near = cKDTree(centroid).query(wanted, k=count)
    near = near.reshape(len(wanted), count)
    barycentric, distance = closest_barycentric(wanted, triangles[near])
    turned_away = (face_normal[near] * normal[:, None]).sum(-1) < _SAME_SIDE
    best = np.where(turned_away, distance + 1.0, distance).argmin(axis=1)
    rows = np.arange(len(wanted))
    return near[rows, best].astype(np.int64), barycentric[rows, best]


def _face_normals(triangles: Floats) -> Floats:
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    unit: Floats = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
    return unit


def _frames(normal: Floats, tangent: Floats) -> Floats:
    """Right-handed frames [P, 3, 3], columns tangent, across, normal."""
    along = _tangential(tangent, normal)
    frame: Floats = np.stack([along, np.cross(normal, along), normal], axis=-1)
    return frame


def _mirror(position: Floats) -> NDArray[np.int64]:
    _, index = cKDTree(position).query(position * np.array([-1.0, 1.0, 1.0]))
    return np.asarray(index, dtype=np.int64)
