"""The child that decodes films into memory it shares with its parent, one batch a request."""

import mmap
from collections.abc import Iterator
from itertools import chain
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from avatarmill.pipeline.children.protocol import Message, serve
from avatarmill.pipeline.children.video_child import (
    error_text,
    new_counts,
    of_first_frame,
    probe,
    strict_frames,
)

_THREADS = 1
"""One decoding thread a child: there is a child for each core."""


class Films:
    """The film that is being decoded, and where its frames go."""

    def __init__(self) -> None:
        self._memory = np.empty((0, 0), np.uint8)
        self._frames: Iterator[VideoFrame] = iter(())
        self._counts = new_counts()
        # One for all frames: making one costs as much as it does.
        self._reformatter = VideoReformatter()

    def share(self, request: Message) -> Message:
        """Maps the parent's memory: descriptor `fd`, `slots` times `slot_bytes`."""
        slots, size = int(request.values["slots"]), int(request.values["slot_bytes"])
        memory = mmap.mmap(int(request.values["fd"]), slots * size)
        self._memory = np.frombuffer(memory, np.uint8).reshape(slots, size)
        return Message()

    def probe(self, request: Message) -> Message:
        """Begins with a film, and replies as `video_child.probe` does."""
        self._counts = new_counts()
        facts: dict[str, Any] = {}
        # Opened once for both: to open a short film costs as much as dozens of its frames.
        frames = strict_frames(request, self._counts, _THREADS, facts)
        first = next(frames, None)
        if first is None:
            self._frames = frames
            return probe(request)  # which is less strict, and knows what to say of such a file
        self._frames = chain((first,), frames)
        return Message({**facts, **of_first_frame(first)})

    def fill(self, request: Message) -> Message:
        """Puts the next frames into a slot, upright RGB of `width` and `height`.

        Replies with `pts_seconds` [n] float64 of the n <= `most` frames, the counts so far, and
        `done` when there are no more.
        """
        width, height = int(request.values["width"]), int(request.values["height"])
        turns = int(request.values["rotation"]) // 90
        most = int(request.values["most"])
        slot = self._memory[int(request.values["slot"])]
        images = slot[: most * height * width * 3].reshape(most, height, width, 3)
        pts: list[float] = []
        try:
            for frame in self._frames:
                images[len(pts)] = self._upright(frame, width, height, turns)
                pts.append(float(frame.time))
                if len(pts) == most:
                    break
        except av.error.FFmpegError as error:
            self._counts["error"] = error_text(error)
        return Message(
            {**self._counts, "done": len(pts) < most}, {"pts_seconds": np.array(pts, np.float64)}
        )

    def _upright(self, frame: VideoFrame, width: int, height: int, turns: int) -> NDArray[np.uint8]:
        """View [height, width, 3] of the frame as RGB, turned counter-clockwise `turns` times."""
        size = (height, width) if turns % 2 else (width, height)
        scaled = (frame.width, frame.height) != size
        rgb = self._reformatter.reformat(
            frame,
            width=size[0],
            height=size[1],
            format="rgb24",
            interpolation="AREA" if scaled else None,
            threads=1,
        )
        plane: Any = rgb.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(rgb.height, plane.line_size)
        pixels = rows[:, : 3 * rgb.width].reshape(rgb.height, rgb.width, 3)
        return np.rot90(pixels, turns)


if __name__ == "__main__":
    films = Films()
    serve({"probe": films.probe, "share": films.share, "fill": films.fill})
