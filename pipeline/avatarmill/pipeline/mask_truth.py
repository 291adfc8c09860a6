"""Masks held against the truth: overlap, boundaries and softness."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.types import Bytes

TOLERANCE_PX = 2.0
"""How far a boundary may lie from the true one, pixels."""
_BAND_PX = 6.0
"""Half the width of the band around the true boundary in which softness is judged."""


@dataclass(frozen=True, slots=True)
class MaskScore:
    """Of one mask."""

    iou: float
    """Intersection over union at half opacity."""
    boundary: float
    """F-measure of the boundary, see `boundary_f`."""
    alpha_error: float
    """Mean absolute difference of opacity, 0..1, within 6 pixels of the true boundary."""


def score_mask(truth: Bytes, found: Bytes, region: NDArray[np.bool_] | None = None) -> MaskScore:
    """Scores of a mask [H, W] 0..255 against the true one, in a region [H, W] of the picture.

    Empty unions and boundaries count as full agreement.
    """
    everywhere = np.ones(truth.shape, np.bool_) if region is None else region
    true, own = truth > 127, found > 127
    union = ((true | own) & everywhere).sum()
    edge = boundary(truth)
    far = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    band = (far <= _BAND_PX) & everywhere
    error = np.abs(truth[band].astype(np.float32) - found[band]) / 255
    return MaskScore(
        iou=float((true & own & everywhere).sum() / union) if union else 1.0,
        boundary=boundary_f(truth, found, region=everywhere),
        alpha_error=float(error.mean()) if band.any() else 0.0,
    )


def boundary_f(
    truth: Bytes,
    found: Bytes,
    *,
    tolerance: float = TOLERANCE_PX,
    region: NDArray[np.bool_] | None = None,
) -> float:
    """F-measure of the boundaries of two masks [H, W] 0..255, 0..1.

    Precision is the share of found boundary pixels within `tolerance` pixels of the true boundary,
    recall the share of true ones within as much of the found boundary. Perazzi et al.: A Benchmark
    Dataset and Evaluation Methodology for Video Object Segmentation (2016), section 4.
    """
    edges = [boundary(truth), boundary(found)]
    away = [
        cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        if edge.any()
        else np.full(edge.shape, np.inf)
        for edge in edges
    ]
    if region is not None:
        edges = [edge & region for edge in edges]
    if not edges[0].any() or not edges[1].any():
        return float(edges[0].any() == edges[1].any())
    recall = float((away[1][edges[0]] <= tolerance).mean())
    precision = float((away[0][edges[1]] <= tolerance).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Bytes) -> NDArray[np.bool_]:
    """[H, W] pixels of a mask beside a pixel outside it; the picture's border is no boundary."""
    inside = (mask > 127).astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    eroded = cv2.erode(inside, cross, borderType=cv2.BORDER_REPLICATE)
    edge: NDArray[np.bool_] = inside > eroded
    return edge
