"""Boxes around a tracked person, from landmarks and raw mask."""

import numpy as np

from avatarmill.pipeline.types import Bytes, Float, Landmarks

_VISIBLE = 0.3
_LANDMARK_MARGIN = 0.08
"""Flesh, hair and shoes around the outermost landmarks, of the landmark box's longer side."""
_MASK_MARGIN = 0.3
"""How far the mask may push the box beyond the landmarks: skirts and hair, not a second person."""


def track_boxes(landmarks: Landmarks, masks: Bytes) -> Float:
    """[T, 4] x0, y0, x1, y1 in pixels, inside the image, of landmarks and `masks` [T, H, W]."""
    height, width = masks.shape[1:]
    limit = np.array([width, height, width, height], np.float32)
    boxes = np.empty((len(masks), 4), np.float32)
    for row, mask in enumerate(masks):
        inner = _landmark_box(landmarks, row, width, height)
        side = max(inner[2] - inner[0], inner[3] - inner[1])
        near = np.array([-1, -1, 1, 1], np.float32) * side
        box, outer = inner + _LANDMARK_MARGIN * near, inner + _MASK_MARGIN * near
        seen = _mask_box(mask, np.clip(outer, 0, limit))
        if seen is not None:
            box = np.concatenate([np.minimum(box[:2], seen[:2]), np.maximum(box[2:], seen[2:])])
        boxes[row] = np.clip(box, 0, limit)
    return boxes


def _landmark_box(landmarks: Landmarks, row: int, width: int, height: int) -> Float:
    """Bounds of what is seen in the image; unseen limbs are guesses and do not count."""
    body = landmarks.body[row]
    points = [body[body[:, 3] > _VISIBLE, :2]]
    points += [p[row, :, :2] for p in (landmarks.face, landmarks.left_hand, landmarks.right_hand)]
    every = np.concatenate(points)
    every = every[np.isfinite(every).all(1)]
    every = np.clip(every, 0, (width, height))
    if len(every) == 0:
        return np.array([0, 0, width, height], np.float32)
    box: Float = np.concatenate([every.min(0), every.max(0)]).astype(np.float32)
    return box


def _mask_box(mask: Bytes, outer: Float) -> Float | None:
    """Bounds of the mask within `outer`, None when it is empty there."""
    x0, y0, x1, y1 = (int(v) for v in outer)
    window = mask[y0:y1, x0:x1] > 127
    if not window.any():
        return None
    columns, rows = np.flatnonzero(window.any(0)), np.flatnonzero(window.any(1))
    return np.array(
        [x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1], np.float32
    )
