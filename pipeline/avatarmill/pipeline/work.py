"""What travels between the curation stages: a part of a source, on its way to an outcome."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from avatarmill.pipeline.frame_scores import FrameScores
from avatarmill.pipeline.shots import Scan
from avatarmill.pipeline.types import Bytes as ByteArray
from avatarmill.pipeline.types import Fit, Frames, Probe, Reject, Shot, Source, Track
from avatarmill.records.index import Record


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of the input list, not opened yet."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file whose bytes are known: the source with their sha256 and size, in place of the listed
    one. Its path is still that of the list."""

    source: Source


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
class ShotFits:
    """A decoded shot with the bodies fitted to its people: all that decides its clips."""

    people: ShotPeople
    """Only people with a fit are left in it."""
    fits: tuple[Fit, ...]
    """One for each track."""


@dataclass(frozen=True, slots=True)
class MeasuredTrack:
    """One person with the n frames that may be chosen for the clip, and their scores."""

    frames: Frames
    """The n frames."""
    track: Track
    """Over the n frames: row i is frame i."""
    masks: ByteArray
    """[n, H, W] 0..255."""
    fit: Fit
    """Over the n frames."""
    scores: FrameScores
    """Of the n frames; its rows are those of the whole track."""


@dataclass(frozen=True, slots=True)
class ShotMeasured:
    """A shot from which clips are chosen without another look at the file."""

    span: ShotSpan
    tracks: tuple[MeasuredTrack, ...]
    rejects: tuple[Reject, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a part: its clips, or why there are none. Stages hand it on untouched."""

    clips: tuple[Record, ...] = ()
    """Encoded for the shard."""
    rejects: tuple[Reject, ...] = ()
    error: str = ""
    """Traceback where our own code raised: the source ends in the state `failed`."""

    @property
    def clip_bytes(self) -> int:
        """Of the clips, without the headers of a shard."""
        return sum(len(data) for clip in self.clips for data in clip.members.values())


Content = Listed | Arrived | Scanned | ShotSpan | ShotPeople | ShotFits | ShotMeasured | Outcome


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

    @property
    def span(self) -> str:
        """Which part of the source it is, for people to read."""
        if not isinstance(self.content, ShotSpan):
            return ""
        shot = self.content.shot
        return f"{shot.start_seconds:.3f}-{shot.stop_seconds:.3f} s"


def shot_parts(source: Source, scan: Scan) -> list[Work]:
    """The shots of a scanned source as equal parts of it."""
    share = Fraction(1, len(scan.shots))
    return [Work(source, ShotSpan(scan.probe, shot), share) for shot in scan.shots]


def longest_first(groups: Sequence[Sequence[Sequence[Work]]]) -> list[Work]:
    """The parts of the sources of groups in the order in which workers should take them.

    Group after group, so that few are under way at once and what a kill loses stays small; the
    longest group first and in it the longest source and shot, so that the last parts are short.
    """
    parts: list[Work] = []
    for group in sorted(groups, key=lambda group: -sum(map(_seconds, group))):
        for source in sorted(group, key=lambda source: -_seconds(source)):
            parts += sorted(source, key=lambda part: -_seconds([part]))
    return parts


def seconds_of_video(parts: Iterable[Work]) -> dict[str, float]:
    """By URI: how long the shots among the parts are together."""
    total: defaultdict[str, float] = defaultdict(float)
    for part in parts:
        total[part.source.uri] += _seconds([part])
    return dict(total)


def _seconds(parts: Sequence[Work]) -> float:
    """Seconds of video in the parts; ended ones have none."""
    spans = [part.content for part in parts if isinstance(part.content, ShotSpan)]
    return sum(span.shot.stop_seconds - span.shot.start_seconds for span in spans)
