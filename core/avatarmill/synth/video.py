"""H.264 files from frames, through the ffmpeg binary that imageio-ffmpeg carries."""

import contextlib
import itertools
import subprocess
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray


def write_video(
    path: Path, frames: Iterable[NDArray[np.uint8]], *, fps: float, crf: int = 19
) -> int:
    """Encode frames [H, W, 3] sRGB as H.264, yuv420p, and return how many were written.

    The file appears under its name only when it is complete.

    Args:
        path: ends in .mp4; its folder exists.
        frames: all of one even size.
        fps: frames a second.
        crf: x264's constant rate factor, lower is better.

    Raises:
        ValueError: no frames, an odd size, or a frame of another size.
        RuntimeError: ffmpeg failed, with the end of what it said.
    """
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise ValueError(f"{path} needs at least one frame")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"yuv420p needs an even size, got {width}x{height}; pad or crop by one")
    partial = path.with_name(f".{path.stem}.partial.mp4")
    process = _start(partial, width, height, fps, crf)
    try:
        count = _feed(process, itertools.chain([first], stream), first.shape)
        said, status = _finish(process)
        if status:
            raise RuntimeError(f"ffmpeg could not write {path}: {said[-500:].strip()}")
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


def _start(path: Path, width: int, height: int, fps: float, crf: int) -> "subprocess.Popen[bytes]":
    rate = str(Fraction(fps).limit_denominator(1001))
    graph = ffmpeg.input(
        "pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=rate
    ).output(
        str(path),
        vcodec="libx264",
        pix_fmt="yuv420p",
        crf=crf,
        preset="veryfast",
        threads=2,
        movflags="+faststart",
        # No dates or encoder names that change: the same frames give the same file.
        fflags="+bitexact",
        map_metadata=-1,
    )
    command = ffmpeg.compile(
        graph.global_args("-loglevel", "error", "-nostdin"),
        cmd=imageio_ffmpeg.get_ffmpeg_exe(),
        overwrite_output=True,
    )
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
