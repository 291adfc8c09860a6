"""The child that holds an ONNX whole-body model of the SimCC kind (RTMPose, DWPose).

Such a model takes a picture cut out around one person and gives, for every keypoint, one row of
scores over the columns of the cut-out and one over its rows, both finer than a pixel.
"""

from functools import cache
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from avatarmill.pipeline.children.protocol import Message, serve

_PADDING = 1.25
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)


def keypoints(request: Message) -> Message:
    """Keypoints of one person in each of `images` [T, H, W, 3], within `boxes` [T, 4].

    Values: `model`, a path, and `providers`, onnxruntime's. Replies with `points` [T, K, 2] in
    pixels and `scores` [T, K], the smaller of the two rows' largest.
    """
    session = _session(str(request.values["model"]), tuple(request.values["providers"]))
    (entry,) = session.get_inputs()
    height, width = (int(n) for n in entry.shape[2:])
    points, scores = [], []
    for image, box in zip(request.arrays["images"], request.arrays["boxes"], strict=True):
        to_crop = _crop_transform(box.astype(np.float64), width, height)
        crop = cv2.warpAffine(image, to_crop, (width, height), flags=cv2.INTER_LINEAR)
        tensor = ((crop.astype(np.float32) - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None]
        across, down = session.run(None, {entry.name: np.ascontiguousarray(tensor)})
        found, score = _peaks(across[0], down[0], width, height)
        points.append((found - to_crop[:, 2]) / to_crop[[0, 1], [0, 1]])
        scores.append(score)
    return Message(
        {}, {"points": np.array(points, np.float32), "scores": np.array(scores, np.float32)}
    )


@cache
def _session(path: str, providers: tuple[str, ...]) -> Any:
    options = onnxruntime.SessionOptions()
    # One thread: what a result is must not depend on how many cores there are.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=list(providers))


def _crop_transform(box: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """[2, 3] from the image to a cut-out of the box, padded to the cut-out's proportions."""
    size = np.maximum(box[2:] - box[:2], 1.0) * _PADDING
    scale = min(width / size[0], height / size[1])
    middle = 0.5 * (box[:2] + box[2:])
    shift = 0.5 * np.array([width, height]) - scale * middle
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


def _peaks(
    across: NDArray[np.float32], down: NDArray[np.float32], width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Places [K, 2] in the cut-out and scores [K] of rows [K, Wx] and [K, Hy]."""
    bins = np.stack([across.argmax(1), down.argmax(1)], axis=1)
    points = bins * np.array([width / across.shape[1], height / down.shape[1]])
    return points, np.minimum(across.max(1), down.max(1))


if __name__ == "__main__":
    serve({"keypoints": keypoints})
