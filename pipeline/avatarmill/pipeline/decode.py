"""Decoding one shot with ffmpeg as a supervised child: chosen rate and size, exact frame times."""

import functools
import re
import secrets
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.command import CommandResult, run_command
from avatarmill.pipeline.children.supervise import ChildFailure
from avatarmill.pipeline.probe import FORMATS
from avatarmill.pipeline.regular import NotRegularError, open_regular
from avatarmill.pipeline.types import Frames, Probe, Reason, Reject, Shot

Deinterlacer = Literal["bwdif", "yadif", "none"]

# Whole lines: what a file says of itself is printed in the middle of lines or after spaces.
_ERROR = re.compile(r"^(?:\[[^\]\n]*@ 0x[^\]\n]*\] )*\[(?:error|fatal|panic)\] ([^\n]+)", re.M)
_WORD = re.compile(r"[a-z0-9_]*")
_DEVICE = re.compile(r"[A-Za-z0-9/:._-]*")
_DEVICE_SECONDS = 60.0
_GLOBAL = "-hide_banner -nostdin -nostats -xerror -loglevel level+info -filter_threads 1".split()


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
    deinterlace: Deinterlacer = "bwdif"
    """ffmpeg's filter for frames woven of two fields; the first field's instant is kept."""
    hwaccel: str = ""
    """ffmpeg's -hwaccel, for example 'cuda' or 'vaapi'; empty for software. Pixels may differ in
    the last bit, so one run should use one kind."""
    hwaccel_device: str = ""
    """Which device, for example '0' or '/dev/dri/renderD128'; empty for the first."""
    deadline_base_seconds: float = 30.0
    deadline_per_second: float = 6.0
    """Deadline of a shot: the base, and this much for each second of it."""
    memory_limit_bytes: int = 2 << 30
    """Resident memory of ffmpeg."""
    max_frames_bytes: int = 4 << 30
    """Memory for the frames of one shot; more is TOO_LARGE."""
    max_pixels: int = 8192 * 4320
    """Pixels of a source frame, should one in the middle be larger than the first."""

    def __post_init__(self) -> None:
        positive = (
            "fps max_side min_frames threads memory_limit_bytes max_frames_bytes max_pixels".split()
        )
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"DecodeConfig.{name} is {getattr(self, name)}, must be positive")
        if self.deinterlace not in get_args(Deinterlacer):
            raise ValueError(
                f"DecodeConfig.deinterlace is {self.deinterlace!r}, allowed: "
                f"{', '.join(get_args(Deinterlacer))}"
            )
        if not _WORD.fullmatch(self.hwaccel):
            raise ValueError(
                f"DecodeConfig.hwaccel is {self.hwaccel!r}, must be a name that "
                "`ffmpeg -hwaccels` lists, or empty"
            )
        if not _DEVICE.fullmatch(self.hwaccel_device):
            raise ValueError(
                f"DecodeConfig.hwaccel_device is {self.hwaccel_device!r}, must be a number or a "
                "device path"
            )
        if self.hwaccel_device and not self.hwaccel:
            raise ValueError("DecodeConfig.hwaccel_device needs hwaccel to be set")


def decode(path: str, probe: Probe, shot: Shot, config: DecodeConfig) -> Frames | Reject:
    """RGB frames of [shot.start, shot.stop), upright, with square pixels and their exact times.

    Rejects: TOO_SHORT, TOO_LARGE when the frames would need too much memory, TRUNCATED when ffmpeg
    reports an error or an incomplete frame, FORBIDDEN_FORMAT when the path is no file any more,
    and the child's TIMED_OUT, CRASHED, OUT_OF_MEMORY.

    Raises:
        ValueError: `config.hwaccel` does not work on this machine.
    """
    if config.hwaccel:
        check_device(config.hwaccel, config.hwaccel_device)
    width, height = output_size(probe.width, probe.height, config.max_side)
    seconds = shot.stop_seconds - shot.start_seconds
    expected = int(np.ceil(seconds * min(config.fps, probe.fps or 25))) + 2
    # Room for sources with uneven times.
    most = 2 * expected + 8
    if expected * width * height * 3 > config.max_frames_bytes:
        size = f"{expected} frames of {width}x{height}, limit {config.max_frames_bytes} bytes"
        return at_shot(Reject(Reason.TOO_LARGE, size, "decode"), shot)
    token = f"showinfo@{secrets.token_hex(8)}"
    try:
        with open_regular(path) as source:
            result = run_command(
                decode_command(probe, shot, config, (width, height), showinfo=token),
                deadline_seconds=config.deadline_base_seconds
                + config.deadline_per_second * seconds,
                memory_limit_bytes=config.memory_limit_bytes,
                max_output_bytes=most * width * height * 3,
                stdin=source.fileno(),
            )
    except ChildFailure as failure:
        return at_shot(failure.reject("decode"), shot)
    except NotRegularError as error:
        return at_shot(Reject(Reason.FORBIDDEN_FORMAT, str(error), "decode"), shot)
    frames = _frames(result, width, height, token)
    if isinstance(frames, Reject):
        return at_shot(frames, shot)
    if len(frames.images) < config.min_frames:
        found = f"{len(frames.images)} frames in {seconds:.2f} s, at least {config.min_frames}"
        return at_shot(Reject(Reason.TOO_SHORT, found, "decode"), shot)
    return frames


def output_size(width: int, height: int, max_side: int) -> tuple[int, int]:
    """Size that fits `max_side` with the aspect kept, never enlarged.

    >>> output_size(1920, 1080, 960)
    (960, 540)
    """
    scale = min(1.0, max_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


@functools.cache
def check_device(hwaccel: str, device: str) -> None:
    """Opens a decoding device once a process.

    Raises:
        ValueError: it does not open, with ffmpeg's reason.
    """
    name = f"{hwaccel}:{device}" if device else hwaccel
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *_GLOBAL, "-init_hw_device", name]
    command += "-f lavfi -i nullsrc=s=16x16 -frames:v 1 -f null -".split()
    limits = {"memory_limit_bytes": 2 << 30, "max_output_bytes": 1 << 20}
    try:
        result = run_command(command, deadline_seconds=_DEVICE_SECONDS, **limits)
        if result.status == 0:
            return
        said = [match.group(1).strip() for match in _ERROR.finditer(result.stderr)]
        why = "; ".join(said[:3]) or f"ffmpeg ended with status {result.status}"
    except ChildFailure as failure:
        why = str(failure)
    raise ValueError(
        f"DecodeConfig.hwaccel {name!r} does not work on this machine: {why}. Leave it empty to "
        "decode in software"
    )


def decode_command(
    probe: Probe, shot: Shot, config: DecodeConfig, size: tuple[int, int], *, showinfo: str
) -> list[str]:
    """ffmpeg's command line, raw RGB to standard output.

    `showinfo` is the instance name of the filter that prints frame times, a secret of this run, so
    that nothing in the file can pretend to be such a line.
    """
    stream = shot_stream(probe, shot, config, size).filter(showinfo, checksum=0)
    output = ffmpeg.output(
        stream, "pipe:", format="rawvideo", pix_fmt="rgb24", fps_mode="passthrough", an=None
    )
    return compiled(output)


def compiled(output: Any) -> list[str]:
    """The command line of an ffmpeg output, with the options that every run of ours has."""
    command: list[str] = output.global_args(*_GLOBAL).compile(cmd=imageio_ffmpeg.get_ffmpeg_exe())
    return command


def shot_stream(probe: Probe, shot: Shot, config: DecodeConfig, size: tuple[int, int]) -> Any:
    """The frames of a shot as a stream of ffmpeg-python: upright, at the rate, width and height.

    ffmpeg gets the file as its standard input and no protocol that opens anything else: it knows
    no path.
    """
    frame = 1 / (probe.fps or 25)
    # A quarter of a frame early at both ends: the bounds are times of frames, and rounding to the
    # stream's time base must not move a frame across them.
    start, stop = shot.start_seconds - frame / 4, shot.stop_seconds - frame / 4
    woven = probe.interlaced_frames > 0 and config.deinterlace != "none"
    options = _hardware_options(config)
    if start - _seek_slack(probe) > probe.start_seconds:
        options["ss"] = f"{start - _seek_slack(probe):.6f}"
    if woven:
        # ffmpeg turns pictures before it filters, and rows of fields would become columns.
        options["noautorotate"] = None
    stream = ffmpeg.input(
        "fd:",
        protocol_whitelist="fd",
        format_whitelist=FORMATS,
        err_detect="explode",
        max_pixels=config.max_pixels,
        threads=config.threads,
        seek_timestamp=1,
        copyts=None,
        **options,
    )[str(probe.stream)].filter("trim", start=f"{start:.6f}", end=f"{stop:.6f}")
    if woven:
        stream = stream.filter(config.deinterlace, mode="send_frame", deint="interlaced")
        for name, arguments in _UPRIGHT[probe.rotation % 360]:
            stream = stream.filter(name, *arguments)
    # More than half a frame of tolerance: the step is a whole number of frames nearest to the rate.
    step = 1 / config.fps - 0.6 * frame
    return (
        stream.filter("select", f"isnan(prev_selected_t)+gte(t-prev_selected_t,{step:.6f})")
        .filter("scale", *size, flags="area+accurate_rnd+full_chroma_int")
        .filter("setsar", 1)
    )


_UPRIGHT: dict[int, tuple[tuple[str, tuple[str, ...]], ...]] = {
    0: (),
    90: (("transpose", ("cclock",)),),
    180: (("hflip", ()), ("vflip", ())),
    270: (("transpose", ("clock",)),),
}
"""Filters that turn a picture counter-clockwise by so many degrees."""


def _hardware_options(config: DecodeConfig) -> dict[str, Any]:
    options = {"hwaccel": config.hwaccel, "hwaccel_device": config.hwaccel_device}
    return {name: value for name, value in options.items() if value}


def _seek_slack(probe: Probe) -> float:
    """How much earlier to seek, seconds: MPEG-TS has no index and seeks past the key frame."""
    return 10.0 if probe.format == "mpegts" else 0.0


def _frames(result: CommandResult, width: int, height: int, showinfo: str) -> Frames | Reject:
    """Pairs the raw frames with the times that `showinfo` printed."""
    error = error_of(result)
    if error:
        return Reject(Reason.TRUNCATED, error, "decode")
    count, rest = divmod(result.output.size, width * height * 3)
    pts = frame_times(result.stderr, showinfo)
    if rest or count != len(pts):
        evidence = f"{count} frames and {rest} bytes for {len(pts)} frame times"
        return Reject(Reason.TRUNCATED, evidence, "decode")
    return Frames(result.output.reshape(count, height, width, 3), pts)


def error_of(result: CommandResult) -> str:
    """What ffmpeg said of its first error; empty for a clean run."""
    error = _ERROR.search(result.stderr)
    if error is not None:
        return error.group(1)[:300]
    return f"ffmpeg ended with status {result.status}" if result.status else ""


def frame_times(stderr: str, showinfo: str) -> NDArray[np.float64]:
    """Exact times in seconds that the filter instance `showinfo` printed; its own `pts_time` is
    rounded to six digits."""
    line = rf"^\[{re.escape(showinfo)} @ [^\]]*\] \[info\] "
    base = re.search(line + r"config in time_base: (\d+)/(\d+)", stderr, re.M)
    if base is None:
        return np.empty(0, np.float64)
    tick = Fraction(int(base.group(1)), int(base.group(2)))
    found = re.findall(line + r"n: *\d+ pts: *(-?\d+)", stderr, re.M)
    return np.array([float(int(pts) * tick) for pts in found], np.float64)


def at_shot(reject: Reject, shot: Shot) -> Reject:
    """The reject as that of one shot."""
    return replace(
        reject,
        start_seconds=shot.start_seconds,
        stop_seconds=shot.stop_seconds,
        level="shot",
    )
