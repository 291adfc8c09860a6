"""Is the tracked figure found again by somebody who has not been told where it is?

A tracker that has once taken a wheel for a person holds on to it, steadily. A detector that sees a
single mirrored frame, cut out around the track, does not repeat the mistake: to the model a human
body is its own mirror image, an accident of texture is not. Of several people in the cut-out the
one nearest to the track is looked at.
"""

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.figures import torso
from avatarmill.pipeline.sight import MediaPipeSight
from avatarmill.pipeline.steadiness import body_size
from avatarmill.pipeline.types import Float, Track

_POINTS = np.array([0, 11, 12, 13, 14, 23, 24, 25, 26])
"""Nose, shoulders, elbows, hips, knees."""
_SWAPPED = np.array([0, 12, 11, 14, 13, 24, 23, 26, 25])
_MAX_DISTANCE = 0.3
"""Mean distance of these points from the track's, in body sizes, of a look that agrees."""


def confirmed_share(
    sight: MediaPipeSight, track: Track, *, looks: int, width: int, height: int
) -> float:
    """Share of `looks` frames, spread over the track, in which a fresh mirrored look agrees.

    `sight` is open on the shot, whose frames are [height, width]. Raises ChildFailure.
    """
    count = min(looks, len(track.frame_indices))
    rows = np.unique(np.linspace(0, len(track.frame_indices) - 1, count).astype(int))
    body = track.landmarks.body[rows]
    boxes = wide_boxes(track.boxes[rows], width, height)
    look = sight.second_look(track.frame_indices[rows], boxes, torso(body))
    return float((look_distance(body, look) < _MAX_DISTANCE).mean())


def look_distance(body: Float, look: Float) -> NDArray[np.float32]:
    """[L] distance of looks [L, 33, 2] from bodies [L, 33, 4], in body sizes; inf if none is found.

    Left and right may be exchanged: which is which is a guess for a figure seen from behind.
    """
    truth = body[:, _POINTS, :2]
    size = body_size(body)
    distances = [
        np.linalg.norm(look[:, points] - truth, axis=-1).mean(1) / size
        for points in (_POINTS, _SWAPPED)
    ]
    nearest: NDArray[np.float32] = np.minimum(*distances)
    return np.where(np.isfinite(nearest), nearest, np.inf).astype(np.float32)


def wide_boxes(boxes: Float, width: int, height: int) -> NDArray[np.int64]:
    """[L, 4] boxes with half their longer side added all around, inside the image."""
    margin = 0.5 * np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])[:, None]
    wide = boxes + margin * np.array([-1, -1, 1, 1], np.float32)
    limit = np.array([width, height, width, height])
    inside: NDArray[np.int64] = np.clip(np.rint(wide), 0, limit).astype(np.int64)
    return inside
