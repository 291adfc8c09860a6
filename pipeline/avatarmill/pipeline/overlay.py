"""The fitted body drawn over its frame, for reports and for looking."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import Body, BodyParams
from avatarmill.avatar.mesh_render import render_mesh
from avatarmill.avatar.zbuffer import MeshBuffer, mesh_zbuffer
from avatarmill.pipeline.types import Bytes, Fit, Float

SKIN = (0.55, 0.75, 1.0)
"""sRGB of the drawn body: a blue no skin or cloth has."""


def fit_params(fit: Fit, rows: list[int]) -> BodyParams:
    """Body parameters [n] of some rows of a fit."""
    shape = torch.from_numpy(fit.shape).expand(len(rows), -1)
    return BodyParams(
        torch.from_numpy(fit.pose[rows]),
        shape,
        torch.from_numpy(fit.expression[rows]),
        torch.from_numpy(fit.translation[rows]),
    )


def fit_vertices(body: Body, fit: Fit, rows: list[int]) -> Float:
    """Camera-space vertices [n, V, 3] of some rows of a fit, metres."""
    with torch.no_grad():
        vertices: Float = body(fit_params(fit, rows)).vertices.numpy()
    return vertices


@dataclass(frozen=True, slots=True)
class Silhouette:
    """A mesh as one camera sees it."""

    buffer: MeshBuffer
    scale: float
    """Pixels of the buffer a pixel of the frame."""

    @property
    def covered(self) -> NDArray[np.bool_]:
        """[h, w] where the mesh is."""
        return self.buffer.face >= 0


def silhouette(
    body: Body, vertices: Float, intrinsics: Float, *, width: int, height: int, side: int
) -> Silhouette:
    """Z-buffer of one posed body at a resolution whose longer side is at most `side` pixels."""
    scale = min(1.0, side / max(width, height))
    small = intrinsics.copy()
    small[:2] *= scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Silhouette(mesh_zbuffer(vertices, body.faces.numpy(), small, *size), scale)


def draw_overlay(
    image: Bytes, vertices: Float, body: Body, intrinsics: Float, *, opacity: float = 0.7
) -> Bytes:
    """The frame [H, W, 3] with the body shaded over it.

    Args:
        image: sRGB frame or crop.
        vertices: [V, 3] camera space, metres.
        body: whose faces are drawn.
        intrinsics: [3, 3] of the image.
        opacity: of the drawn body.
    """
    height, width = image.shape[:2]
    paint = np.array(SKIN, np.float32)
    drawn = render_mesh(vertices, body.faces.numpy(), intrinsics, width, height, paint=paint)
    cover = opacity * drawn.mask[..., None]
    mixed: Bytes = (image * (1 - cover) + 255 * drawn.color * cover).round().astype(np.uint8)
    return mixed
