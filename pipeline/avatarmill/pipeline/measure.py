"""Measures the frames of a fitted track: the picture, the mask and the body against each other."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import Body
from avatarmill.avatar.rotations import axis_angle_to_matrix
from avatarmill.pipeline.fit_scores import fit_agreement
from avatarmill.pipeline.frame_scores import Array, FrameScores
from avatarmill.pipeline.lettering import lettering_mask
from avatarmill.pipeline.overlay import fit_params, fit_vertices, silhouette
from avatarmill.pipeline.picture_scores import brightness, clipped_share, sharpness
from avatarmill.pipeline.types import Bytes, Fit, Frames, Track

_BODY_JOINTS = 22
_FACE_JOINT = 22
_SILHOUETTE_SIDE = 256
_VISIBLE = 0.5
"""Visibility of a landmark below which it says nothing about motion and mask."""


def measure(
    frames: Frames, track: Track, masks: Bytes, fit: Fit, body: Body, rows: NDArray[np.int64]
) -> FrameScores:
    """Measure some frames of a track.

    Args:
        frames: of the shot.
        track: T rows.
        masks: [T, H, W] 0..255.
        fit: of the track.
        body: whose silhouette masks are held against.
        rows: [n] of the track, rising.
    """
    texts = _lasting([lettering_mask(frames.images[track.frame_indices[row]]) for row in rows])
    pictures = [
        _picture(frames, track, masks, fit, body, int(row), text)
        for row, text in zip(rows, texts, strict=True)
    ]
    columns = np.array(pictures).reshape(len(rows), 9).T
    extent = columns[0]
    return FrameScores(
        rows=rows,
        pts_seconds=frames.pts_seconds[track.frame_indices[rows]],
        extent=extent,
        sharpness=columns[1],
        brightness=columns[2],
        clipped=columns[3],
        inside=columns[4],
        agreement=columns[5],
        spill=columns[6],
        occluded=columns[7],
        landmarks=np.array([_landmarks_held(track, masks[row], int(row)) for row in rows]),
        residual=fit.residual_px[rows] / extent.clip(1),
        confidence=fit.confidence[rows, :_BODY_JOINTS].mean(-1).astype(np.float64),
        face=fit.confidence[rows, _FACE_JOINT].astype(np.float64),
        lettering=columns[8],
        motion=_motion(frames, track)[rows] / extent.clip(1),
        looks=_looks(fit, rows),
    )


def _picture(
    frames: Frames,
    track: Track,
    masks: Bytes,
    fit: Fit,
    body: Body,
    row: int,
    text: NDArray[np.bool_],
) -> tuple[float, ...]:
    """The scores that need the pixels of one frame, in the order `measure` reads them."""
    image, mask = frames.images[track.frame_indices[row]], masks[row]
    box = mask_box(mask)
    vertices = fit_vertices(body, fit, [row])[0]
    height, width = mask.shape
    seen = silhouette(
        body, vertices, fit.intrinsics, width=width, height=height, side=_SILHOUETTE_SIDE
    )
    small = cv2.resize(mask, seen.covered.shape[::-1], interpolation=cv2.INTER_AREA) > 127
    agreement = fit_agreement(seen, small, vertices, fit.intrinsics, (width, height), body)
    size = seen.covered.shape[::-1]
    written = cv2.resize(text.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    person = seen.covered | small
    return (
        float(max(box[2] - box[0], box[3] - box[1])),
        sharpness(image, box),
        brightness(image, box),
        clipped_share(image, mask),
        agreement.inside,
        agreement.covered,
        agreement.spill,
        agreement.hidden,
        float((person & written).sum() / max(person.sum(), 1)),
    )


def _lasting(texts: list[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
    """Text that is in the frame before or after as well: burnt-in text stays, cloth moves on."""
    if len(texts) < 2:
        return texts
    before, after = [texts[1], *texts[:-1]], [*texts[1:], texts[-2]]
    return [
        text & (first | second) for text, first, second in zip(texts, before, after, strict=True)
    ]


def mask_box(mask: Bytes) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask [H, W], zeros where it is empty."""
    ys, xs = np.nonzero(mask > 127)
    if not len(xs):
        return 0, 0, 0, 0
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def _landmarks_held(track: Track, mask: Bytes, row: int) -> float:
    """Share of the visible landmarks inside the image on the mask or beside it; 1 if none is."""
    points = track.landmarks.body[row]
    height, width = mask.shape
    known = points[np.isfinite(points[:, 0]) & (points[:, 3] > _VISIBLE)]
    places = np.floor(known[:, :2]).astype(np.int64)
    within = ((places >= 0) & (places < (width, height))).all(-1)
    if not within.any():
        return 1.0
    near = max(3, round(0.03 * max(height, width)))
    wide = cv2.dilate(mask, np.ones((near, near), np.uint8)) > 127
    return float(wide[places[within, 1], places[within, 0]].mean())


def _motion(frames: Frames, track: Track) -> Array:
    """[T] pixels a second of the median visible landmark, against the frames around."""
    times = frames.pts_seconds[track.frame_indices]
    points = track.landmarks.body[:, :, :2].astype(np.float64)
    points[track.landmarks.body[:, :, 3] <= _VISIBLE] = np.nan
    if len(points) < 2:
        return np.zeros(len(points))
    moved = np.linalg.norm(np.diff(points, axis=0), axis=-1)
    known = np.isfinite(moved).any(-1)
    speed = np.zeros(len(moved))
    speed[known] = np.nanmedian(moved[known], axis=-1) / np.diff(times)[known].clip(1e-3)
    motion: Array = np.maximum(np.append(speed, 0), np.insert(speed, 0, 0))
    return motion


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
