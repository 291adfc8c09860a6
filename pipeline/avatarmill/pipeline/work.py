"""What travels between the curation stages: a part of a source, on its way to an outcome."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from avatarmill.pipeline.shots import Scan
from avatarmill.pipeline.types import Bytes as ByteArray
from avatarmill.pipeline.types import Frames, Probe, Reject, Shot, Source, Track
from avatarmill.records.index import Record


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of the input list, not opened yet."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """A file whose frames have all been seen once: what the first pass of the job ends with."""

    scan: Scan


@dataclass(frozen=True, slots=True)
class ShotSpan:
    """One shot of a probed file, not decoded yet."""

    probe: Probe
    shot: Shot


@dataclass(frozen=True, slots=True)
class ShotPeople:
    """A decoded shot with the people found in it."""

    span: ShotSpan
    frames: Frames
    tracks: tuple[Track, ...]
    masks: tuple[ByteArray, ...]
    """[T, H, W] 0..255 of each track, over the frames of the track."""
    rejects: tuple[Reject, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a part: its clips, or why there are none. Stages hand it on untouched."""

    clips: tuple[Record, ...] = ()
    """Encoded for the shard."""
    rejects: tuple[Reject, ...] = ()
    error: str = ""
    """Traceback where our own code raised: the source ends in the state `failed`."""


Content = Listed | Scanned | ShotSpan | ShotPeople | Outcome


class Stage(Protocol):
    """A step of the pipeline: one content in, at least one out (a file becomes its shots)."""

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        """The contents that come after `content` of `source`."""

    def close(self) -> None:
        """Ends the children the stage holds."""


@dataclass(frozen=True, slots=True)
class Work:
    """One part of one source between two stages."""

    source: Source
    content: Content = Listed()
    share: Fraction = Fraction(1)
    """The part's share of its source. A stage that makes k parts of one gives each 1/k of the
    share, so the source is finished exactly when the shares of its outcomes add up to 1."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds each stage spent on this part alone."""


def shot_parts(source: Source, scan: Scan) -> list[Work]:
    """The shots of a scanned source as equal parts of it."""
    share = Fraction(1, len(scan.shots))
    return [Work(source, ShotSpan(scan.probe, shot), share) for shot in scan.shots]
