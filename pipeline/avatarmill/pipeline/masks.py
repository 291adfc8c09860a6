"""Masks at image resolution: MediaPipe's soft mask gives the person, colours and edges the border.

The raw mask comes from 256 pixels a side. In a narrow band around its border, and wherever it is
unsure, every pixel is judged anew: by the raw mask, by the colours of person and background nearby
and over the whole track, and by the bones between visible landmarks. A random walker then moves the
border to the image's own edges. Burnt-in text hides colours, so there the raw mask decides.
"""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from avatarmill.pipeline.guided import guided_filter
from avatarmill.pipeline.mask_border import Flags, local_ratio, walk_to_edges
from avatarmill.pipeline.mask_config import MaskConfig
from avatarmill.pipeline.mask_evidence import (
    Window,
    bars,
    bins,
    colour_ratio,
    lettering,
    limbs,
    person_parts,
)
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


_MARGIN = 0.08
_COARSE = 4
_SURE = 0.95
_CLEAR = 0.9
_NEAREST_KNOWN = 0.6
"""Depth, in widths of the border, from which a pixel's colour counts as the person's."""
_REACH = 0.055
"""How far colours nearby reach, of the person's longer side."""
_STRIDE = 1 / 128
_DENOISE = 0.7
_FILL = 0.015
_SLOPE = 1.8
_EDGE_RADIUS = 0.008
_EDGE_EPSILON = 2e-4


@dataclass(frozen=True, slots=True)
class _View:
    """One frame's surroundings of the person, at the working size."""

    image: Bytes
    """[h, w, 3]."""
    opacity: Float
    """[h, w] raw, 0..1."""
    body: Float
    """[33, 4] in its pixels."""
    hands: tuple[Float, Float]
    """[21, 3] each."""
    silent: Flags
    """[h, w] where colours say nothing: letters."""
    outside: Flags
    """[h, w] where nobody is: bars."""


def refine_masks(frames: Frames, track: Track, raw: Bytes, config: MaskConfig) -> Bytes:
    """Refines raw masks [T, H, W] 0..255 of a track to soft masks that follow the image's edges.

    Only the surroundings of the track's box are looked at; outside them the mask is 0.
    """
    cv2.setNumThreads(1)
    images = frames.images[track.frame_indices]
    # Three times as fast as `max(-1)`.
    bright = np.maximum(np.maximum(images[..., 0], images[..., 1]), images[..., 2])
    windows = [_window(box, mask) for box, mask in zip(track.boxes, raw, strict=True)]
    colours, flat = colour_ratio(images, raw, windows), bars(bright)
    refined = np.zeros_like(raw)
    for row, window in enumerate(windows):
        image = images[row][window]
        hidden = (lettering(bright, row, window), flat[window])
        view = _view(image, raw[row][window], track, row, window, hidden, config.working_side)
        soft = _at_full_size(image, _refine(view, colours, config))
        refined[row][window] = np.where(flat[window], 0, np.rint(soft * 255))
    return refined


def _window(box: Float, raw: Bytes) -> Window:
    """Rows and columns around a box and the parts of the raw mask that reach into it.

    Boxes end near the landmarks, and in a portrait those end at the shoulders.
    """
    coarse = cv2.resize(raw, None, fx=1 / _COARSE, fy=1 / _COARSE, interpolation=cv2.INTER_AREA)
    x0, y0, x1, y1 = (max(0, int(v)) // _COARSE for v in box)
    labels, stats = cv2.connectedComponentsWithStats((coarse > 127).astype(np.uint8))[1:3]
    touched = np.unique(labels[y0 : y1 + 1, x0 : x1 + 1])
    low, high = box[:2], box[2:]
    for left, top, width, height, _ in stats[touched[touched > 0]] * _COARSE:
        low = np.minimum(low, (left, top))
        high = np.maximum(high, (left + width, top + height))
    margin = _MARGIN * (box[2:] - box[:2]).max()
    x0, y0 = np.maximum(low - margin, 0).astype(int)
    x1, y1 = (high + margin).astype(int) + 1
    rows = slice(y0, min(raw.shape[0], max(y1, y0 + 1)))
    return rows, slice(x0, min(raw.shape[1], max(x1, x0 + 1)))


def _view(
    image: Bytes,
    raw: Bytes,
    track: Track,
    row: int,
    window: Window,
    hidden: tuple[Flags, Flags],
    side: int,
) -> _View:
    """A window [H, W] of a row of the track, with a longer side of at most `side` pixels."""
    height, width = raw.shape
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    corner = np.array([window[1].start, window[0].start], np.float32)
    landmarks = track.landmarks
    points = [landmarks.body[row], landmarks.left_hand[row], landmarks.right_hand[row]]
    body, left, right = (np.hstack([(p[:, :2] - corner) * scale, p[:, 2:]]) for p in points)
    silent, outside = (
        cv2.resize(flags.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        for flags in hidden
    )
    opacity = cv2.resize(raw, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return _View(small, opacity, body, (left, right), silent, outside)


def _refine(view: _View, colours: Float, config: MaskConfig) -> Float:
    """Opacity [h, w] 0..1 of a view; `colours` is the ratio over the track."""
    side = max(view.opacity.shape)
    width = max(3.0, config.border_width * side)
    inside = view.opacity > 0.5
    depth, away = (
        cv2.distanceTransform(flags.astype(np.uint8), cv2.DIST_L2, 3) for flags in (inside, ~inside)
    )
    person = (depth > width) & (view.opacity > _SURE)
    background = ((away > width) & (view.opacity < 1 - _SURE)) | view.outside
    unsure = ~(person | background)
    known = ~(view.silent | view.outside)
    near = _NEAREST_KNOWN * width
    lab = _lab(view.image)
    ratio = config.local_colour_weight * local_ratio(
        lab,
        (depth > near) & (view.opacity > _CLEAR) & known,
        (away > near) & (view.opacity < 1 - _CLEAR) & known,
        unsure & known,
        reach=max(8, round(_REACH * side)),
        stride=max(2, round(_STRIDE * side)),
    )
    ratio += config.colour_weight * np.where(known, colours[bins(view.image)], 0)
    raw = np.clip(view.opacity, 0.03, 0.97)
    logit = np.log(raw / (1 - raw)) + ratio
    logit += config.limb_weight * limbs(view.body, view.hands, raw.shape)
    opacity = np.where(person, 1, np.where(background, 0, 1 / (1 + np.exp(-logit))))
    # Edges of letters are no borders of the person, and what is behind them goes on at both sides.
    lab = _without(lab, view.silent, side)
    soft = walk_to_edges(lab, opacity.astype(np.float32), unsure)
    # The walk flattens the ramp at the border: give it back its slope.
    steep: Float = np.clip((soft - 0.5) * _SLOPE + 0.5, 0, 1)
    return steep * person_parts(steep, view.body)


def _lab(image: Bytes) -> Float:
    """[h, w, 3] CIELAB, slightly smoothed against noise."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    lab[..., 0] *= 100 / 255
    smooth: Float = cv2.GaussianBlur(lab, (0, 0), _DENOISE)
    return smooth


def _without(lab: Float, letters: Flags, side: int) -> Float:
    """The picture [h, w, 3] with letters painted over by the mean of what is around them."""
    if not letters.any():
        return lab
    size = (2 * max(2, round(_FILL * side)) + 1,) * 2
    known = (~letters).astype(np.float32)
    mean = cv2.blur(lab * known[..., None], size) / (cv2.blur(known, size)[..., None] + 1e-3)
    painted: Float = np.where(letters[..., None], mean, lab)
    return painted


def _at_full_size(image: Bytes, soft: Float) -> Float:
    """Opacity at the size of the image [H, W, 3], laid on its edges when it comes from less."""
    height, width = image.shape[:2]
    if soft.shape == (height, width):
        return soft
    large = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    edges = guided_filter(
        (image / np.float32(255)).astype(np.float32),
        large,
        radius=max(2, round(_EDGE_RADIUS * max(height, width))),
        epsilon=_EDGE_EPSILON,
        subsample=2,
    )
    # Away from the border the filter could only add noise.
    border = cv2.dilate(((large > 0.02) & (large < 0.98)).astype(np.uint8), np.ones((5, 5)))
    mixed: Float = np.where(border > 0, np.clip(edges, 0, 1), large)
    return mixed
