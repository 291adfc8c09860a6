"""Decoding one shot with ffmpeg as a supervised child: chosen rate and size, exact frame times."""

import re
from dataclasses import dataclass, replace
from fractions import Fraction

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.command import CommandResult, run_command
from avatarmill.pipeline.children.supervise import ChildFailure
from avatarmill.pipeline.probe import FORMATS
from avatarmill.pipeline.types import Frames, Probe, Reason, Reject, Shot

_TIME_BASE = re.compile(r"\[Parsed_showinfo\S* @ \S+\] \[info\] config in time_base: (\d+)/(\d+)")
_FRAME = re.compile(r"\[Parsed_showinfo\S* @ \S+\] \[info\] n: *\d+ pts: *(-?\d+)")
_ERROR = re.compile(r"\[(?:error|fatal|panic)\] ([^\n]+)")


@dataclass(frozen=True, slots=True)
class DecodeConfig:
    """Rate, size and limits of decoding."""

    fps: float = 10.0
    """Frames a second to keep: a whole number of source frames apart. Slower sources keep all."""
    max_side: int = 960
    """Longer side of the frames, pixels; smaller sources are not enlarged."""
    min_frames: int = 5
    """Shots that give fewer are TOO_SHORT."""
    threads: int = 1
    """Decoder threads. Fixed, so that results do not depend on the machine."""
    hwaccel: str = ""
    """ffmpeg's -hwaccel, for example 'cuda' or 'vaapi'; empty for software."""
    deadline_base_seconds: float = 30.0
    deadline_per_second: float = 6.0
    """Deadline of a shot: the base, and this much for each second of it."""
    memory_limit_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        for name in ("fps", "max_side", "min_frames", "threads", "memory_limit_bytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"DecodeConfig.{name} is {getattr(self, name)}, must be positive")


def decode(path: str, probe: Probe, shot: Shot, config: DecodeConfig) -> Frames | Reject:
    """RGB frames of [shot.start, shot.stop), upright, with square pixels and their exact times.

    Rejects: TOO_SHORT, TRUNCATED when ffmpeg reports an error or an incomplete frame, and the
    child's TIMED_OUT, CRASHED, OUT_OF_MEMORY.
    """
    width, height = output_size(probe.width, probe.height, config.max_side)
    seconds = shot.stop_seconds - shot.start_seconds
    # One frame more than the rate asks for, and room for sources with uneven times.
    most = 2 * int(np.ceil(seconds * max(config.fps, 1))) + 8
    try:
        result = run_command(
            _command(path, probe, shot, config, (width, height)),
            deadline_seconds=config.deadline_base_seconds + config.deadline_per_second * seconds,
            memory_limit_bytes=config.memory_limit_bytes,
            max_output_bytes=most * width * height * 3,
        )
    except ChildFailure as failure:
        return _at(failure.reject("decode"), shot)
    frames = _frames(result, width, height)
    if isinstance(frames, Reject):
        return _at(frames, shot)
    if len(frames.images) < config.min_frames:
        found = f"{len(frames.images)} frames in {seconds:.2f} s, at least {config.min_frames}"
        return _at(Reject(Reason.TOO_SHORT, found, "decode"), shot)
    return frames


def output_size(width: int, height: int, max_side: int) -> tuple[int, int]:
    """Size that fits `max_side` with the aspect kept, never enlarged.

    >>> output_size(1920, 1080, 960)
    (960, 540)
    """
    scale = min(1.0, max_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _command(
    path: str, probe: Probe, shot: Shot, config: DecodeConfig, size: tuple[int, int]
) -> list[str]:
    frame = 1 / (probe.fps or 25)
    # A quarter of a frame early at both ends: the bounds are times of frames, and rounding to the
    # stream's time base must not move a frame across them.
    start, stop = shot.start_seconds - frame / 4, shot.stop_seconds - frame / 4
    options = {"hwaccel": config.hwaccel} if config.hwaccel else {}
    if start - _seek_slack(probe) > probe.start_seconds:
        options["ss"] = f"{start - _seek_slack(probe):.6f}"
    source = ffmpeg.input(
        "file:" + path,
        protocol_whitelist="file,pipe",
        format_whitelist=FORMATS,
        err_detect="explode",
        threads=config.threads,
        seek_timestamp=1,
        copyts=None,
        **options,
    ).video
    # More than half a frame of tolerance: the step is a whole number of frames nearest to the rate.
    step = 1 / config.fps - 0.6 * frame
    stream = (
        source.filter("trim", start=f"{start:.6f}", end=f"{stop:.6f}")
        .filter("select", f"isnan(prev_selected_t)+gte(t-prev_selected_t,{step:.6f})")
        .filter("scale", *size, flags="area+accurate_rnd+full_chroma_int")
        .filter("setsar", 1)
        .filter("showinfo", checksum=0)
    )
    output = ffmpeg.output(
        stream, "pipe:", format="rawvideo", pix_fmt="rgb24", fps_mode="passthrough", an=None
    ).global_args(
        *"-hide_banner -nostdin -nostats -xerror -loglevel level+info -filter_threads 1".split()
    )
    command: list[str] = output.compile(cmd=imageio_ffmpeg.get_ffmpeg_exe())
    return command


def _seek_slack(probe: Probe) -> float:
    """How much earlier to seek, seconds: MPEG-TS has no index and seeks past the key frame."""
    return 10.0 if probe.format == "mpegts" else 0.0


def _frames(result: CommandResult, width: int, height: int) -> Frames | Reject:
    """Pairs the raw frames with the times that `showinfo` printed."""
    error = _ERROR.search(result.stderr)
    if result.status != 0 or error is not None:
        text = error.group(1) if error else f"ffmpeg ended with status {result.status}"
        return Reject(Reason.TRUNCATED, text[:300], "decode")
    images = np.frombuffer(result.output, np.uint8)
    count, rest = divmod(images.size, width * height * 3)
    pts = _times(result.stderr)
    if rest or count != len(pts):
        evidence = f"{count} frames and {rest} bytes for {len(pts)} frame times"
        return Reject(Reason.TRUNCATED, evidence, "decode")
    return Frames(images.reshape(count, height, width, 3), pts)


def _times(stderr: str) -> NDArray[np.float64]:
    """Exact times in seconds; showinfo's own `pts_time` is rounded to six digits."""
    base = _TIME_BASE.search(stderr)
    if base is None:
        return np.empty(0, np.float64)
    tick = Fraction(int(base.group(1)), int(base.group(2)))
    return np.array([float(int(pts) * tick) for pts in _FRAME.findall(stderr)], np.float64)


def _at(reject: Reject, shot: Shot) -> Reject:
    return replace(
        reject,
        start_seconds=shot.start_seconds,
        stop_seconds=shot.stop_seconds,
        level="shot",
    )
