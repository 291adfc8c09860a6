"""The cut job: a list of videos in, shards of their shots as video files out, people or not.

It shares the passes of the curation job: groups, commit files, resume, reject table and ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from avatarmill.pipeline.decode import DecodeConfig
from avatarmill.pipeline.encode import EncodeConfig, EncodedShot, encode
from avatarmill.pipeline.executor import StageSpec
from avatarmill.pipeline.groups import (
    by_precedence,
    plan_groups,
    planned_with,
    split_duplicates,
)
from avatarmill.pipeline.list_job import ListConfig, run_watched
from avatarmill.pipeline.rounds import Making, close_run, make_groups, scan_all
from avatarmill.pipeline.scanning import SCAN_VERSION, scan_stages, source_reject
from avatarmill.pipeline.spool import Spool
from avatarmill.pipeline.types import Reject, Source
from avatarmill.pipeline.watch import Watch
from avatarmill.pipeline.work import Content, Outcome, ShotSpan
from avatarmill.records.commit import sweep
from avatarmill.records.fingerprint import fingerprint
from avatarmill.records.ledger import InputState
from avatarmill.records.shot import SHOT_INDEX, ShotMeta, shot_record
from avatarmill.records.tombstones import buried

VERSION = 1
"""Raised when a change of the code changes the files that are cut."""


def _every_frame() -> DecodeConfig:
    return DecodeConfig(fps=1000.0, max_side=16384)


@dataclass(frozen=True, slots=True)
class CutConfig(ListConfig):
    """A list of videos and how their shots are encoded; they go to OUT/shots."""

    decode: DecodeConfig = field(default_factory=_every_frame)
    """Every frame at its size, unless `fps` and `max_side` say otherwise."""
    encode: EncodeConfig = field(default_factory=EncodeConfig)


class CutStage:
    """A shot to its file."""

    def __init__(self, config: CutConfig, made_by: str) -> None:
        self._config, self._made_by = config, made_by
        self._spool = Spool(config.fetch)

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        """One outcome: the shot as a sample, or why there is none."""
        assert isinstance(content, ShotSpan)
        with self._spool.local(source) as local:
            if isinstance(local, Reject):
                return [source_reject(local)]
            made = encode(
                local.path, content.probe, content.shot, self._config.decode, self._config.encode
            )
        if isinstance(made, Reject):
            return [Outcome(rejects=(made,))]
        return [Outcome((shot_record(self._meta(source, content, made), made.data),))]

    def _meta(self, source: Source, span: ShotSpan, made: EncodedShot) -> ShotMeta:
        return ShotMeta(
            source_uri=source.uri,
            source_sha256=source.sha256,
            licence=source.licence,
            consent=source.consent,
            start_seconds=span.shot.start_seconds,
            stop_seconds=span.shot.stop_seconds,
            width=made.width,
            height=made.height,
            pts_seconds=tuple(float(time) for time in made.pts_seconds),
            fingerprint=self._made_by,
            listed=source.listed,
        )

    def close(self) -> None:
        """Lets go of the file."""
        self._spool.close()


def run(config: CutConfig) -> int:
    """Cuts every source of the list that is not finished yet.

    Returns:
        0 when every source ended kept, rejected or as a duplicate; 1 when our own code failed on
        some, or the disk is full. Rerunning the same command tries those again and skips what
        is finished.

    Raises:
        ValueError: nothing to do, or the folder holds a run with another configuration.
    """
    return run_watched("cut", config, _run)


def _run(config: CutConfig, watch: Watch) -> int:
    sources = config.sources()
    folder = config.out / "shots"
    scanned_by = fingerprint([SCAN_VERSION, config.probe, config.shots])
    made_by = fingerprint([VERSION, config.decode, config.encode, scanned_by])
    if not config.regenerate and planned_with(folder) not in ("", made_by):
        raise ValueError(
            f"out: {folder} holds shots of other settings or another code version; --regenerate "
            "makes them again, or choose another --out"
        )
    watch.progress.inputs(len(sources))
    watch.log.event("started", inputs=len(sources), fingerprint=made_by)
    sweep(folder)
    scanning = scan_stages(config, config.fetch, buried(folder))
    sources, scans = scan_all(sources, scanning, config.workers, folder, scanned_by, watch)
    unique, exact = split_duplicates(sources)
    copies = [
        InputState(copy.uri, copy.sha256, "duplicate", f"same bytes as {first.uri}")
        for copy, first in exact
    ]
    plan = plan_groups(
        by_precedence(unique, folder), folder, group_size=config.group_size, fingerprint=made_by
    )
    cutting = [StageSpec("cut", partial(CutStage, config, made_by))]
    making = Making(cutting, config.workers, SHOT_INDEX, folder, plan, "cut")
    return close_run(folder, copies, sources, make_groups(making, scans, watch))
