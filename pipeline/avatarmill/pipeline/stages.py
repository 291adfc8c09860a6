"""The list of curation stages, from a file to its clips. Read it from the bottom."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numba
import torch

from avatarmill.pipeline.captioner import CaptionConfig, caption_fingerprint, create_captioner
from avatarmill.pipeline.crops import MARGIN, Crops, crop_clip
from avatarmill.pipeline.decode import DecodeConfig, decode
from avatarmill.pipeline.executor import StageSpec
from avatarmill.pipeline.fetch import FetchConfig
from avatarmill.pipeline.fit import FitConfig
from avatarmill.pipeline.fit_lifter import lifter_fingerprint
from avatarmill.pipeline.fitter import Fitter, FitterConfig
from avatarmill.pipeline.mask_config import MaskConfig
from avatarmill.pipeline.masks import create_segmenter
from avatarmill.pipeline.memory import Memory, MemoryConfig, measured_track
from avatarmill.pipeline.people import PeopleConfig, find_people, people_child, whole_body_child
from avatarmill.pipeline.probe import ProbeConfig
from avatarmill.pipeline.scanning import SCAN_VERSION, source_reject
from avatarmill.pipeline.select import SelectConfig, choose
from avatarmill.pipeline.shared_body import shared_body
from avatarmill.pipeline.shots import ShotConfig
from avatarmill.pipeline.spool import Spool
from avatarmill.pipeline.types import Bytes, Fit, Frames, Reject, Selection, Source, Track
from avatarmill.pipeline.work import (
    Content,
    MeasuredTrack,
    Outcome,
    ShotFits,
    ShotMeasured,
    ShotPeople,
    ShotSpan,
)
from avatarmill.records.clip import META_VERSION, Clip, ClipMeta, clip_key, clip_record
from avatarmill.records.fingerprint import fingerprint
from avatarmill.records.index import Record

STEP_VERSIONS = {"shots": SCAN_VERSION, "people": 3, "masks": 1, "fit": 2, "scores": 1, "clips": 6}
"""Raised when a change of a step's code changes what it writes. Steps are in the order in which
one builds on the other: what is made with an earlier version of one is stale from there on."""


@dataclass(frozen=True, slots=True)
class StageConfig:
    """Settings of all stages: everything but the list that decides what a source becomes."""

    probe: ProbeConfig
    shots: ShotConfig
    decode: DecodeConfig
    people: PeopleConfig
    masks: MaskConfig
    fit: FitConfig
    fitter: FitterConfig
    select: SelectConfig
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    analysis: MemoryConfig = field(default_factory=MemoryConfig)
    """Decides what is computed again, never what comes of it."""


def step_settings(config: StageConfig) -> dict[str, tuple[object, ...]]:
    """What decides the output of each step beside its code and the steps before it."""
    return {
        "shots": (config.probe, config.shots),
        "people": (config.decode, config.people),
        "masks": (config.masks,),
        "fit": (config.fit, config.fitter, shared_body().fingerprint, lifter_fingerprint()),
        "scores": (config.select.candidates, MARGIN),
        "clips": (config.select, config.captions, caption_fingerprint(config.captions)),
    }


def step_fingerprints(config: StageConfig) -> dict[str, str]:
    """Fingerprint of each step: its code version, its settings and the step before it."""
    settings = step_settings(config)
    prints: dict[str, str] = {}
    upstream = ""
    for step, version in STEP_VERSIONS.items():
        upstream = fingerprint([version, [*settings[step]], upstream])
        prints[step] = upstream
    return prints


class PeopleStage:
    """A shot to its frames, people and masks. ffmpeg and MediaPipe run in supervised children."""

    def __init__(self, config: StageConfig, fetch: FetchConfig | None = None) -> None:
        self._config = config
        self._spool = Spool(fetch or FetchConfig())
        self._child = people_child(config.people)
        self._whole_body = whole_body_child(config.people)
        self._segmenter = create_segmenter(config.masks)
        self._memory = Memory(config.analysis, step_fingerprints(config)["scores"])

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        """The people of the shot with their masks, or why there are none.

        A shot that an earlier run has measured, with settings that lead to the same, is recalled
        with its scores: nothing is decoded or detected again.
        """
        assert isinstance(content, ShotSpan)
        known = self._memory.recall(source, content)
        if known is not None:
            return [known]
        with self._spool.local(source) as local:
            if isinstance(local, Reject):
                return [source_reject(local)]
            frames = decode(local.path, content.probe, content.shot, self._config.decode)
        found = frames if isinstance(frames, Reject) else self._people(content, frames)
        if isinstance(found, ShotPeople):
            return [found]
        nobody = ShotMeasured(content, (), (replace(found, level="shot"),))
        self._memory.keep(source, nobody)
        return [nobody]

    def _people(self, content: ShotSpan, frames: Frames) -> ShotPeople | Reject:
        people = find_people(self._child, frames, self._config.people, whole_body=self._whole_body)
        if isinstance(people, Reject):
            return people
        tracks: list[Track] = []
        masks: list[Bytes] = []
        rejects = list(people.rejects)
        for track, raw in zip(people.tracks, people.masks, strict=True):
            mask = self._segmenter.segment(frames, track, raw)
            if isinstance(mask, Reject):
                rejects.append(replace(mask, level="track"))
            else:
                tracks.append(track)
                masks.append(mask)
        return ShotPeople(content, frames, tuple(tracks), tuple(masks), tuple(rejects))

    def close(self) -> None:
        """Ends the children and lets go of the file."""
        self._spool.close()
        self._child.close()
        self._segmenter.close()
        if self._whole_body is not None:
            self._whole_body.close()


class FitStage:
    """Bodies of the people of a shot, fitted in a supervised child."""

    def __init__(self, config: StageConfig) -> None:
        self._fitter = Fitter(config.fit, config.fitter)

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        """The shot with the people whose body could be fitted, and the rejects of the others."""
        if isinstance(content, ShotMeasured):
            return [content]
        assert isinstance(content, ShotPeople)
        height, width = content.frames.images.shape[1:3]
        kept: list[tuple[Track, Bytes, Fit]] = []
        rejects = list(content.rejects)
        for track, masks in zip(content.tracks, content.masks, strict=True):
            times = content.frames.pts_seconds[track.frame_indices]
            lens = content.span.probe.focal_35mm
            fit = self._fitter.fit(track, times, width=width, height=height, focal_35mm=lens)
            if isinstance(fit, Reject):
                rejects.append(replace(fit, level="track"))
            else:
                kept.append((track, masks, fit))
        people = replace(
            content,
            tracks=tuple(track for track, _, _ in kept),
            masks=tuple(masks for _, masks, _ in kept),
            rejects=tuple(rejects),
        )
        return [ShotFits(people, tuple(fit for _, _, fit in kept))]

    def close(self) -> None:
        """Ends the child."""
        self._fitter.close()


class ScoreStage:
    """The frames of fitted people that may become a clip, measured."""

    def __init__(self, config: StageConfig) -> None:
        self._candidates = config.select.candidates
        self._body = shared_body()
        self._memory = Memory(config.analysis, step_fingerprints(config)["scores"])
        # One thread: sums keep their order, and the other cores have workers of their own.
        torch.set_num_threads(1)
        numba.set_num_threads(1)

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        """The shot with the scores of its people, kept for the next run where that is wanted."""
        if isinstance(content, ShotMeasured):
            return [content]
        assert isinstance(content, ShotFits)
        shot = content.people
        tracks = [
            measured_track(shot.frames, track, masks, fit, self._body, self._candidates)
            for track, masks, fit in zip(shot.tracks, shot.masks, content.fits, strict=True)
        ]
        measured = ShotMeasured(shot.span, tuple(tracks), shot.rejects)
        self._memory.keep(source, measured)
        return [measured]

    def close(self) -> None:
        """Nothing is held."""


class ClipStage:
    """Measured people to clips: choice of frames, crops, words."""

    def __init__(self, config: StageConfig) -> None:
        self._config = config
        self._body = shared_body()
        self._captioner = create_captioner(config.captions)
        self._fingerprints = step_fingerprints(config)
        # One thread: sums keep their order, and the other cores have workers of their own.
        torch.set_num_threads(1)
        numba.set_num_threads(1)

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        """One outcome with the clips of the shot and the rejects of its other tracks."""
        assert isinstance(content, ShotMeasured)
        clips: list[Record] = []
        rejects = list(content.rejects)
        for track in content.tracks:
            made = self._clip(source, content.span, track)
            if isinstance(made, Reject):
                rejects.append(replace(made, level="track"))
            else:
                clips.append(clip_record(made))
        return [Outcome(tuple(clips), tuple(rejects))]

    def close(self) -> None:
        """Nothing is held."""

    def _clip(self, source: Source, span: ShotSpan, one: MeasuredTrack) -> Clip | Reject:
        selection = choose(one.scores, self._config.select)
        if isinstance(selection, Reject):
            return selection
        # Scores name rows of the whole track, of which only the measured ones are here.
        own = {int(row): index for index, row in enumerate(one.scores.rows)}
        selection = replace(
            selection,
            references=tuple(own[row] for row in selection.references),
            targets=tuple(own[row] for row in selection.targets),
        )
        size = self._config.select.crop_size
        crops = crop_clip(
            one.frames, one.track, one.masks, one.fit, selection, self._body, size=size
        )
        return _clip(self._meta(source, span, one, selection, crops), selection, crops)

    def _meta(
        self,
        source: Source,
        span: ShotSpan,
        one: MeasuredTrack,
        selection: Selection,
        crops: Crops,
    ) -> ClipMeta:
        attributes, captions = self._captioner(crops, self._body)
        height, width = one.frames.images.shape[1:3]
        rows = [*selection.references, *selection.targets]
        return ClipMeta(
            source_uri=source.uri,
            source_sha256=source.sha256,
            licence=source.licence,
            consent=source.consent,
            listed=source.listed,
            pts_seconds=crops.pts_seconds,
            start_seconds=span.shot.start_seconds,
            stop_seconds=span.shot.stop_seconds,
            track=one.track.index,
            captions=captions,
            attributes=attributes,
            scores=selection.scores,
            fingerprints=self._fingerprints,
            version=META_VERSION,
            stream=span.probe.stream,
            frame_size=(width, height),
            crops=crops.squares,
            residuals_px=tuple(float(one.fit.residual_px[row]) for row in rows),
        )


def _clip(meta: ClipMeta, selection: Selection, crops: Crops) -> Clip:
    start_ms = round(1000 * max(0.0, meta.start_seconds))
    return Clip(
        key=clip_key(meta.source_sha256, start_ms, meta.track),
        images=crops.images,
        masks=crops.masks,
        intrinsics=crops.intrinsics,
        pose=crops.pose,
        shape=crops.shape,
        expression=crops.expression,
        translation=crops.translation,
        confidence=crops.confidence,
        face_boxes=crops.face_boxes,
        hand_boxes=crops.hand_boxes,
        num_references=len(selection.references),
        meta=meta,
    )


def curation_stages(config: StageConfig, fetch: FetchConfig | None = None) -> list[StageSpec]:
    """The second pass, over the shots of the sources that are no copies of others."""
    return [
        StageSpec("people", partial(PeopleStage, config, fetch)),
        StageSpec("fit", partial(FitStage, config)),
        StageSpec("scores", partial(ScoreStage, config)),
        StageSpec("clips", partial(ClipStage, config)),
    ]
