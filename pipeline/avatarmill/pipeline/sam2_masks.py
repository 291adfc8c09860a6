"""Masks by the `sam2` video predictor, prompted with boxes and landmarks, window by window."""

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
        """[T, H, W] 0..255, or the failure of the child. `raw` is not used.

        Goes through the track in windows. Each takes over the last masks of the one before, so the
        person stays the same; only a window of frames is held at once, whatever the clip's length.
        """
        masks = np.zeros((len(track.frame_indices), *frames.images.shape[1:3]), np.uint8)
        size, done = self._config.sam2_window_frames, 0
        try:
            while done < len(masks):
                # At least half of a window is new.
                begin = max(0, done - min(self._config.sam2_overlap_frames, size // 2))
                window = slice(begin, min(begin + size, len(masks)))
                try:
                    found = self._segment_window(frames, track, window, masks[begin:done])
                except ChildGpuOutOfMemory:
                    if size <= SMALLEST_WINDOW:
                        raise
                    size = max(SMALLEST_WINDOW, min(size, window.stop - begin) // 2)
                    continue
                masks[done : window.stop] = found[done - begin :]
                done = window.stop
        except ChildFailure as failure:
            return failure.reject("masks")
        return masks

    def close(self) -> None:
        """Ends the child."""
        self._child.close()

    def _segment_window(self, frames: Frames, track: Track, window: slice, known: Bytes) -> Bytes:
        """Masks of a window of the track's rows; `known` are those of its first rows."""
        config = self._config
        points, labels = prompt_points(track.landmarks.body[window])
        request = {
            "call": "segment",
            "model": config.sam2_model,
            "checkpoint": str(config.sam2_checkpoint),
            "image_size": config.sam2_image_size,
            "device": config.sam2_device,
            "max_prompts": config.sam2_prompts,
        }
        arrays: dict[str, NDArray[Any]] = {
            "images": frames.images[track.frame_indices[window]],
            "boxes": track.boxes[window],
            "points": points,
            "labels": labels,
            "known": known,
        }
        # Every prompt goes through the rest of the window once more.
        passes = (1 + config.sam2_prompts) * (window.stop - window.start)
        deadline = LOAD_SECONDS + config.sam2_deadline_per_frame * passes
        reply = self._child.call(Message(request, arrays), deadline_seconds=deadline)
        masks: Bytes = reply.arrays["masks"]
        return masks


def prompt_points(body: Float) -> tuple[Float, NDArray[np.int32]]:
    """Points [P, 7, 2] in pixels and labels [P, 7] (1 on the person, -1 unused) of [P, 33, 4]."""
    chosen = body[:, _POINTS]
    points = np.ascontiguousarray(chosen[..., :2], np.float32)
    labels = np.where(chosen[..., 3] > _VISIBLE, 1, -1).astype(np.int32)
    return points, labels
