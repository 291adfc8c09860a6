"""One shot as an H.264 file of its own, cut to the frame by ffmpeg as a supervised child."""

import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import ffmpeg
import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.command import CommandResult, run_command
from avatarmill.pipeline.children.supervise import ChildFailure
from avatarmill.pipeline.decode import (
    DecodeConfig,
    at_shot,
    check_device,
    compiled,
    error_of,
    frame_times,
    output_size,
    shot_stream,
)
from avatarmill.pipeline.regular import NotRegularError, open_regular
from avatarmill.pipeline.types import Probe, Reason, Reject, Shot

Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
]
_STAGE = "encode"
_LOG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class EncodeConfig:
    """How a shot is encoded again, and limits."""

    crf: int = 20
    """x264's constant rate factor, lower is better and larger."""
    preset: Preset = "veryfast"
    """x264's trade of time for size. Clips are made to be decoded again, and soon: time counts."""
    deadline_base_seconds: float = 60.0
    deadline_per_second: float = 120.0
    """Deadline of a shot: the base, and this much for each second of it."""
    max_bytes: int = 1 << 30
    """Larger clips are TOO_LARGE."""

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise ValueError(f"EncodeConfig.crf is {self.crf}, must be 0..51, x264's range")
        if self.preset not in get_args(Preset):
            raise ValueError(
                f"EncodeConfig.preset is {self.preset!r}, allowed: {', '.join(get_args(Preset))}"
            )


@dataclass(frozen=True, slots=True)
class EncodedShot:
    """A shot as a file."""

    data: bytes
    """MP4, H.264 4:2:0 without sound, index first; its first frame is at 0 s."""
    pts_seconds: NDArray[np.float64]
    """[F] presentation time of each frame in the source."""
    width: int
    height: int


def encode(
    path: str, probe: Probe, shot: Shot, frames: DecodeConfig, config: EncodeConfig
) -> EncodedShot | Reject:
    """The frames of [shot.start, shot.stop), upright and with square pixels, encoded again.

    Same file, same settings, same bytes: one thread encodes. Rejects: TOO_SHORT, TOO_LARGE,
    TRUNCATED when ffmpeg reports an error, FORBIDDEN_FORMAT when the path is no file any more, and
    the child's TIMED_OUT, CRASHED, OUT_OF_MEMORY.

    Raises:
        ValueError: `frames.hwaccel` does not work on this machine.
    """
    if frames.hwaccel:
        check_device(frames.hwaccel, frames.hwaccel_device)
    found = _encode(path, probe, shot, frames, config)
    if isinstance(found, Reject):
        return at_shot(found, shot)
    if len(found.pts_seconds) < frames.min_frames:
        short = f"{len(found.pts_seconds)} frames, at least {frames.min_frames}"
        return at_shot(Reject(Reason.TOO_SHORT, short, _STAGE), shot)
    return found


def _encode(
    path: str, probe: Probe, shot: Shot, frames: DecodeConfig, config: EncodeConfig
) -> EncodedShot | Reject:
    # 4:2:0 has one colour for two rows and columns.
    width, height = (
        max(2, side - side % 2) for side in output_size(probe.width, probe.height, frames.max_side)
    )
    seconds = shot.stop_seconds - shot.start_seconds
    token = f"showinfo@{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "clip.mp4")
        try:
            with open_regular(path) as source:
                result = run_command(
                    encode_command(probe, shot, frames, config, (width, height), target, token),
                    deadline_seconds=config.deadline_base_seconds
                    + config.deadline_per_second * seconds,
                    memory_limit_bytes=frames.memory_limit_bytes,
                    max_output_bytes=_LOG_BYTES,
                    stdin=source.fileno(),
                )
        except ChildFailure as failure:
            return failure.reject(_STAGE)
        except NotRegularError as error:
            return Reject(Reason.FORBIDDEN_FORMAT, str(error), _STAGE)
        if wrong := _wrong(result, target, config):
            return wrong
        data = target.read_bytes()
    return EncodedShot(data, frame_times(result.stderr, token), width, height)


def _wrong(result: CommandResult, target: Path, config: EncodeConfig) -> Reject | None:
    error = error_of(result)
    if error:
        return Reject(Reason.TRUNCATED, error, _STAGE)
    # ffmpeg ends a file at the limit without an error.
    size = target.stat().st_size
    if size >= 0.95 * config.max_bytes:
        return Reject(Reason.TOO_LARGE, f"{size} bytes, limit {config.max_bytes}", _STAGE)
    return None


def encode_command(
    probe: Probe,
    shot: Shot,
    frames: DecodeConfig,
    config: EncodeConfig,
    size: tuple[int, int],
    target: Path,
    showinfo: str,
) -> list[str]:
    """ffmpeg's command line; `showinfo` as in `decode_command`."""
    stream = shot_stream(probe, shot, frames, size).filter(showinfo, checksum=0)
    output = ffmpeg.output(
        stream.filter("setpts", "PTS-STARTPTS"),
        str(target),
        format="mp4",
        vcodec="libx264",
        preset=config.preset,
        crf=config.crf,
        pix_fmt="yuv420p",
        # Frames of several threads would end differently on another number of cores.
        threads=1,
        fps_mode="passthrough",
        fs=config.max_bytes,
        movflags="+faststart",
        fflags="+bitexact",
        map_metadata=-1,
        an=None,
    )
    return compiled(output)
