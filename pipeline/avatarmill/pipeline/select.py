"""Which frames of a track become the clip: sharp, well seen, and different from each other."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import Body
from avatarmill.avatar.rotations import axis_angle_to_matrix
from avatarmill.pipeline.overlay import fit_params, fit_vertices, silhouette
from avatarmill.pipeline.types import Bytes, Fit, Float, Frames, Reason, Reject, Selection, Track

_BODY_JOINTS = 22
_SHARPNESS_SIDE = 192
"""Side the person's box is shrunk to before blur is measured, so that size does not count."""
_SILHOUETTE_SIDE = 256

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SelectConfig:
    """How many frames a clip has and what each must satisfy."""

    num_references: int = 4
    num_targets: int = 2
    crop_size: int = 512
    candidates: int = 40
    """Frames looked at, evenly spread over the track."""
    min_person_px: int = 96
    """Smallest median extent of the person's mask, pixels of the decoded frame."""
    min_sharpness: float = 0.01
    """Energy of fine detail over that of the picture, of the median frame."""
    min_mask_agreement: float = 0.7
    """Fraction of the fitted body inside the image that the mask must cover, median frame."""
    max_residual: float = 0.1
    """Reprojection error of a frame as a fraction of the person's extent."""

    def __post_init__(self) -> None:
        limits = {"num_references": 1, "num_targets": 0, "crop_size": 16, "min_person_px": 1}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} must be at least {least}")
        if self.candidates < self.num_frames:
            raise ValueError(
                f"candidates {self.candidates} must cover the {self.num_frames} frames of a clip"
            )

    @property
    def num_frames(self) -> int:
        """References and targets together."""
        return self.num_references + self.num_targets


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured on n candidate frames."""

    rows: NDArray[np.int64]
    """[n] rows of the track."""
    extent: Array
    """[n] longer side of the mask's box, pixels."""
    sharpness: Array
    """[n] see `sharpness`."""
    agreement: Array
    """[n] fraction of the body inside the image that the mask covers."""
    residual: Array
    """[n] reprojection error over extent."""
    confidence: Array
    """[n] mean over the body joints."""
    looks: Array
    """[n, D] view and pose, in which frames should differ."""

    def take(self, keep: NDArray[np.bool_]) -> "Measures":
        """The candidates where `keep` [n] is true."""
        return Measures(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def select(
    frames: Frames,
    track: Track,
    masks: Bytes,
    fit: Fit,
    body: Body,
    config: SelectConfig | None = None,
) -> Selection | Reject:
    """Choose reference and held-out target frames of a track.

    Frames are picked one by one, each as far as possible in view and pose from those already
    taken, weighted by its quality; targets come after the references in the same way.

    Args:
        frames: of the shot.
        track: T rows.
        masks: [T, H, W] 0..255.
        fit: of the track.
        body: for the silhouette the mask is compared with.
        config: defaults when None.

    Returns:
        Rows of the track, or why it has no clip.
    """
    config = config or SelectConfig()
    count = len(track.frame_indices)
    if count < config.num_frames:
        return _reject(
            Reason.TRACK_TOO_SHORT, f"{count} frames < {config.num_frames}", frames, track
        )
    rows = np.unique(np.linspace(0, count - 1, min(count, config.candidates)).round().astype(int))
    measures = measure(frames, track, masks, fit, body, rows)
    refusal = _refusal(measures, config)
    if refusal is not None:
        return _reject(*refusal, frames, track)
    usable = measures.take(_usable(measures, config))
    if len(usable.rows) < config.num_frames:
        evidence = f"{len(usable.rows)} of {len(rows)} frames usable < {config.num_frames}"
        return _reject(Reason.TRACK_TOO_SHORT, evidence, frames, track)
    picked = pick_diverse(usable.looks, _quality(usable), config.num_frames)
    chosen = [int(usable.rows[index]) for index in picked]
    return Selection(
        references=tuple(chosen[: config.num_references]),
        targets=tuple(chosen[config.num_references :]),
        scores=_scores(usable, picked),
    )


def measure(
    frames: Frames,
    track: Track,
    masks: Bytes,
    fit: Fit,
    body: Body,
    rows: NDArray[np.int64],
) -> Measures:
    """Measure candidate rows [n] of a track."""
    vertices = fit_vertices(body, fit, list(rows))
    boxes = [_mask_box(masks[row]) for row in rows]
    extent = np.array([max(box[2] - box[0], box[3] - box[1]) for box in boxes], np.float64)
    return Measures(
        rows=rows,
        extent=extent,
        sharpness=np.array(
            [
                sharpness(frames.images[track.frame_indices[row]], box)
                for row, box in zip(rows, boxes, strict=True)
            ]
        ),
        agreement=np.array(
            [
                mask_agreement(masks[row], mesh, fit.intrinsics, body)
                for row, mesh in zip(rows, vertices, strict=True)
            ]
        ),
        residual=fit.residual_px[rows] / extent.clip(1),
        confidence=fit.confidence[rows, :_BODY_JOINTS].mean(-1).astype(np.float64),
        looks=_looks(fit, rows),
    )


def sharpness(image: Bytes, box: tuple[int, int, int, int]) -> float:
    """Energy of the Laplacian over the variance of the picture, inside a box x0, y0, x1, y1.

    The box is shrunk (never enlarged) to a common size first. 0 where the box is empty.
    """
    x0, y0, x1, y1 = box
    part = image[y0:y1, x0:x1]
    if min(part.shape[:2]) < 8:
        return 0.0
    grey = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = _SHARPNESS_SIDE / max(grey.shape)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var() / (grey.var() + 25.0))


def mask_agreement(mask: Bytes, vertices: Float, intrinsics: Float, body: Body) -> float:
    """Fraction of the fitted body inside the image that the mask [H, W] covers.

    Clothes and hair reach beyond the body, so the other direction says little. 0 where the
    body lies outside the image.
    """
    height, width = mask.shape
    seen = silhouette(
        body, vertices, intrinsics, width=width, height=height, side=_SILHOUETTE_SIDE
    ).covered
    size = (seen.shape[1], seen.shape[0])
    small = cv2.resize(mask, size, interpolation=cv2.INTER_AREA) > 127
    return float((small & seen).sum() / seen.sum()) if seen.any() else 0.0


def pick_diverse(looks: Array, quality: Array, count: int) -> list[int]:
    """Indices of `count` frames: the best first, then farthest-point picks weighted by quality.

    Args:
        looks: [n, D] points whose distance is how different two frames are.
        quality: [n] above 0.
        count: at most n.
    """
    picked = [int(quality.argmax())]
    distance = np.linalg.norm(looks - looks[picked[0]], axis=-1)
    while len(picked) < count:
        # A little distance for all, so that equal frames are still picked by quality.
        score = quality * (distance + 1e-3)
        score[picked] = -1
        picked.append(int(score.argmax()))
        distance = np.minimum(distance, np.linalg.norm(looks - looks[picked[-1]], axis=-1))
    return picked


def _looks(fit: Fit, rows: NDArray[np.int64]) -> Array:
    """[n, D]: facing direction of body and head, and limb directions in the body's frame."""
    params = fit_params(fit, list(rows))
    turns = axis_angle_to_matrix(params.pose[:, :_BODY_JOINTS])
    facing = turns[:, 0, :, 2]
    head = (turns[:, 0] @ turns[:, 12] @ turns[:, 15])[:, :, 2]
    # Limbs weigh less than the view: a new side of the person tells more than a raised hand.
    limbs = 0.25 * turns[:, [1, 2, 4, 5, 16, 17, 18, 19]].flatten(1)
    features: Array = torch.cat((facing, 0.5 * head, limbs), dim=-1).double().numpy()
    return features


def _quality(measures: Measures) -> Array:
    """[n] above 0: relative sharpness, confidence, agreement and residual multiplied."""
    sharp = measures.sharpness / np.median(measures.sharpness).clip(1e-6)
    quality: Array = (
        np.clip(sharp, 0.2, 1.5)
        * (0.1 + measures.confidence)
        * (0.1 + measures.agreement)
        / (1 + 20 * measures.residual)
    )
    return quality


def _usable(measures: Measures, config: SelectConfig) -> NDArray[np.bool_]:
    """[n] frames good enough on their own, judged against the track's median for blur."""
    sharp = measures.sharpness >= 0.4 * np.median(measures.sharpness)
    agrees = measures.agreement >= 0.8 * config.min_mask_agreement
    usable: NDArray[np.bool_] = sharp & agrees & (measures.residual <= config.max_residual)
    return usable


def _refusal(measures: Measures, config: SelectConfig) -> tuple[Reason, str] | None:
    """Why the whole track is refused, or None."""
    extent = float(np.median(measures.extent))
    if extent < config.min_person_px:
        return Reason.PERSON_TOO_SMALL, f"extent {extent:.0f} px < {config.min_person_px} px"
    agreement = float(np.median(measures.agreement))
    if agreement < config.min_mask_agreement:
        evidence = f"mask covers {agreement:.2f} of the body < {config.min_mask_agreement}"
        return Reason.MASK_DISAGREES, evidence
    sharp = float(np.median(measures.sharpness))
    if sharp < config.min_sharpness:
        return Reason.BLURRED, f"sharpness {sharp:.4f} < {config.min_sharpness}"
    return None


def _scores(measures: Measures, picked: list[int]) -> dict[str, float]:
    """Medians over the chosen frames."""
    names = ("extent", "sharpness", "agreement", "residual", "confidence")
    scores = {name: float(np.median(getattr(measures, name)[picked])) for name in names}
    spread = measures.looks[picked][:, :3]
    scores["view_spread"] = float(np.linalg.norm(spread[:, None] - spread[None], axis=-1).max())
    return {name: round(value, 4) for name, value in scores.items()}


def _mask_box(mask: Bytes) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask [H, W], zeros where it is empty."""
    ys, xs = np.nonzero(mask > 127)
    if not len(xs):
        return 0, 0, 0, 0
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def _reject(reason: Reason, evidence: str, frames: Frames, track: Track) -> Reject:
    times = frames.pts_seconds[track.frame_indices]
    return Reject(reason, evidence, "select", float(times[0]), float(times[-1]))
