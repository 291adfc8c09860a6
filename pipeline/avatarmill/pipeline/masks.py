"""Masks at image resolution: MediaPipe's soft mask, corrected by colour, skeleton and edges.

The raw mask is right in most places and unsure in some: there the colours of the person and of the
background, counted where the mask is sure, and the limbs between visible landmarks decide. A guided
filter then lays the border on the image's own edges, which keeps hair and skirts.
"""

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from avatarmill.pipeline.guided import guided_filter
from avatarmill.pipeline.mask_config import MaskConfig
from avatarmill.pipeline.sam2_masks import Sam2Segmenter
from avatarmill.pipeline.types import Bytes, Float, Frames, Reject, Track


class Segmenter(Protocol):
    """Anything that gives the mask of a tracked person."""

    def segment(self, frames: Frames, track: Track, raw: Bytes) -> Bytes | Reject:
        """[T, H, W] 0..255 over the frames of the track; `raw` [T, H, W] is MediaPipe's mask."""

    def close(self) -> None:
        """Ends what the segmenter holds."""


class RefinedSegmenter:
    """MediaPipe's mask refined at image resolution; the default."""

    def __init__(self, config: MaskConfig) -> None:
        self._config = config

    def segment(self, frames: Frames, track: Track, raw: Bytes) -> Bytes:
        """[T, H, W] 0..255; see the module."""
        return refine_masks(frames, track, raw, self._config)

    def close(self) -> None:
        """Nothing is held."""


def create_segmenter(config: MaskConfig) -> Segmenter:
    """`sam2` when a checkpoint is configured, the refined MediaPipe mask otherwise."""
    return RefinedSegmenter(config) if config.sam2_checkpoint is None else Sam2Segmenter(config)


def refine_masks(frames: Frames, track: Track, raw: Bytes, config: MaskConfig) -> Bytes:
    """Refines raw masks [T, H, W] 0..255 of a track to soft masks that follow the image's edges.

    Only the surroundings of the track's box are looked at; outside them the mask is 0.
    """
    cv2.setNumThreads(1)
    images = frames.images[track.frame_indices]
    windows = [_window(box, raw.shape[1:]) for box in track.boxes]
    ratio = _colour_ratio(images, raw, windows)
    refined = np.zeros_like(raw)
    for row, (y, x) in enumerate(windows):
        body = track.landmarks.body[row] - np.array([x.start, y.start, 0, 0], np.float32)
        soft = _refine_one(images[row, y, x], raw[row, y, x], body, ratio, config)
        refined[row, y, x] = np.rint(soft * 255)
    return refined


_MARGIN = 0.08
_BINS = 32
_SURE = 0.9
_COLOUR_FRAMES = 12
_COLOUR_LIMIT = 2.0
_BONES = (
    (11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (11, 23), (12, 24), (23, 24),
    (23, 25), (25, 27), (24, 26), (26, 28), (27, 31), (28, 32), (15, 19), (16, 20),
)  # fmt: skip


def _window(box: Float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a box with a margin, inside the image."""
    margin = _MARGIN * max(box[2] - box[0], box[3] - box[1])
    x0, y0 = (max(0, int(v - margin)) for v in box[:2])
    x1, y1 = int(box[2] + margin) + 1, int(box[3] + margin) + 1
    return slice(y0, min(shape[0], max(y1, y0 + 1))), slice(x0, min(shape[1], max(x1, x0 + 1)))


def _colour_ratio(images: Bytes, raw: Bytes, windows: list[tuple[slice, slice]]) -> Float:
    """[32, 32, 32] log ratio of colour frequencies, person over background, over the track."""
    person = np.zeros(_BINS**3, np.float64)
    background = np.zeros(_BINS**3, np.float64)
    rows = np.unique(np.linspace(0, len(images) - 1, _COLOUR_FRAMES).astype(int))
    for row in rows:
        y, x = windows[row]
        bins, mask = _bins(images[row, y, x]), raw[row, y, x]
        person += np.bincount(bins[mask > _SURE * 255], minlength=_BINS**3)
        background += np.bincount(bins[mask < (1 - _SURE) * 255], minlength=_BINS**3)
    smooth = [
        gaussian_filter(c.reshape(_BINS, _BINS, _BINS) / max(c.sum(), 1), 1.0)
        for c in (person, background)
    ]
    floor = 1e-6
    ratio = np.log((smooth[0] + floor) / (smooth[1] + floor))
    limited: Float = np.clip(ratio, -_COLOUR_LIMIT, _COLOUR_LIMIT).astype(np.float32)
    return limited


def _bins(image: Bytes) -> NDArray[np.int64]:
    """[H, W] colour bin of every pixel."""
    coarse = (image >> 3).astype(np.int64)
    return (coarse[..., 0] * _BINS + coarse[..., 1]) * _BINS + coarse[..., 2]


def _refine_one(image: Bytes, raw: Bytes, body: Float, ratio: Float, config: MaskConfig) -> Float:
    """Soft mask [h, w] 0..1 of one window; `body` [33, 4] in the window's pixels."""
    probability = np.clip(raw.astype(np.float32) / 255, 0.02, 0.98)
    logit = np.log(probability / (1 - probability))
    unsure = np.clip(1 - np.abs(logit) / 3, 0, 1)
    logit += config.colour_weight * unsure * ratio.reshape(-1)[_bins(image)]
    side = max(image.shape[:2])
    logit += config.limb_weight * _limbs(body, image.shape[:2], max(1, round(0.012 * side)))
    posterior: Float = (1 / (1 + np.exp(-2 * logit))).astype(np.float32)
    edges = guided_filter(
        (image / np.float32(255)).astype(np.float32),
        posterior,
        radius=max(2, round(config.edge_radius * side)),
        epsilon=config.edge_epsilon,
        subsample=2 if side > 400 else 1,
    )
    # The filter flattens the ramp at the border: give it back its slope.
    soft: Float = np.clip((edges - 0.5) * 1.6 + 0.5, 0, 1)
    return soft * _person_parts(soft, body)


def _limbs(body: Float, shape: tuple[int, ...], thickness: int) -> Float:
    """[h, w] 1 on the bones between visible landmarks."""
    canvas = np.zeros(shape, np.float32)
    for a, b in _BONES:
        if min(body[a, 3], body[b, 3]) > 0.7:
            ends = [tuple(int(v) for v in np.clip(body[i, :2], -1e4, 1e4)) for i in (a, b)]
            cv2.line(canvas, ends[0], ends[1], 1.0, thickness)
    return canvas


def _person_parts(soft: Float, body: Float) -> Float:
    """[h, w] 1 on the connected parts that hold a visible landmark or much of the area."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((soft > 0.5).astype(np.uint8))
    if count <= 2:
        return np.ones_like(soft)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[0] = 0
    keep = areas > 0.1 * areas.max()
    points = body[body[:, 3] > 0.5, :2].astype(int)
    inside = ((points >= 0) & (points < soft.shape[::-1])).all(1)
    keep[np.unique(labels[points[inside, 1], points[inside, 0]])] = True
    keep[0] = False
    # Soft borders lie outside the thresholded parts: keep what is near a kept part.
    near: Float = cv2.dilate(keep[labels].astype(np.uint8), np.ones((7, 7), np.uint8))
    return near.astype(np.float32)
