"""How a mask agrees with the fitted body: covered, hidden part by part, spilt, cut off."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatarmill.avatar.body import Body
from avatarmill.avatar.parts import PARTS
from avatarmill.pipeline.overlay import Silhouette
from avatarmill.pipeline.types import Float

_HIDDEN = 0.4
"""Share of a part that the mask covers below which something stands in front of it."""
_LEAST_PIXELS = 12
"""Smaller parts of a silhouette say nothing."""
_REACH = 0.12
"""How far clothes and hair reach beyond the body, as a share of its longer side."""


@dataclass(frozen=True, slots=True)
class FitAgreement:
    """Shares, 0..1."""

    inside: float
    """Of the body's vertices, inside the image."""
    covered: float
    """Of the body inside the image, less hidden parts, under the mask."""
    hidden: float
    """Of the body inside the image, in parts that the mask leaves out."""
    spill: float
    """Of the mask, further from the body than clothes reach."""


def fit_agreement(
    seen: Silhouette,
    mask: NDArray[np.bool_],
    vertices: Float,
    intrinsics: Float,
    size: tuple[int, int],
    body: Body,
) -> FitAgreement:
    """Hold a mask [h, w] against the silhouette of the same size.

    Clothes and hair reach beyond the body, so only what is far from it counts as spilt. Where
    nothing of the body or of the mask is in the image, `covered` is 0.

    Args:
        seen: the fitted body.
        mask: where the person is seen.
        vertices: [V, 3] camera space.
        intrinsics: [3, 3] of the full picture.
        size: its width and height.
        body: whose parts are told apart.
    """
    inside = _inside_share(vertices, intrinsics, size)
    body_pixels = int(seen.covered.sum())
    if not body_pixels or not mask.any():
        return FitAgreement(inside, 0.0, 0.0, float(mask.any()))
    spill = float((mask & ~_reach(seen.covered)).sum() / mask.sum())
    hidden = _hidden_parts(seen, mask, body)
    open_to_view = seen.covered & ~hidden
    # A body that is hidden altogether is no occlusion: the mask is of somebody else.
    if not open_to_view.any():
        return FitAgreement(inside, 0.0, 1.0, spill)
    covered = float((mask & open_to_view).sum() / open_to_view.sum())
    return FitAgreement(inside, covered, float(hidden.sum() / body_pixels), spill)


def _inside_share(vertices: Float, intrinsics: Float, size: tuple[int, int]) -> float:
    projected = vertices @ intrinsics.T
    ahead = projected[:, 2] > 0.05
    pixels = projected[:, :2] / np.maximum(projected[:, 2:], 0.05)
    return float((ahead & ((pixels >= 0) & (pixels < size)).all(-1)).mean())


def _hidden_parts(seen: Silhouette, mask: NDArray[np.bool_], body: Body) -> NDArray[np.bool_]:
    """[h, w] pixels of the body in parts of which the mask covers next to nothing."""
    face = seen.buffer.face
    part = np.where(seen.covered, body.face_part.numpy()[np.maximum(face, 0)], len(PARTS))
    pixels = np.bincount(part.ravel(), minlength=len(PARTS) + 1)
    held = np.bincount(part.ravel(), mask.ravel(), len(PARTS) + 1)
    hidden = (pixels >= _LEAST_PIXELS) & (held < _HIDDEN * pixels)
    hidden[len(PARTS)] = False
    where: NDArray[np.bool_] = hidden[part]
    return where


def _reach(covered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The silhouette widened by what clothes and hair may add."""
    ys, xs = np.nonzero(covered)
    width = 2 * max(2, round(_REACH * max(np.ptp(ys), np.ptp(xs)))) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    wide: NDArray[np.bool_] = cv2.dilate(covered.astype(np.uint8), kernel) > 0
    return wide
