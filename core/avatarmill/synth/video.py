"""H.264 files from frames, through the ffmpeg binary that imageio-ffmpeg carries."""

import contextlib
import itertools
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

FieldOrder = Literal["progressive", "tff", "bff"]
ROTATIONS = (0, 90, 180, 270)
# What ffmpeg's MP4 writer does to coarse time bases; said here so that times are known beforehand.
_SHORTEST_SCALE = 10_000


@dataclass(frozen=True, slots=True)
class Timing:
    """When each frame is shown, as a file can say it: whole ticks of a time base."""

    ticks: NDArray[np.int64]
    """[F] ascending, the first is 0."""
    scale: int
    """Ticks a second."""
    fps: float
    """Nominal rate; the true one unless `uneven`."""
    uneven: bool = False

    def __post_init__(self) -> None:
        if len(self.ticks) and (self.ticks[0] != 0 or (np.diff(self.ticks) <= 0).any()):
            raise ValueError("ticks must start at 0 and ascend: no two frames at one time")

    @classmethod
    def regular(cls, num_frames: int, fps: float) -> "Timing":
        """A constant rate, exact for every rate with a denominator up to 1001 (30000/1001)."""
        rate = frame_rate(fps)
        scale = rate.numerator
        while scale < _SHORTEST_SCALE:
            scale *= 2
        return cls(np.arange(num_frames) * int(scale / rate), scale, fps)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """[F] the same times in seconds."""
        return np.asarray(self.ticks / self.scale, np.float64)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file stores its frames."""

    crf: int = 19
    """x264's constant rate factor, lower is better; from about 36 on a face is a few blocks."""
    rotation: int = 0
    """A player turns the stored picture counter-clockwise by so many degrees: frames are given
    upright and stored turned the other way."""
    field_order: FieldOrder = "progressive"
    """tff: even rows were seen first, bff: odd rows; frames are given woven."""
    timing: Timing | None = None
    """Presentation times, a constant rate by default."""

    def __post_init__(self) -> None:
        if self.rotation not in ROTATIONS:
            raise ValueError(f"rotation {self.rotation} is not one of {ROTATIONS}")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf {self.crf} must be 0..51, x264's range")
        if self.rotation and self.field_order != "progressive":
            raise ValueError("fields are rows of the stored picture: leave out rotation or fields")


def frame_rate(fps: float) -> Fraction:
    """The rate as broadcasters write it: 23.976... is 24000/1001."""
    return Fraction(fps).limit_denominator(1001)


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    fps: float,
    crf: int = 19,
    encoding: Encoding | None = None,
) -> int:
    """Encode frames [H, W, 3] sRGB as H.264, yuv420p, and return how many were written.

    The file appears under its name only when it is complete. The same frames give the same bytes.

    Args:
        path: ends in .mp4; its folder exists.
        frames: all of one even size, upright.
        fps: frames a second.
        crf: x264's constant rate factor, lower is better; for `encoding` None.
        encoding: everything else about the file.

    Raises:
        ValueError: no frames, an odd size, a frame of another size, or not as many as are timed.
        RuntimeError: ffmpeg failed, with the end of what it said.
    """
    encoding = encoding or Encoding(crf)
    stream = (np.rot90(frame, -encoding.rotation // 90) for frame in frames)
    first = next(stream, None)
    if first is None:
        raise ValueError(f"{path} needs at least one frame")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"yuv420p needs an even size, got {width}x{height}; pad or crop by one")
    partial = path.with_name(f".{path.stem}.partial.mp4")
    process = _start(partial, width, height, fps, encoding)
    try:
        count = _feed(process, itertools.chain([first], stream), first.shape)
        said, status = _finish(process)
        if status:
            raise RuntimeError(f"ffmpeg could not write {path}: {said[-500:].strip()}")
        if encoding.timing is not None and encoding.timing.uneven:
            _retime(partial, encoding.timing, count, fps)
        partial.replace(path)
    finally:
        process.kill()
        _finish(process)
        partial.unlink(missing_ok=True)
    return count


def _feed(
    process: "subprocess.Popen[bytes]",
    frames: Iterable[NDArray[np.uint8]],
    shape: tuple[int, ...],
) -> int:
    """Write frames to ffmpeg until they end or it hangs up; how many were written."""
    assert process.stdin is not None
    count = 0
    for frame in frames:
        if frame.shape != shape:
            raise ValueError(f"frame {count} is {frame.shape}, the first was {shape}")
        try:
            process.stdin.write(np.ascontiguousarray(frame).tobytes())
        except BrokenPipeError:
            break  # its exit status and last words say why
        count += 1
    return count


def _finish(process: "subprocess.Popen[bytes]") -> tuple[str, int]:
    """Close ffmpeg's input and wait: what it said and its exit status; harmless when repeated."""
    assert process.stdin is not None and process.stderr is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    said = "" if process.stderr.closed else process.stderr.read().decode()
    process.stderr.close()
    return said, process.wait()


def _start(
    path: Path, width: int, height: int, fps: float, encoding: Encoding
) -> "subprocess.Popen[bytes]":
    raw: dict[str, str | None] = {
        "format": "rawvideo",
        "pix_fmt": "rgb24",
        "s": f"{width}x{height}",
    }
    if encoding.rotation:
        # The pixels are turned already: ffmpeg notes the angle and leaves them.
        raw |= {"display_rotation": str(encoding.rotation), "noautorotate": None}
    graph = ffmpeg.input("pipe:", **raw, framerate=str(frame_rate(fps))).output(
        str(path),
        vcodec="libx264",
        pix_fmt="yuv420p",
        crf=encoding.crf,
        preset="veryfast",
        threads=2,
        movflags="+faststart",
        # No dates or encoder names that change: the same frames give the same file.
        fflags="+bitexact",
        map_metadata=-1,
        video_track_timescale=Timing.regular(1, fps).scale,
        **_field_options(encoding.field_order),
    )
    command = ffmpeg.compile(
        graph.global_args("-loglevel", "error", "-nostdin"),
        cmd=imageio_ffmpeg.get_ffmpeg_exe(),
        overwrite_output=True,
    )
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def _field_options(order: FieldOrder) -> dict[str, str]:
    if order == "progressive":
        return {}
    # Chroma is halved inside each field: across fields it would mix two instants.
    return {
        "vf": f"setfield={order},scale=interl=1,format=yuv420p",
        "flags": "+ildct+ilme",
        "x264-params": f"{order}=1",
    }


def _retime(path: Path, timing: Timing, count: int, fps: float) -> None:
    """Give the frames of a constant-rate file uneven times, without encoding again.

    ffmpeg's pipe has no timestamps; the packets of its file have the numbers of their frames.
    """
    if count != len(timing.ticks):
        raise ValueError(f"{count} frames do not fit {len(timing.ticks)} presentation times")
    even = path.with_name(f"{path.stem}.even.mp4")
    path.replace(even)
    step = int(Timing.regular(2, fps).ticks[1])
    lengths = np.diff(timing.ticks, append=timing.ticks[-1] + round(timing.scale / fps))
    options = {
        "movflags": "+faststart",
        "fflags": "+bitexact",
        "video_track_timescale": str(timing.scale),
    }
    try:
        with av.open(str(even)) as old, av.open(str(path), "w", "mp4", options) as new:
            source = old.streams.video[0]
            target = new.add_stream_from_template(source)
            target.time_base = Fraction(1, timing.scale)
            for packet in old.demux(source):
                if packet.dts is None or packet.pts is None:
                    continue  # the demuxer's end mark
                shown, decoded = packet.pts // step, packet.dts // step
                packet.pts = int(timing.ticks[shown])
                # Decoding may start before the first frame is shown, by frames held back.
                packet.dts = int(timing.ticks[decoded]) if decoded >= 0 else decoded * step
                packet.duration = int(lengths[shown])
                packet.time_base = target.time_base
                packet.stream = target
                new.mux(packet)
    finally:
        even.unlink()
