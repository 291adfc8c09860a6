"""A GPU without room: the window is halved and tried again, and rejected when halves are small."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import ChildGpuOutOfMemory
from avatarmill.pipeline.mask_config import MaskConfig
from avatarmill.pipeline.sam2_masks import SMALLEST_WINDOW, Sam2Segmenter
from avatarmill.pipeline.types import Frames, Landmarks, Reason, Reject, Track


class SmallGpu:
    """Stands for the child: its card holds so many frames, and its masks name them."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[int] = []

    def call(self, request: Message, *, deadline_seconds: float) -> Message:
        images = request.arrays["images"]
        self.asked.append(len(images))
        if len(images) > self.room:
            raise ChildGpuOutOfMemory("no room on the GPU")
        return Message({}, {"masks": images[..., 0]})


@pytest.fixture()
def segmenter(tmp_path: Path) -> Iterator[Sam2Segmenter]:
    checkpoint = tmp_path / "weights.pt"
    checkpoint.touch()
    yield Sam2Segmenter(MaskConfig(sam2_checkpoint=checkpoint))


def shot(count: int) -> tuple[Frames, Track]:
    """Frames whose grey is their number."""
    grey = np.arange(count, dtype=np.uint8)[:, None, None, None]
    images = np.broadcast_to(grey, (count, 4, 4, 3))
    nothing = np.zeros((count, 478, 4), np.float32)
    landmarks = Landmarks(
        nothing[:, :33], nothing[:, :33, :3], *(nothing[:, :21, :3],) * 2, nothing
    )
    boxes = np.zeros((count, 4), np.float32)
    return Frames(images, np.arange(count) / 10), Track(0, np.arange(count), boxes, landmarks)


def test_a_window_that_does_not_fit_is_halved(
    segmenter: Sam2Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = SmallGpu(room=20)
    monkeypatch.setattr(segmenter, "_child", gpu)
    frames, track = shot(100)
    masks = segmenter.segment(frames, track, frames.images[..., 0])
    assert not isinstance(masks, Reject)
    assert masks[:, 0, 0].tolist() == list(range(100)), "every frame once, in order"
    assert gpu.asked[:4] == [64, 32, 16, 16] and max(gpu.asked[2:]) == 16, "never too many again"


def test_a_gpu_without_any_room_costs_the_track(
    segmenter: Sam2Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = SmallGpu(room=0)
    monkeypatch.setattr(segmenter, "_child", gpu)
    frames, track = shot(64)
    found = segmenter.segment(frames, track, frames.images[..., 0])
    assert isinstance(found, Reject)
    assert (found.reason, found.stage) == (Reason.OUT_OF_MEMORY, "masks")
    assert gpu.asked == [64, 32, 16, SMALLEST_WINDOW]
