"""What the trackers see through: the child that holds MediaPipe, opened on the frames of a shot."""

import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import Child, ChildTimeout
from avatarmill.pipeline.figures import Array, Detection, Figure
from avatarmill.pipeline.types import Bytes, Landmarks

Window = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the frame."""


class Sight(Protocol):
    """Detection in, and following through, the frames of one shot."""

    def detect(self, row: int, window: Window, picture: Bytes | None = None) -> list[Detection]:
        """Everybody in a window of a frame, the most certain first; `picture` [h, w, 3] is looked
        at instead of the window's own pixels."""

    def follow(
        self, slot: int, row: int, region: Array, *, fresh: bool, picture: Bytes | None = None
    ) -> Figure | None:
        """The person in a region of a frame; `fresh` starts another person in the slot; `picture`
        [H, W, 3] is looked at instead of the frame."""


class MediaPipeSight:
    """A shot laid open in the child. One at a time: a new one closes the last.

    All calls of a shot share one deadline, so that a child that is merely slow cannot hold a worker
    for longer than one that hangs. Every method raises ChildFailure.
    """

    def __init__(
        self, child: Child, images: Bytes, *, settings: dict[str, Any], deadline_seconds: float
    ) -> None:
        self._child = child
        self._seconds = deadline_seconds
        self._end = time.monotonic() + deadline_seconds
        self._call({"call": "open", **settings}, images=images)

    def detect(self, row: int, window: Window, picture: Bytes | None = None) -> list[Detection]:
        """See `Sight`."""
        box = np.array(window, np.int64)
        values = {"call": "detect", "row": row}
        found = self._call(values, window=box, **_pictured(picture)).arrays
        rows = zip(found["scores"], found["regions"], found["torsos"], strict=True)
        return [Detection(float(score), region, torso) for score, region, torso in rows]

    def follow(
        self, slot: int, row: int, region: Array, *, fresh: bool, picture: Bytes | None = None
    ) -> Figure | None:
        """See `Sight`."""
        values = {"call": "follow", "slot": slot, "row": row, "fresh": fresh}
        reply = self._call(values, region=region, **_pictured(picture))
        if not reply.values["found"]:
            return None
        found = reply.arrays
        x, y = (int(v) for v in found["corner"])
        parts = {part.name: found[part.name][None] for part in fields(Landmarks)}
        return Figure(Landmarks(**parts), found["region"], found["mask"], (x, y))

    def second_look(
        self, rows: NDArray[np.int64], boxes: NDArray[np.int64], torsos: Array
    ) -> NDArray[np.float32]:
        """[L, 33, 2] bodies found afresh in mirrored cut-outs; see the child."""
        reply = self._call({"call": "second_look"}, rows=rows, boxes=boxes, torsos=torsos)
        body: NDArray[np.float32] = reply.arrays["body"]
        return body

    def _call(self, values: dict[str, Any], **arrays: NDArray[Any]) -> Message:
        left = self._end - time.monotonic()
        if left <= 0 and self._child.pid is not None:
            self._child.close()
            raise ChildTimeout(f"the shot took longer than {self._seconds:.1f} s")
        try:
            return self._child.call(Message(values, arrays), deadline_seconds=left)
        except ChildTimeout as error:
            # What was left for the last call alone would read as if it had been the limit.
            raise ChildTimeout(f"the shot took longer than {self._seconds:.1f} s") from error


def _pictured(picture: Bytes | None) -> dict[str, Bytes]:
    return {} if picture is None else {"picture": picture}


def tiles(width: int, height: int) -> Sequence[Window]:
    """Overlapping squares of the shorter side that cover an oblong frame; none for a square one.

    The detector sees a frame at 224 pixels: in a tile, people may be smaller.
    """
    short, long = min(width, height), max(width, height)
    count = -(-(long - short) // (short // 2)) + 1 if short >= 2 else 1
    if count < 2:
        return ()
    starts = np.linspace(0, long - short, count).round().astype(int)
    return [
        (int(s), 0, int(s) + short, short) if width > height else (0, int(s), short, int(s) + short)
        for s in starts
    ]
