"""The child that opens video files with PyAV: declared facts, and one pass over all frames.

No container outside the whitelist is opened, and no protocol but the descriptor of the one file
exists for the demuxer: a text that is a concat script or a playlist would make it read other files.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from avatarmill.pipeline.children.protocol import Message, serve
from avatarmill.pipeline.children.strip import Strip
from avatarmill.pipeline.children.transitions import TransitionDetector
from avatarmill.pipeline.regular import open_regular

_SCAN_SIDE = 160
"""Longer side of the frames that shot detection sees, pixels."""
_THREADS = 2


def probe(request: Message) -> Message:
    """Declared facts of the video stream that players show, and one decoded frame for its rotation.

    Replies `{"error": text}` when nothing opens or decodes, `{"no_video": format}` without a video
    stream.
    """
    try:
        with _open(request) as container:
            stream = _film(container)
            if stream is None:
                return Message({"no_video": container.format.name})
            facts = _declared(container, stream)
            if "error" in facts:
                return Message(facts)
            for frame in container.decode(stream):
                if frame.time is None:
                    return Message({"error": "frames have no times"})
                return Message({**facts, **of_first_frame(frame)})
            return Message({"error": "no frame decodes"})
    except av.error.FFmpegError as error:
        return Message({"error": error_text(error)})


def scan(request: Message) -> Message:
    """Decodes every frame once, strictly; finds transitions and makes a strip on the way.

    Replies with `pts_seconds` [F] float64, `transitions` [C, 2] int64 (rows [begin, end) that
    belong to no shot, begin == end for a cut), the counts `expected` (declared frames, 0 =
    unknown), `discarded`, `corrupt` and `interlaced`, `error` (text of the first error, empty if
    clean), and `strip` [n, 16, 16] uint8 with `strip_rate`, pictures a second (`strip.py`).
    """
    pts: list[float] = []
    counts = new_counts()
    detector = TransitionDetector(
        float(request.values["fps"]),
        strength=float(request.values["unlikeness"]),
        shortest_seconds=float(request.values["shortest_seconds"]),
    )
    strip = Strip()
    # One for all frames: making one costs as much as it does.
    reformatter = VideoReformatter()
    try:
        for frame in strict_frames(request, counts, _THREADS):
            pts.append(float(frame.time))
            small = _small(frame, reformatter)
            detector.push(small)
            strip.push(small, float(frame.time), frame.rotation)
    except av.error.FFmpegError as error:
        counts["error"] = error_text(error)
    pictures, counts["strip_rate"] = strip.pictures()
    arrays = {"pts_seconds": np.array(pts), "transitions": detector.transitions()}
    return Message(counts, {**arrays, "strip": pictures})


def new_counts() -> dict[str, Any]:
    """What `strict_frames` counts, before the first frame."""
    names = ("expected", "discarded", "corrupt", "interlaced")
    return {**dict.fromkeys(names, 0), "error": ""}


def strict_frames(
    request: Message, counts: dict[str, Any], threads: int, facts: dict[str, Any] | None = None
) -> Iterator[VideoFrame]:
    """Every frame of the video stream in order, decoded by `threads` threads.

    Ends at the first error, whose text is then in `counts`. The file is sound only if
    `shots.broken_file` finds nothing wrong with the counts at the end. `facts` gets what the file
    declares, before its first frame.
    """
    try:
        with _open(request) as container:
            stream = _film(container)
            if stream is None:
                return
            if facts is not None:
                facts.update(_declared(container, stream))
            # A concealed error is an error: no frame of a broken file may pass as good.
            stream.codec_context.options = {**_limits(request), "err_detect": "explode"}
            stream.codec_context.thread_count = threads
            counts["expected"] = _expected_frames(stream)
            for packet in container.demux(stream):
                counts["discarded"] += packet.is_discard
                counts["corrupt"] += packet.is_corrupt
                for frame in packet.decode():
                    counts["corrupt"] += frame.is_corrupt
                    counts["interlaced"] += frame.interlaced_frame
                    yield frame
    except av.error.FFmpegError as error:
        counts["error"] = error_text(error)


@contextlib.contextmanager
def _open(request: Message) -> Iterator[InputContainer]:
    limits = _limits(request)
    with open_regular(str(request.values["path"])) as file:
        options = {
            **limits,
            "fd": str(file.fileno()),
            "protocol_whitelist": "fd",
            "format_whitelist": str(request.values["formats"]),
        }
        # Titles need not be UTF-8.
        with av.open("fd:", options=options, metadata_errors="replace") as container:
            for stream in container.streams.video:
                stream.codec_context.options = limits
            yield container


def _film(container: InputContainer) -> VideoStream | None:
    """The stream that players show; None when there is none but the cover picture of a song."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        return None
    return stream


def _limits(request: Message) -> dict[str, str]:
    return {"max_pixels": str(request.values["max_pixels"])}


def of_first_frame(frame: VideoFrame) -> dict[str, Any]:
    """The facts of a file that only a decoded frame tells."""
    return {"rotation": frame.rotation % 360, "start_seconds": float(frame.time)}


def _declared(container: InputContainer, stream: VideoStream) -> dict[str, Any]:
    rate = stream.average_rate or stream.guessed_rate or 0
    aspect = stream.sample_aspect_ratio or 1
    if stream.width * stream.height == 0:
        return {"error": "the stream declares no frame size"}
    return {
        "width": stream.width,
        "height": stream.height,
        "aspect": float(aspect) if aspect else 1.0,
        "fps": float(rate),
        "num_frames": _expected_frames(stream),
        "duration_seconds": _duration(container, stream),
        "codec": stream.codec_context.name,
        "format": container.format.name,
        "stream": stream.index,
        "focal_35mm": focal_35mm({**container.metadata, **stream.metadata}),
    }


def focal_35mm(tags: dict[str, str]) -> float:
    """35 mm equivalent focal length in millimetres of QuickTime's tags, 0 where there is none."""
    for name, value in tags.items():
        if name.lower().endswith("focal_length.35mm_equivalent"):
            try:
                millimetres = float(value)
            except ValueError:
                continue
            if 5 <= millimetres <= 1000:
                return millimetres
    return 0.0


def _duration(container: InputContainer, stream: VideoStream) -> float:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")
    if tag.count(":") == 2:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return float((container.duration or 0) / av.time_base)


def _expected_frames(stream: VideoStream) -> int:
    """Declared frames, 0 where the container does not say.

    In ISO media an edit list may take frames out before they are demuxed, and AVI counts slots,
    which are empty where a frame was dropped: the demuxer's own index, built from the tables and
    not from the data, has the number that is left. An AVI cut off has lost its index: one entry.
    """
    kind, in_index = stream.container.format.name, len(stream.index_entries)
    if not (kind.startswith("mov") and in_index or kind == "avi" and in_index > 1):
        return stream.frames
    return min(stream.frames, in_index)


def _small(frame: VideoFrame, reformatter: VideoReformatter) -> Any:
    scale = min(1.0, _SCAN_SIDE / max(frame.width, frame.height))
    width, height = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
    small = reformatter.reformat(frame, width, height, "bgr24", interpolation="AREA", threads=1)
    return small.to_ndarray()


def error_text(error: av.error.FFmpegError) -> str:
    return f"{type(error).__name__}: {error.strerror}"


if __name__ == "__main__":
    # Workers keep all cores busy: OpenCV's threads would only wait for each other, turning.
    cv2.setNumThreads(1)
    serve({"probe": probe, "scan": scan})
