"""Frames to an H.264 .mp4 that every player shows."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], *, fps: float) -> int:
    """Write frames [H, W, 3] sRGB of one even size; the number of frames written.

    The file appears under its name only when complete.

    Raises:
        ValueError: no frames, odd or changing sizes, or ffmpeg refused.
    """
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise ValueError(f"no frames for {path.name}")
    height, width, _ = first.shape
    if height % 2 or width % 2:
        raise ValueError(f"video frames need even sides, got {width}x{height}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part.mp4")
    process = _encoder(temporary, width, height, fps)
    count = 0
    with process:
        for frame in _chain(first, stream):
            if frame.shape != first.shape:
                process.kill()
                raise ValueError(f"frame {count} is {frame.shape}, the first is {first.shape}")
            process.stdin.write(np.ascontiguousarray(frame).data)
            count += 1
        process.stdin.close()
        message = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        temporary.unlink(missing_ok=True)
        raise ValueError(f"ffmpeg could not write {path.name}: {message}")
    temporary.replace(path)
    return count


def _encoder(path: Path, width: int, height: int, fps: float) -> Any:
    pipe = ffmpeg.input(
        "pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=f"{fps:g}"
    )
    # yuv420p and the index in front: browsers and phones play it, also while it loads. One
    # thread and bitexact: the same frames give the same bytes.
    output = pipe.output(
        str(path),
        vcodec="libx264",
        pix_fmt="yuv420p",
        crf=18,
        preset="fast",
        threads=1,
        movflags="+faststart",
        fflags="+bitexact",
        loglevel="error",
    )
    return output.overwrite_output().run_async(
        cmd=imageio_ffmpeg.get_ffmpeg_exe(), pipe_stdin=True, pipe_stderr=True
    )


def _chain(
    first: NDArray[np.uint8], rest: Iterable[NDArray[np.uint8]]
) -> Iterable[NDArray[np.uint8]]:
    yield first
    yield from rest
