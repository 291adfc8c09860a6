"""One strict pass over a file: every frame decodes or the file is rejected; cuts on the way."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import Child, ChildFailure
from avatarmill.pipeline.likeness import Signature
from avatarmill.pipeline.probe import FORMATS, ProbeConfig
from avatarmill.pipeline.types import Probe, Reason, Reject, Shot, Source


@dataclass(frozen=True, slots=True)
class ShotConfig:
    """Where to cut, and how long a span may be."""

    unlikeness: float = 0.46
    """At a cut, of the frames on both sides after motion is taken out: 0 the same, 1 unrelated.
    Camera changes in one place start at 0.5, frames of one shot end at 0.42 (captions over half of
    the picture)."""
    shortest_seconds: float = 0.2
    """What is left between two transitions is no shot if it is shorter."""
    longest_seconds: float = 10.0
    """Longer shots are split into equal spans."""
    deadline_base_seconds: float = 30.0
    deadline_per_second: float = 4.0
    """Deadline of the pass: the base, and this much for each declared second of video."""
    missing_seconds: float = 0.5
    """A stream that ends this much before its declared duration is truncated (containers that do
    not count frames)."""

    def __post_init__(self) -> None:
        if not 0 < self.unlikeness < 1:
            raise ValueError(f"ShotConfig.unlikeness is {self.unlikeness}, must be between 0 and 1")
        if not 0 < self.shortest_seconds < self.longest_seconds:
            raise ValueError(
                f"ShotConfig needs 0 < shortest_seconds < longest_seconds, got "
                f"{self.shortest_seconds} and {self.longest_seconds}"
            )


class ScanSettings(Protocol):
    """What decides a scan: part of the configuration of every job that begins with one."""

    @property
    def probe(self) -> ProbeConfig:
        """Limits of a file."""

    @property
    def shots(self) -> ShotConfig:
        """Where to cut."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over a sound file gives."""

    probe: Probe
    shots: tuple[Shot, ...]
    """Spans without a cut, in order, each at most `longest_seconds` long."""
    signature: Signature
    """To find its near duplicates."""


def scan(
    child: Child,
    source: Source,
    probe: Probe,
    config: ShotConfig,
    limits: ProbeConfig,
) -> Scan | Reject:
    """Shots and signature of a file.

    Decodes the whole file once with errors made fatal. Rejects the file as a whole: TRUNCATED when
    an error, a corrupt frame or a missing frame is met, UNREADABLE when nothing decodes, and the
    child's TIMED_OUT, CRASHED, OUT_OF_MEMORY.
    """
    request = {
        "call": "scan",
        "path": source.path,
        "formats": FORMATS,
        "max_pixels": limits.max_pixels,
        "fps": probe.fps or 25.0,
        "unlikeness": config.unlikeness,
        "shortest_seconds": config.shortest_seconds,
    }
    deadline = config.deadline_base_seconds + config.deadline_per_second * probe.duration_seconds
    try:
        reply = child.call(Message(request), deadline_seconds=deadline)
    except ChildFailure as failure:
        return failure.reject("shots")
    pts = np.asarray(reply.arrays["pts_seconds"], np.float64)
    broken = broken_file(pts, reply.values, probe, config.missing_seconds)
    if broken is not None:
        return broken
    shots = spans(pts, reply.arrays["transitions"], probe.fps, config.longest_seconds)
    signature = Signature(reply.arrays["strip"], float(reply.values["strip_rate"]))
    probe = replace(probe, interlaced_frames=int(reply.values["interlaced"]))
    return Scan(probe, tuple(shots), signature)


def find_shots(
    child: Child,
    source: Source,
    probe: Probe,
    config: ShotConfig,
    limits: ProbeConfig,
) -> list[Shot] | Reject:
    """The shots of `scan` alone."""
    found = scan(child, source, probe, config, limits)
    return found if isinstance(found, Reject) else list(found.shots)


def broken_file(
    pts: NDArray[np.float64], counts: dict[str, object], probe: Probe, missing_seconds: float
) -> Reject | None:
    """The verdict on the file: None when all that was declared has decoded cleanly.

    Args:
        pts: [F] times of the frames that decoded, seconds.
        counts: of the child's `strict_frames`.
        missing_seconds: see `ShotConfig`.
    """
    expected, discarded = int(str(counts["expected"])), int(str(counts["discarded"]))
    corrupt, error = int(str(counts["corrupt"])), str(counts["error"])
    decoded = f"{len(pts)} frames decode of {expected or 'an unknown number'} declared"
    if len(pts):
        decoded += f" ({pts.min():.2f} to {pts.max():.2f} s)"
    if error:
        return Reject(Reason.TRUNCATED, f"{decoded}, then {error}", "shots")
    if corrupt:
        return Reject(Reason.TRUNCATED, f"{decoded}, {corrupt} of them corrupt", "shots")
    if len(pts) == 0:
        return Reject(Reason.UNREADABLE, decoded, "shots")
    if len(pts) + discarded < expected:
        return Reject(Reason.TRUNCATED, f"{decoded}, {discarded} outside the edit list", "shots")
    end = float(pts.max() - pts.min()) + 1 / (probe.fps or 25)
    if not expected and end < probe.duration_seconds - missing_seconds:
        declared = f"{probe.duration_seconds:.2f} s declared"
        return Reject(Reason.TRUNCATED, f"{end:.2f} s decode of {declared}", "shots")
    return None


def spans(
    pts: NDArray[np.float64],
    transitions: NDArray[np.int64],
    fps: float,
    longest_seconds: float,
) -> list[Shot]:
    """Shots from frame times [F] and the rows [C, 2] of transitions; long ones in equal parts.

    Frames inside a dissolve, a mixture of two shots, belong to none. A span stops where the next
    begins; the last stops one frame after the last frame.
    """
    frame = float(np.median(np.diff(pts))) if len(pts) > 1 else 1 / (fps or 25)
    times = np.append(pts, pts[-1] + frame)
    begins = [0, *(int(end) for _, end in transitions)]
    ends = [*(int(begin) for begin, _ in transitions), len(pts)]
    shots = []
    for begin, end in zip(begins, ends, strict=True):
        if begin >= end:
            continue
        seconds = float(times[end] - times[begin])
        # A frame of tolerance: 10 s and one frame is one span, not two of 5 s.
        count = min(end - begin, max(1, int(np.ceil((seconds - frame) / longest_seconds))))
        edges = times[np.rint(np.linspace(begin, end, count + 1)).astype(int)]
        shots += [Shot(float(a), float(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return shots
