"""Licensed SMPL-X bodies, evaluated by the `smplx` package: the only module that imports it.

The package and the body files are for non-commercial use under their own licences. Nothing we
train or ship goes through here.
"""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from avatarmill.avatar.body import (
    JOINT_NAMES,
    NUM_EXPRESSION,
    NUM_JOINTS,
    NUM_SHAPE,
    BodyMesh,
    BodyParams,
)
from avatarmill.avatar.parts import parts_of_weights
from avatarmill.avatar.rotations import axis_angle_to_matrix


def _import_smplx() -> ModuleType:
    try:
        import smplx
    except ImportError as error:
        raise ImportError(
            "licensed SMPL-X bodies need the smplx package: pip install 'avatarmill[smplx]'"
        ) from error
    module: ModuleType = smplx
    return module


@dataclass(frozen=True, slots=True)
class LicensedSurface:
    """Template, skinning and labels of an npz in SMPL-X's format, read without the package."""

    template: Tensor
    """[V, 3]"""
    faces: Tensor
    """[F, 3] int64"""
    weights: Tensor
    """[V, 55]"""
    vertex_part: Tensor
    """[V] uint8, from the weights where the file has no labels"""
    vertex_inner: Tensor
    """[V] bool, false where the file does not say"""
    fingerprint: str
    """sha256 of every array that moves a vertex"""

    @property
    def face_part(self) -> Tensor:
        """[F] uint8 part of each face: that of its first vertex."""
        return self.vertex_part[self.faces[:, 0]]


def load_surface(path: Path) -> LicensedSurface:
    """The surface of a body file that was written by `import_body`."""
    names = ("v_template", "f", "weights", "shapedirs", "posedirs", "J_regressor", "kintree_table")
    digest = hashlib.sha256()
    with np.load(path, allow_pickle=False) as archive:
        for name in names:
            array = np.ascontiguousarray(archive[name])
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
        weights = archive["weights"].astype(np.float32)
        num_vertices = len(weights)
        named = "vertex_part" in archive.files
        parts = archive["vertex_part"] if named else parts_of_weights(weights, JOINT_NAMES)
        inner = archive["vertex_inner"] if named else np.zeros(num_vertices)
        return LicensedSurface(
            template=torch.from_numpy(archive["v_template"].astype(np.float32)),
            faces=torch.from_numpy(archive["f"].astype(np.int64)),
            weights=torch.from_numpy(weights),
            vertex_part=torch.from_numpy(parts.astype(np.uint8)),
            vertex_inner=torch.from_numpy(inner.astype(np.bool_)),
            fingerprint=digest.hexdigest(),
        )


class LicensedBody(nn.Module):
    """A SMPL-X npz behind the same call as `Body`: params in, `BodyMesh` out.

    Shape and expression coefficients are the licensed body's own, not the free body's: the same
    numbers mean other people. Poses carry over.
    """

    def __init__(self, path: Path) -> None:
        """Load the npz at `path` (see `load_licensed_body`)."""
        super().__init__()
        self._model = _import_smplx().SMPLX(
            str(path),
            ext="npz",
            num_betas=NUM_SHAPE,
            num_expression_coeffs=NUM_EXPRESSION,
            use_pca=False,  # the package reads hand poses as 15 axis-angles a side
            flat_hand_mean=True,
        )
        self.faces: Tensor = self._model.faces_tensor
        self.weights: Tensor = self._model.lbs_weights
        self.template: Tensor = self._model.v_template
        self.parents = tuple(int(parent) for parent in self._model.parents)
        surface = load_surface(path)
        self.vertex_part: Tensor = surface.vertex_part
        self.vertex_inner: Tensor = surface.vertex_inner
        self.fingerprint = surface.fingerprint

    @property
    def face_part(self) -> Tensor:
        """[F] uint8 part of each face: that of its first vertex."""
        return self.vertex_part[self.faces[:, 0]]

    def forward(self, params: BodyParams) -> BodyMesh:
        """Pose the whole body; any leading batch dimensions."""
        lead = params.batch_shape
        pose = params.pose.reshape(-1, NUM_JOINTS, 3)
        output = self._model(
            betas=params.shape.reshape(-1, NUM_SHAPE),
            expression=params.expression.reshape(-1, NUM_EXPRESSION),
            global_orient=pose[:, 0],
            body_pose=pose[:, 1:22].flatten(1),
            jaw_pose=pose[:, 22],
            leye_pose=pose[:, 23],
            reye_pose=pose[:, 24],
            left_hand_pose=pose[:, 25:40].flatten(1),
            right_hand_pose=pose[:, 40:].flatten(1),
            transl=params.translation.reshape(-1, 3),
        )
        joints: Tensor = output.joints[:, :NUM_JOINTS].reshape(*lead, NUM_JOINTS, 3)
        vertices: Tensor = output.vertices.reshape(*lead, -1, 3)
        return BodyMesh(vertices, joints, self._transforms(params, joints))

    def rest(self, shape: Tensor, expression: Tensor) -> tuple[Tensor, Tensor]:
        """T-posed vertices [..., V, 3] and joints [..., 55, 3]."""
        coefficients = torch.cat((shape, expression), dim=-1)
        directions = torch.cat((self._model.shapedirs, self._model.expr_dirs), dim=-1)
        vertices = self.template + torch.einsum("vck,...k->...vc", directions, coefficients)
        return vertices, torch.einsum("jv,...vc->...jc", self._model.J_regressor, vertices)

    def _transforms(self, params: BodyParams, joints: Tensor) -> Tensor:
        # The package keeps its matrices to itself: rebuild them from rotations and joints.
        _, rest = self.rest(params.shape, params.expression)
        local = axis_angle_to_matrix(params.pose)
        world = [local[..., 0, :, :]]
        for joint in range(1, NUM_JOINTS):
            world.append(world[self.parents[joint]] @ local[..., joint, :, :])
        rotations = torch.stack(world, dim=-3)
        offset = joints - (rotations @ rest.unsqueeze(-1)).squeeze(-1)
        top = torch.cat((rotations, offset.unsqueeze(-1)), dim=-1)
        bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
        return torch.cat((top, bottom), dim=-2)


def load_licensed_body(path: Path) -> LicensedBody:
    """Load a licensed `SMPLX_*.npz` through the `smplx` package.

    Raises:
        ImportError: the package is missing; the message has the install line.
        FileNotFoundError: no such file.
        ValueError: not an npz, too few columns for 20 shape and 52 expression coefficients, or
            an array that only unpickling could read: the package would run such code.
    """
    _import_smplx()
    _refuse_pickles(path)
    return LicensedBody(path)


def _refuse_pickles(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no body at {path}; give the path of a SMPLX_*.npz")
    if path.suffix != ".npz":
        raise ValueError(f"{path} is not an npz; use the .npz of SMPL-X, the .pkl can run code")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an npz archive; download it again")
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            try:
                columns = archive[name].shape[-1:]
            except ValueError as error:
                raise ValueError(
                    f"{path}: array {name!r} is pickled and could run code when loaded; "
                    "save the file again without object arrays"
                ) from error
            if name == "shapedirs" and columns[0] < 300 + NUM_EXPRESSION:
                raise ValueError(
                    f"{path} has {columns[0]} shape columns; the 400-column release of SMPL-X "
                    "(300 shape, 100 expression) is needed"
                )
