"""A SMPL-X shaped body evaluated by our own linear blend skinning.

Conventions: metres, y up, the rest pose is a T-pose facing +z with the character's left arm
along +x, and every rest joint frame is parallel to the world. Parameters are SMPL-X's: 55
axis-angle rotations relative to the parent joint, so SMPL-X and AMASS motions apply unchanged.
"""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avatarmill.avatar.rotations import axis_angle_to_matrix

NUM_JOINTS = 55
NUM_SHAPE = 20
NUM_EXPRESSION = 52
# Where SMPL-X's file keeps expression among the 400 columns of `shapedirs`.
EXPRESSION_START = 300
# Vertices times bodies skinned at once.
_SKIN_BLOCK = 32_768

FREE_BODY = Path(__file__).parent / "data" / "smplx" / "SMPLX_NEUTRAL.npz"

_HAND = tuple(f"{f}{k}" for f in ("index", "middle", "pinky", "ring", "thumb") for k in (1, 2, 3))
JOINT_NAMES: tuple[str, ...] = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2"),
    *("left_ankle", "right_ankle", "spine3", "left_foot", "right_foot", "neck"),
    *("left_collar", "right_collar", "head", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "jaw", "left_eye", "right_eye"),
    *(f"left_{name}" for name in _HAND),
    *(f"right_{name}" for name in _HAND),
)


@dataclass(frozen=True, slots=True)
class BodyParams:
    """Pose, shape, expression and place of a batch of bodies; leading dimensions agree."""

    pose: Tensor
    """[..., 55, 3] axis-angle (radians) of each joint relative to its parent; joint 0 turns the
    body about its pelvis."""
    shape: Tensor
    """[..., 20] shape coefficients, about standard normal over people."""
    expression: Tensor
    """[..., 52] facial actions, 0 (relaxed) to 1 (full)."""
    translation: Tensor
    """[..., 3] metres, added after everything else."""

    def __post_init__(self) -> None:
        tails = {
            "pose": (NUM_JOINTS, 3),
            "shape": (NUM_SHAPE,),
            "expression": (NUM_EXPRESSION,),
            "translation": (3,),
        }
        for name, tail in tails.items():
            shape = tuple(getattr(self, name).shape)
            if shape[-len(tail) :] != tail or shape[: -len(tail)] != self.batch_shape:
                expected = [*self.batch_shape, *tail]
                raise ValueError(f"{name} must be {expected}, got {list(shape)}")

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The leading dimensions shared by all fields."""
        return tuple(self.pose.shape[:-2])

    @staticmethod
    def rest(batch: int | tuple[int, ...] = 1, *, device: str | None = None) -> "BodyParams":
        """The average adult in T-pose at the origin, `batch` times (float32 zeros)."""
        lead = (batch,) if isinstance(batch, int) else batch

        def zeros(*tail: int) -> Tensor:
            return torch.zeros(*lead, *tail, device=device)

        return BodyParams(zeros(NUM_JOINTS, 3), zeros(NUM_SHAPE), zeros(NUM_EXPRESSION), zeros(3))

    def __getitem__(self, index: int | slice | Tensor) -> "BodyParams":
        """The same selection along the first batch dimension of every field."""
        return BodyParams(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: str | torch.device) -> "BodyParams":
        """The same parameters on another device."""
        return BodyParams(*(getattr(self, field.name).to(device) for field in fields(self)))

    def detach(self) -> "BodyParams":
        """The same values cut from the autograd graph."""
        return BodyParams(*(getattr(self, field.name).detach() for field in fields(self)))


@dataclass(frozen=True, slots=True)
class BodyMesh:
    """A posed body."""

    vertices: Tensor
    """[..., V, 3]"""
    joints: Tensor
    """[..., 55, 3] posed joint centres, translation included."""
    transforms: Tensor
    """[..., 55, 4, 4] rest -> posed, translation included: what skinning blends."""


class Body(nn.Module):
    """Linear blend skinning over SMPL-X's skeleton; see `load_body`.

    Same mathematics as the `smplx` package on the same file, with the blend and the joints
    folded into one matrix each, and batches kept in the last dimension while skinning.
    """

    template: Tensor
    """[V, 3]"""
    faces: Tensor
    """[F, 3] int64"""
    weights: Tensor
    """[V, 55] skinning weights, rows sum to one"""
    shapedirs: Tensor
    """[V, 3, 20]"""
    exprdirs: Tensor
    """[V, 3, 52]"""
    joint_regressor: Tensor
    """[55, V]"""
    joint_template: Tensor
    """[55, 3] joints of `template`"""
    joint_dirs: Tensor
    """[55, 3, 72] how they move with shape and expression"""
    uv: Tensor
    """[V, 2] one texture coordinate a vertex; on seams, one of several (see `texture_uv`)"""
    texture_uv: Tensor
    """[U, 2] texture coordinates split along seams, indexed by `texture_faces`"""
    texture_faces: Tensor
    """[F, 3] int64"""
    vertex_part: Tensor
    """[V] uint8, index into `PARTS`"""
    vertex_inner: Tensor
    """[V] bool, inside the mouth or behind the eyelids"""

    def __init__(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Build from the arrays of an npz in SMPL-X's format (see `load_body`)."""
        super().__init__()
        shapedirs = np.asarray(arrays["shapedirs"], np.float32)
        end = EXPRESSION_START + NUM_EXPRESSION
        self._keep("template", arrays["v_template"], np.float32)
        self._keep("faces", arrays["f"], np.int64)
        self._keep("weights", arrays["weights"], np.float32)
        self._keep("shapedirs", shapedirs[:, :, :NUM_SHAPE], np.float32)
        self._keep("exprdirs", shapedirs[:, :, EXPRESSION_START:end], np.float32)
        self._keep("joint_regressor", arrays["J_regressor"], np.float32)
        self.parents = tuple(int(parent) for parent in arrays["kintree_table"][0])
        self.parents = (-1, *self.parents[1:])
        self.fingerprint = self._fingerprint()
        self._fold_joints()
        self._levels = _tree_levels(self.parents)
        self._init_surface(arrays)

    def _keep(self, name: str, array: NDArray[np.generic], dtype: type) -> None:
        self.register_buffer(name, torch.from_numpy(np.array(array, dtype)), persistent=False)

    def _fingerprint(self) -> str:
        names = ("template", "faces", "weights", "shapedirs", "exprdirs", "joint_regressor")
        digest = hashlib.sha256(repr(self.parents).encode())
        for name in names:
            array = getattr(self, name).numpy()
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _fold_joints(self) -> None:
        # Joints are linear in the coefficients, so the regressor is needed once, not per call.
        regressor = self.joint_regressor.double()
        directions = torch.cat((self.shapedirs, self.exprdirs), dim=-1)
        self.register_buffer("_directions", directions.flatten(0, 1), persistent=False)
        self._directions: Tensor
        folded = torch.einsum("jv,vck->jck", regressor, directions.double())
        self.register_buffer("joint_template", (regressor @ self.template.double()).float(), False)
        self.register_buffer("joint_dirs", folded.float(), False)

    def _init_surface(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        num_vertices = len(self.template)
        parts = arrays.get("vertex_part", np.zeros(num_vertices, np.uint8))
        self._keep("vertex_part", parts, np.uint8)
        self._keep("vertex_inner", arrays.get("vertex_inner", np.zeros(num_vertices)), np.bool_)
        self._keep("texture_uv", arrays.get("vt", np.zeros((num_vertices, 2))), np.float32)
        self._keep("texture_faces", arrays.get("ft", arrays["f"]), np.int64)
        uv = torch.zeros(num_vertices, 2)
        uv[self.faces.flatten()] = self.texture_uv[self.texture_faces.flatten()]
        self.register_buffer("uv", uv, persistent=False)

    @property
    def num_vertices(self) -> int:
        """Number of vertices V."""
        return len(self.template)

    @property
    def face_part(self) -> Tensor:
        """[F] uint8 part of each face: that of its first vertex."""
        return self.vertex_part[self.faces[:, 0]]

    def forward(self, params: BodyParams) -> BodyMesh:
        """Pose the whole body; any leading batch dimensions."""
        joints, transforms = self.transforms(params)
        rest = self._rest_columns(params, None)
        vertices = _skin_columns(self.weights, rest, transforms, params.batch_shape)
        return BodyMesh(vertices, joints, transforms)

    def vertices_subset(self, params: BodyParams, vertex_ids: Tensor) -> Tensor:
        """Posed positions [..., K, 3] of the vertices `vertex_ids` [K] only."""
        _, transforms = self.transforms(params)
        rest = self._rest_columns(params, vertex_ids)
        return _skin_columns(self.weights[vertex_ids], rest, transforms, params.batch_shape)

    def rest(self, shape: Tensor, expression: Tensor) -> tuple[Tensor, Tensor]:
        """T-posed vertices [..., V, 3] and joints [..., 55, 3] of shape and expression."""
        coefficients = torch.cat((shape, expression), dim=-1)
        offsets = coefficients @ self._directions.T
        vertices = self.template + offsets.reshape(*offsets.shape[:-1], -1, 3)
        return vertices, self._rest_joints(coefficients)

    def transforms(self, params: BodyParams) -> tuple[Tensor, Tensor]:
        """Forward kinematics only: joints [..., 55, 3] and transforms [..., 55, 4, 4]."""
        coefficients = torch.cat((params.shape, params.expression), dim=-1)
        rest = self._rest_joints(coefficients)
        rotations, joints = self._chain(axis_angle_to_matrix(params.pose), rest)
        joints = joints + params.translation.unsqueeze(-2)
        offset = joints - (rotations @ rest.unsqueeze(-1)).squeeze(-1)
        top = torch.cat((rotations, offset.unsqueeze(-1)), dim=-1)
        bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
        return joints, torch.cat((top, bottom), dim=-2)

    def _rest_joints(self, coefficients: Tensor) -> Tensor:
        offsets = coefficients @ self.joint_dirs.flatten(0, 1).T
        return self.joint_template + offsets.reshape(*offsets.shape[:-1], NUM_JOINTS, 3)

    def _rest_columns(self, params: BodyParams, vertex_ids: Tensor | None) -> Tensor:
        # [V, 3, B]: batch last, so that skinning runs over contiguous memory.
        coefficients = torch.cat((params.shape, params.expression), dim=-1)
        coefficients = coefficients.reshape(-1, coefficients.shape[-1])
        directions, template = self._directions, self.template
        if vertex_ids is not None:
            directions = directions.view(self.num_vertices, 3, -1)[vertex_ids].flatten(0, 1)
            template = template[vertex_ids]
        blended = torch.addmm(template.reshape(-1, 1), directions, coefficients.T)
        return blended.view(len(template), 3, -1)

    def _chain(self, local: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        # World rotations and joint centres, one tree level at a time instead of joint by joint.
        rotations, joints, bones = [local[..., :1, :, :]], [rest[..., :1, :]], self._levels
        for ids, parents, places in bones.levels:
            turn = rotations[-1][..., places, :, :]
            bone = (rest[..., ids, :] - rest[..., parents, :]).unsqueeze(-1)
            joints.append(joints[-1][..., places, :] + (turn @ bone).squeeze(-1))
            rotations.append(turn @ local[..., ids, :, :])
        order = bones.order
        return torch.cat(rotations, -3)[..., order, :, :], torch.cat(joints, -2)[..., order, :]


@dataclass(frozen=True, slots=True)
class _Levels:
    # Per level below the root: joints, their parents, and the parents' places in the level above.
    levels: tuple[tuple[list[int], list[int], list[int]], ...]
    order: list[int]


def _tree_levels(parents: tuple[int, ...]) -> _Levels:
    levels, above, listed = [], [0], [0]
    while len(listed) < len(parents):
        ids = [joint for joint, parent in enumerate(parents) if parent in above]
        up = [parents[joint] for joint in ids]
        levels.append((ids, up, [above.index(parent) for parent in up]))
        above, listed = ids, listed + ids
    return _Levels(tuple(levels), [listed.index(joint) for joint in range(len(parents))])


def _skin_columns(
    weights: Tensor, rest: Tensor, transforms: Tensor, batch_shape: tuple[int, ...]
) -> Tensor:
    # rest [V, 3, B], transforms [..., 55, 4, 4] -> [..., V, 3]. In blocks of vertices whose
    # blended matrices stay in cache: 23 ms instead of 61 for 64 bodies on one core.
    matrices = transforms.reshape(-1, NUM_JOINTS, 4, 4)[:, :, :3, :]
    columns = matrices.permute(1, 3, 2, 0).flatten(1)  # [55, 12 B]
    block = max(512, _SKIN_BLOCK // rest.shape[-1])
    moved = [
        _skin_block(block_weights @ columns, block_rest)
        for block_weights, block_rest in zip(weights.split(block), rest.split(block), strict=True)
    ]
    return torch.cat(moved).permute(2, 0, 1).reshape(*batch_shape, len(weights), 3)


def _skin_block(blended: Tensor, rest: Tensor) -> Tensor:
    matrices = blended.view(len(rest), 4, 3, -1)  # the columns of each 3x4 matrix
    moved = matrices[:, 3]
    for axis in range(3):
        moved = torch.addcmul(moved, matrices[:, axis], rest[:, axis : axis + 1])
    return moved


def load_body(path: Path | None = None) -> Body:
    """Load a body from an npz in SMPL-X's format; the free body of the package by default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an npz of SMPL-X's format, or one with pose correctives (a licensed
            body, which `avatarmill.avatar.licensed.load_licensed_body` evaluates).
    """
    source = FREE_BODY if path is None else path
    try:
        # allow_pickle=False: an npz can hide pickles that run code when they are read.
        with np.load(source, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (BadZipFile, ValueError) as error:
        raise ValueError(f"{source} is not a body in SMPL-X's npz format: {error}") from error
    _validate(arrays, source)
    return Body(arrays)


def _validate(arrays: dict[str, NDArray[np.generic]], source: Path) -> None:
    needed = ("v_template", "f", "weights", "shapedirs", "posedirs", "J_regressor", "kintree_table")
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise ValueError(f"{source} lacks {', '.join(missing)}: not a body in SMPL-X's format")
    columns, joints = arrays["shapedirs"].shape[-1], len(arrays["J_regressor"])
    if columns < EXPRESSION_START + NUM_EXPRESSION or joints != NUM_JOINTS:
        raise ValueError(
            f"{source} has {columns} shape columns and {joints} joints; a SMPL-X body has "
            f"at least {EXPRESSION_START + NUM_EXPRESSION} and {NUM_JOINTS}"
        )
    if arrays["posedirs"].any():
        raise ValueError(
            f"{source} has pose correctives, as licensed SMPL-X bodies do; "
            "load it with avatarmill.avatar.licensed.load_licensed_body"
        )
