"""What a file declares: opened by PyAV in a supervised child, after its bytes have been sniffed."""

from dataclasses import dataclass

from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import Child, ChildFailure, python_module
from avatarmill.pipeline.sniff import sniff
from avatarmill.pipeline.types import Probe, Reason, Reject, Source

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
"""Demuxers that may open an input; everything else is refused before a byte is parsed."""


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """Limits of a file."""

    max_pixels: int = 8192 * 4320
    """Pixels of one frame."""
    max_duration_seconds: float = 4 * 3600.0
    max_bytes: int = 64 << 30
    deadline_seconds: float = 30.0
    memory_limit_bytes: int = 2 << 30
    """Resident memory of the child that opens files."""

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_duration_seconds", "max_bytes", "deadline_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"ProbeConfig.{name} is {getattr(self, name)}, must be positive")


def video_child(config: ProbeConfig) -> Child:
    """The child that `probe` and `find_shots` call; one per worker, closed by its owner."""
    return Child(
        python_module("avatarmill.pipeline.children.video_child"),
        memory_limit_bytes=config.memory_limit_bytes,
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def probe(child: Child, source: Source, config: ProbeConfig) -> Probe | Reject:
    """Declared facts of the first video stream, width and height as displayed.

    Rejects: EMPTY_FILE, FORBIDDEN_FORMAT, TRUNCATED (by the container's own sizes), UNREADABLE,
    NO_VIDEO_STREAM, TOO_LARGE, and the child's TIMED_OUT, CRASHED, OUT_OF_MEMORY.
    """
    if source.size_bytes > config.max_bytes:
        return _too_large(f"{source.size_bytes} bytes, limit {config.max_bytes}")
    container = sniff(source.path)
    if isinstance(container, Reject):
        return container
    request = {
        "call": "probe",
        "path": source.path,
        "formats": FORMATS,
        "max_pixels": config.max_pixels,
    }
    try:
        reply = child.call(Message(request), deadline_seconds=config.deadline_seconds)
    except ChildFailure as failure:
        return failure.reject("probe")
    facts = reply.values
    if "no_video" in facts:
        return Reject(Reason.NO_VIDEO_STREAM, f"{facts['no_video']} without video", "probe")
    if "error" in facts:
        return Reject(Reason.UNREADABLE, str(facts["error"]), "probe")
    if facts["width"] * facts["height"] > config.max_pixels:
        size = f"{facts['width']}x{facts['height']}"
        return _too_large(f"{size} pixels, limit {config.max_pixels} in all")
    if facts["duration_seconds"] > config.max_duration_seconds:
        seconds = f"{facts['duration_seconds']:.0f} s"
        return _too_large(f"{seconds}, limit {config.max_duration_seconds:.0f} s")
    width, height = displayed_size(
        facts["width"], facts["height"], facts["aspect"], facts["rotation"]
    )
    return Probe(
        duration_seconds=float(facts["duration_seconds"]),
        fps=float(facts["fps"]),
        num_frames=int(facts["num_frames"]),
        width=width,
        height=height,
        rotation=int(facts["rotation"]),
        codec=str(facts["codec"]),
        format=str(facts["format"]),
        start_seconds=float(facts["start_seconds"]),
        stream=int(facts["stream"]),
        focal_35mm=float(facts["focal_35mm"]),
    )


def displayed_size(width: int, height: int, aspect: float, rotation: int) -> tuple[int, int]:
    """Width and height with square pixels, after rotation by `rotation` degrees.

    >>> displayed_size(720, 576, 16 / 15, 90)
    (576, 768)
    """
    wide = max(1, round(width * aspect))
    return (height, wide) if rotation % 180 == 90 else (wide, height)


def _too_large(evidence: str) -> Reject:
    return Reject(Reason.TOO_LARGE, evidence, "probe")
