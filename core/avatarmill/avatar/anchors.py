"""Anchors: the fixed points of the body surface that avatar tokens hang on.

One ordered list of 8,192 points, each further from all points before it than any other
candidate, so every prefix covers the body evenly: the first 1,024 are the nano set. Head and
hands get a larger share than their area (LHM: three on the body to one on the head).
"""

import logging
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from avatarmill.avatar.parts import HAND_PARTS, HEAD_PARTS, part_ids

logger = logging.getLogger(__name__)

MAX_ANCHORS = 8192
FREE_ANCHORS = Path(__file__).parent / "data" / "anchors.npz"
# Shares of all anchors; the rest of the body gets what is left.
HEAD_SHARE, HAND_SHARE = 0.25, 0.12
NUM_CANDIDATES = 60_000

Array = NDArray[np.float64]


class Surface(Protocol):
    """What anchors need of a body, free or licensed."""

    @property
    def template(self) -> Tensor:
        """[V, 3]"""

    @property
    def faces(self) -> Tensor:
        """[F, 3] int64"""

    @property
    def weights(self) -> Tensor:
        """[V, 55]"""

    @property
    def vertex_part(self) -> Tensor:
        """[V] uint8"""

    @property
    def vertex_inner(self) -> Tensor:
        """[V] bool"""

    @property
    def face_part(self) -> Tensor:
        """[F] uint8"""

    @property
    def fingerprint(self) -> str:
        """sha256 of what moves the vertices"""


@dataclass(frozen=True, slots=True)
class Anchors:
    """T points of a body's surface, with what is needed to move them."""

    face: Tensor
    """[T] int64, face of the body each anchor lies on"""
    triangle: Tensor
    """[T, 3] int64, the vertices of that face"""
    barycentric: Tensor
    """[T, 3] weights of those vertices, summing to one"""
    weights: Tensor
    """[T, 55] skinning weights"""
    part: Tensor
    """[T] uint8, index into `PARTS`"""
    position: Tensor
    """[T, 3] on the body's template (T-pose), metres"""
    normal: Tensor
    """[T, 3] outward unit normals there"""
    fingerprint: str
    """of the body these anchors belong to"""

    def __len__(self) -> int:
        return len(self.face)

    def points(self, vertices: Tensor) -> Tensor:
        """Positions [..., T, 3] of the anchors on a mesh with `vertices` [..., V, 3]."""
        return (vertices[..., self.triangle, :] * self.barycentric.unsqueeze(-1)).sum(-2)

    def normals(self, vertices: Tensor) -> Tensor:
        """Outward unit normals [..., T, 3] of the anchors' faces on `vertices` [..., V, 3]."""
        return _face_normals(vertices, self.triangle)

    def to(self, device: str | torch.device) -> "Anchors":
        """The same anchors on another device."""
        tensors = {name: getattr(self, name) for name in (field.name for field in fields(self))}
        del tensors["fingerprint"]
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})


def stored_anchors_path(body_file: Path) -> Path:
    """Where the anchors of an imported body lie: beside its npz."""
    return body_file.with_name(f"{body_file.stem}.anchors.npz")


def load_anchors(body: Surface, count: int = 1024, *, stored: Path = FREE_ANCHORS) -> Anchors:
    """The first `count` anchors of `body`: read if `stored` has them, derived if not.

    Args:
        body: any body; anchors are a matter of its template, not of its pose.
        count: how many; every smaller set is the beginning of a larger one.
        stored: the file with them (`stored_anchors_path` of an imported body); it counts only
            when it carries the fingerprint of `body`.

    Raises:
        ValueError: `count` is not between 1 and 8,192.
    """
    if not 1 <= count <= MAX_ANCHORS:
        raise ValueError(f"count must be between 1 and {MAX_ANCHORS}, got {count}")
    if stored.is_file():
        with np.load(stored, allow_pickle=False) as archive:
            if str(archive["fingerprint"]) == body.fingerprint:
                return _on_body(body, archive["face"][:count], archive["barycentric"][:count])
    logger.info("body %s has no stored anchors: deriving them", body.fingerprint[:12])
    face, barycentric = derive_anchors(body, count)
    return _on_body(body, face, barycentric)


def _on_body(
    body: Surface, face: NDArray[np.integer], barycentric: NDArray[np.floating]
) -> Anchors:
    faces = torch.from_numpy(face.astype(np.int64)).to(body.faces.device)
    corners = torch.from_numpy(barycentric.astype(np.float32)).to(body.faces.device)
    triangle = body.faces[faces]
    nearest = triangle.gather(1, corners.argmax(1, keepdim=True)).squeeze(1)
    return Anchors(
        face=faces,
        triangle=triangle,
        barycentric=corners,
        weights=(body.weights[triangle] * corners.unsqueeze(-1)).sum(1),
        part=body.vertex_part[nearest],
        position=(body.template[triangle] * corners.unsqueeze(-1)).sum(1),
        normal=_face_normals(body.template, triangle),
        fingerprint=body.fingerprint,
    )


def _face_normals(vertices: Tensor, triangle: Tensor) -> Tensor:
    a, b, c = vertices[..., triangle, :].unbind(-2)
    return F.normalize(torch.linalg.cross(b - a, c - a), dim=-1)


def derive_anchors(body: Surface, count: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Faces [count] and barycentric weights [count, 3] in nested farthest-point order.

    Deterministic: candidates come from a low-discrepancy sequence, not from a random one.
    """
    vertices = body.template.cpu().numpy().astype(np.float64)
    faces = body.faces.cpu().numpy()
    density = _face_density(body, vertices[faces])
    face, barycentric = _spread_candidates(vertices[faces], density)
    points = (vertices[faces[face]] * barycentric[:, :, None]).sum(1)
    order = _farthest_first(points, np.sqrt(density[face]), count)
    return face[order].astype(np.int32), np.round(barycentric[order], 6).astype(np.float32)


def _face_density(body: Surface, corners: Array) -> Array:
    """Anchors per area, relative to the rest of the body; zero on inner surfaces. [F]"""
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    hidden = body.vertex_inner[body.faces].any(1).cpu().numpy()
    area = np.where(hidden, 0.0, np.linalg.norm(cross, axis=1) / 2)
    part = body.face_part.cpu().numpy()
    density = (~hidden).astype(np.float64)
    rest = area[~np.isin(part, part_ids(*HEAD_PARTS, *HAND_PARTS))].sum()
    for names, share in ((HEAD_PARTS, HEAD_SHARE), (HAND_PARTS, HAND_SHARE)):
        region = np.isin(part, part_ids(*names))
        if area[region].sum() > 0:  # a body without part labels is sampled evenly
            wanted = share / (1 - HEAD_SHARE - HAND_SHARE) * rest
            density[region] *= wanted / area[region].sum()
    return density


def _spread_candidates(corners: Array, density: Array) -> tuple[NDArray[np.int64], Array]:
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    mass = np.cumsum(np.linalg.norm(cross, axis=1) * density)
    # Equal steps through the area pick faces; the R2 sequence (Roberts 2018) places points in
    # them, folded into the triangle.
    k = np.arange(NUM_CANDIDATES)
    face = np.searchsorted(mass, (k + 0.5) / NUM_CANDIDATES * mass[-1])
    u, v = (k * 0.7548776662466927) % 1.0, (k * 0.5698402909980532) % 1.0
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return face, np.stack((1 - u - v, u, v), axis=1)


def _farthest_first(points: Array, scale: Array, count: int) -> NDArray[np.int64]:
    # A candidate's distance counts `scale` times, so regions of density s^2 fill s^2 as densely.
    order = np.empty(count, np.int64)
    order[0] = np.argmax(points[:, 2] * scale)
    distance = np.full(len(points), np.inf)
    for k in range(count):
        if k:
            order[k] = distance.argmax()
        offset = points - points[order[k]]
        np.minimum(distance, np.einsum("ij,ij->i", offset, offset) * scale**2, out=distance)
    return order
