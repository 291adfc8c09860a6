"""One video through the stages up to masks, in this process: for looking, not for jobs."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from avatarmill.pipeline.children.supervise import Child
from avatarmill.pipeline.decode import DecodeConfig, decode
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.mask_config import MaskConfig
from avatarmill.pipeline.masks import create_segmenter
from avatarmill.pipeline.people import PeopleConfig, find_people, people_child, whole_body_child
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.shots import ShotConfig, find_shots
from avatarmill.pipeline.types import Bytes, Frames, Probe, Reject, Shot, Track


@dataclass(frozen=True, slots=True)
class AnalyseConfig:
    """The settings of the stages up to masks."""

    probe: ProbeConfig = field(default_factory=ProbeConfig)
    shots: ShotConfig = field(default_factory=ShotConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    people: PeopleConfig = field(default_factory=PeopleConfig)
    masks: MaskConfig = field(default_factory=MaskConfig)


@dataclass(frozen=True, slots=True)
class AnalysedShot:
    """The people of one shot."""

    probe: Probe
    shot: Shot
    frames: Frames
    tracks: tuple[Track, ...]
    masks: tuple[Bytes, ...]
    """[T, H, W] 0..255 refined mask of each track."""
    rejects: tuple[Reject, ...]


def analyse(
    path: str | Path, config: AnalyseConfig | None = None
) -> Iterator[AnalysedShot | Reject]:
    """Shots of a video with people, tracks and masks, as they are done; a reject for what is not.

    for shot in analyse("walk.mp4"):
        if not isinstance(shot, Reject):
            print(len(shot.frames.images), [len(t.frame_indices) for t in shot.tracks])
    """
    config = config or AnalyseConfig()
    (source,) = list_sources(path)
    with video_child(config.probe) as child:
        facts = probe(child, source, config.probe)
        if isinstance(facts, Reject):
            yield facts
            return
        shots = find_shots(child, source, facts, config.shots, config.probe)
    if isinstance(shots, Reject):
        yield shots
        return
    whole_body = whole_body_child(config.people)
    with people_child(config.people) as child, whole_body or nullcontext():
        for shot in shots:
            yield _analyse_shot(child, whole_body, source.path, facts, shot, config)


def _analyse_shot(
    child: Child,
    whole_body: Child | None,
    path: str,
    facts: Probe,
    shot: Shot,
    config: AnalyseConfig,
) -> AnalysedShot | Reject:
    frames = decode(path, facts, shot, config.decode)
    if isinstance(frames, Reject):
        return frames
    people = find_people(child, frames, config.people, whole_body=whole_body)
    if isinstance(people, Reject):
        return people
    segmenter = create_segmenter(config.masks)
    tracks, masks, rejects = [], [], list(people.rejects)
    for track, raw in zip(people.tracks, people.masks, strict=True):
        mask = segmenter.segment(frames, track, raw)
        if isinstance(mask, Reject):
            rejects.append(mask)
        else:
            tracks.append(track)
            masks.append(mask)
    segmenter.close()
    return AnalysedShot(facts, shot, frames, tuple(tracks), tuple(masks), tuple(rejects))
