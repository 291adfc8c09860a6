"""The child that holds MediaPipe: landmarks and raw masks of one shot per request.

Runs in the MediaPipe environment (`python -m avatarmill.pipeline.children.mediapipe_child`). It
never sees a file: frames arrive decoded. The graph is built anew for each request, so the result
depends on the shot alone and not on what came before it.
"""

from collections.abc import Iterable
from typing import Any

import mediapipe
import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.protocol import Message, serve

NUM_BODY, NUM_HAND, NUM_FACE = 33, 21, 478

_PARTS = (
    ("pose_landmarks", "body", NUM_BODY, 4),
    ("pose_world_landmarks", "body_world", NUM_BODY, 3),
    ("left_hand_landmarks", "left_hand", NUM_HAND, 3),
    ("right_hand_landmarks", "right_hand", NUM_HAND, 3),
    ("face_landmarks", "face", NUM_FACE, 3),
)

_SWAPS = ((1, 4), (2, 5), (3, 6), (7, 8), (9, 10), *((i, i + 1) for i in range(11, 33, 2)))
_MIRRORED = np.arange(NUM_BODY)
"""Row of the landmark that takes each landmark's place in a mirror."""
for _left, _right in _SWAPS:
    _MIRRORED[[_left, _right]] = _right, _left


def holistic(request: Message) -> Message:
    """Landmarks of the person MediaPipe follows through `images` [F, H, W, 3].

    Replies with `body` [F, 33, 4], `body_world` [F, 33, 3], `left_hand` and `right_hand`
    [F, 21, 3], `face` [F, 478, 3] (pixels, z in pixels of width; metres for `body_world`; NaN where
    a part was not found) and `masks` [F, H, W] uint8, the segmentation's 0..1 as 0..255.
    """
    images = request.arrays["images"]
    num_frames, height, width = images.shape[:3]
    arrays: dict[str, NDArray[Any]] = {
        name: np.full((num_frames, count, size), np.nan, np.float32)
        for _, name, count, size in _PARTS
    }
    masks = np.zeros((num_frames, height, width), np.uint8)
    pixels = np.array([width, height, width, 1], np.float32)
    with mediapipe.solutions.holistic.Holistic(
        static_image_mode=False,
        model_complexity=int(request.values["model_complexity"]),
        smooth_landmarks=True,
        enable_segmentation=True,
        smooth_segmentation=False,
        refine_face_landmarks=True,
        min_detection_confidence=float(request.values["detection_confidence"]),
        min_tracking_confidence=float(request.values["tracking_confidence"]),
    ) as model:
        for row, image in enumerate(images):
            found = model.process(image)
            for attribute, name, count, size in _PARTS:
                points = getattr(found, attribute)
                if points is not None:
                    scale = 1 if name == "body_world" else pixels[:size]
                    arrays[name][row] = _table(points.landmark, count, size) * scale
            if found.segmentation_mask is not None:
                masks[row] = np.rint(np.clip(found.segmentation_mask, 0, 1) * 255)
    return Message({}, {**arrays, "masks": masks})


def second_look(request: Message) -> Message:
    """The body found afresh in each mirrored image: no tracking, nothing known from other frames.

    `images` [L, H, W, 3] and `boxes` [L, 4] int64 (x0, y0, x1, y1). Replies with `body` [L, 33, 2]
    in pixels of the image, mirrored back, left and right exchanged back; NaN where none was found.
    """
    images, boxes = request.arrays["images"], request.arrays["boxes"]
    body = np.full((len(images), NUM_BODY, 2), np.nan, np.float32)
    with mediapipe.solutions.pose.Pose(
        static_image_mode=True,
        model_complexity=int(request.values["model_complexity"]),
        min_detection_confidence=float(request.values["detection_confidence"]),
    ) as model:
        for row, (image, (x0, y0, x1, y1)) in enumerate(zip(images, boxes, strict=True)):
            found = model.process(np.ascontiguousarray(image[y0:y1, x0:x1][:, ::-1]))
            if found.pose_landmarks is not None:
                points = _table(found.pose_landmarks.landmark, NUM_BODY, 2)[_MIRRORED]
                points[:, 0] = 1 - points[:, 0]
                body[row] = points * (x1 - x0, y1 - y0) + (x0, y0)
    return Message({}, {"body": body})


def _table(landmarks: Iterable[Any], count: int, size: int) -> NDArray[np.float32]:
    """[count, size] of x, y, z and, as fourth column, visibility."""
    rows = [(p.x, p.y, p.z, p.visibility)[:size] for p in landmarks]
    table = np.array(rows, np.float32)
    if table.shape != (count, size):
        raise ValueError(f"MediaPipe gave {table.shape} landmarks, expected {(count, size)}")
    return table


if __name__ == "__main__":
    serve({"holistic": holistic, "second_look": second_look})
