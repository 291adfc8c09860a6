"""Masks by the `sam2` video predictor, prompted with the track's boxes and landmarks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import (
    Child,
    ChildFailure,
    ChildGpuOutOfMemory,
    python_module,
)
from avatarmill.pipeline.mask_config import MaskConfig
from avatarmill.pipeline.types import Bytes, Float, Frames, Reject, Track

WINDOW_FRAMES = 64
"""Frames the predictor holds at once; each window is prompted anew, so memory stays bounded."""
PROMPT_EVERY = 16
"""Frames between prompts: a mask that drifts is called back."""
SMALLEST_WINDOW = 8
"""A GPU that has no room for so few frames will not have room for one."""
LOAD_SECONDS = 120.0
"""Added to every deadline: the first call also loads the model."""
_POINTS = (0, 11, 12, 23, 24, 25, 26)
"""Nose, shoulders, hips, knees: on the person whatever is worn."""
_VISIBLE = 0.7


class Sam2Segmenter:
    """Masks by `sam2`, in a child of its own that loads the checkpoint once.

    Raises ValueError when the configuration has no checkpoint.
    """

    def __init__(self, config: MaskConfig) -> None:
        if config.sam2_checkpoint is None:
            raise ValueError("Sam2Segmenter needs MaskConfig.sam2_checkpoint, a path to weights")
        self._config = config
        self._child = Child(
            python_module("avatarmill.pipeline.children.sam2_child"),
            memory_limit_bytes=config.sam2_memory_limit_bytes,
        )

    def segment(self, frames: Frames, track: Track, raw: Bytes) -> Bytes | Reject:
        """[T, H, W] 0..255, or the failure of the child. `raw` is not used."""
        masks = []
        try:
            for begin in range(0, len(track.frame_indices), WINDOW_FRAMES):
                window = np.arange(begin, min(begin + WINDOW_FRAMES, len(track.frame_indices)))
                masks.append(self._segment_window(frames, track, window))
        except ChildFailure as failure:
            return failure.reject("masks")
        return np.concatenate(masks)

    def close(self) -> None:
        """Ends the child."""
        self._child.close()

    def _segment_window(self, frames: Frames, track: Track, window: NDArray[np.int64]) -> Bytes:
        config = self._config
        rows = np.arange(0, len(window), PROMPT_EVERY)
        points, labels = prompt_points(track.landmarks.body[window[rows]])
        request = {
            "call": "segment",
            "model": config.sam2_model,
            "checkpoint": str(config.sam2_checkpoint),
            "image_size": config.sam2_image_size,
            "device": config.sam2_device,
        }
        arrays: dict[str, NDArray[Any]] = {
            "images": frames.images[track.frame_indices[window]],
            "rows": rows,
            "boxes": track.boxes[window[rows]],
            "points": points,
            "labels": labels,
        }
        deadline = LOAD_SECONDS + config.sam2_deadline_per_frame * len(window)
        try:
            reply = self._child.call(Message(request, arrays), deadline_seconds=deadline)
        except ChildGpuOutOfMemory:
            if len(window) <= SMALLEST_WINDOW:
                raise
            # Each half is prompted anew, so it needs nothing of the other.
            halves = np.array_split(window, 2)
            return np.concatenate([self._segment_window(frames, track, half) for half in halves])
        masks: Bytes = reply.arrays["masks"]
        return masks


def prompt_points(body: Float) -> tuple[Float, NDArray[np.int32]]:
    """Points [P, 7, 2] in pixels and labels [P, 7] (1 on the person, -1 unused) of [P, 33, 4]."""
    chosen = body[:, _POINTS]
    points = np.ascontiguousarray(chosen[..., :2], np.float32)
    labels = np.where(chosen[..., 3] > _VISIBLE, 1, -1).astype(np.int32)
    return points, labels
