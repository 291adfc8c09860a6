"""The curation job: a list of videos in, committed clip shards, index, rejects and ledger out."""

import errno
import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from avatarmill.pipeline.captioner import CaptionConfig
from avatarmill.pipeline.copies import near_copies
from avatarmill.pipeline.decode import DecodeConfig
from avatarmill.pipeline.fetch import FetchConfig
from avatarmill.pipeline.fit import FitConfig
from avatarmill.pipeline.fitter import FitterConfig
from avatarmill.pipeline.gather import FinishedGroup, Gather
from avatarmill.pipeline.groups import (
    Plan,
    by_precedence,
    plan_groups,
    planned_with,
    split_duplicates,
)
from avatarmill.pipeline.identify import stat_files, with_identity
from avatarmill.pipeline.ingest import check_input, read_list
from avatarmill.pipeline.mask_config import MaskConfig
from avatarmill.pipeline.memory import MemoryConfig
from avatarmill.pipeline.near_duplicates import NearDuplicateConfig
from avatarmill.pipeline.passes import on_workers, scanned_parts
from avatarmill.pipeline.pending import (
    WINDOW,
    NumberedGroup,
    group_name,
    pending_groups,
    windows,
)
from avatarmill.pipeline.people import PeopleConfig
from avatarmill.pipeline.pilot import Pilot, compare, read_pilot
from avatarmill.pipeline.pools import Workers
from avatarmill.pipeline.probe import ProbeConfig
from avatarmill.pipeline.recipe import recipe_fingerprint, refuse_other_recipe, write_recipe
from avatarmill.pipeline.run_report import write_report
from avatarmill.pipeline.scans import Scans, finish_scans, keep_scans, load_scans
from avatarmill.pipeline.select import SelectConfig
from avatarmill.pipeline.shots import ShotConfig
from avatarmill.pipeline.source_table import SourceTable
from avatarmill.pipeline.stages import (
    StageConfig,
    curation_stages,
    scan_stages,
    step_fingerprints,
)
from avatarmill.pipeline.watch import Watch, WatchConfig
from avatarmill.pipeline.work import Outcome, Work, longest_first, seconds_of_video
from avatarmill.records.atomic import write_bytes
from avatarmill.records.canonical import json_bytes
from avatarmill.records.clip import CLIP_INDEX
from avatarmill.records.commit import (
    drop_commit,
    list_commits,
    merge,
    sweep,
    write_group,
)
from avatarmill.records.ledger import InputState, check_ledger, write_ledger
from avatarmill.records.rejects import read_rejects
from avatarmill.records.runs import write_config
from avatarmill.records.tombstones import buried

logger = logging.getLogger(__name__)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class CurateConfig:
    """Which videos, where the clips go, and the settings of every stage."""

    videos: Path
    """Folder, glob or video, or a .txt, .csv, .jsonl or .parquet list of places; local, http(s)://,
    s3:// or gs://. Other columns of a list travel with the clips."""
    out: Path
    """The run's folder, on a disk or s3:// or gs://; clips go to OUT/clips."""
    group_size: int = 8
    """Sources packed into one shard, and lost together when the job is killed half-way."""
    regenerate: bool = False
    """Make groups again that other settings or another code version made."""
    workers: Workers = field(default_factory=Workers)
    watch: WatchConfig = field(default_factory=WatchConfig)
    fetch: FetchConfig = field(default_factory=FetchConfig)
    near_duplicates: NearDuplicateConfig = field(default_factory=NearDuplicateConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    shots: ShotConfig = field(default_factory=ShotConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    people: PeopleConfig = field(default_factory=PeopleConfig)
    masks: MaskConfig = field(default_factory=MaskConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    fitter: FitterConfig = field(default_factory=FitterConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    analysis: MemoryConfig = field(default_factory=MemoryConfig)

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise ValueError(f"group_size: {self.group_size} must be at least 1")
        try:
            check_input(self.videos)
        except ValueError as error:
            raise ValueError(f"videos: {error}") from error

    def stages(self) -> StageConfig:
        """The settings that decide what a source becomes."""
        return StageConfig(
            self.probe,
            self.shots,
            self.decode,
            self.people,
            self.masks,
            self.fit,
            self.fitter,
            self.select,
            self.captions,
            replace(self.analysis, folder=self.analysis.folder or self.out / "analysis"),
        )


def run(config: CurateConfig) -> int:
    """Curates every source of the list that is not finished yet.

    Returns:
        0 when every source ended kept, rejected or as a duplicate; 1 when our own code failed
        on some, or the disk is full. Rerunning the same command tries those again and skips what
        is finished.

    Raises:
        ValueError: nothing to do, or the folder holds a run with another configuration.
    """
    try:
        write_config(config.out, "curate", config)
        with Watch(config.out, config.watch) as watch:
            return _run(config, watch)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        logger.error(
            "no space left for %s (%s); what is committed is whole: free some space and run the "
            "same command again",
            config.out,
            error.strerror,
        )
        return 1


def _run(config: CurateConfig, watch: Watch) -> int:
    sources = stat_files(read_list(config.videos, config.fetch))
    if not len(sources):
        raise ValueError(f"videos: no video files in {config.videos}")
    folder = config.out / "clips"
    steps = step_fingerprints(config.stages())
    made_by = recipe_fingerprint(config.stages())
    if not config.regenerate:
        refuse_other_recipe(folder, planned_with(folder), config.stages())
    write_recipe(folder, config.stages())
    pilot = _pilot(config.out, folder, made_by, len(sources))
    watch.progress.inputs(len(sources))
    watch.log.event("started", inputs=len(sources), fingerprint=made_by, steps=steps)
    sweep(folder)
    sources, scans = _scan(config, sources, folder, steps["shots"], watch)
    unique, exact = split_duplicates(sources)
    unique = by_precedence(unique, folder)
    watch.progress.phase("copies")
    copies = near_copies(unique, scans, config.near_duplicates, folder, steps["shots"])
    copies += [
        InputState(copy.uri, copy.sha256, "duplicate", f"same bytes as {first.uri}")
        for copy, first in exact
    ]
    plan = plan_groups(
        unique.without({copy.uri for copy in copies}),
        folder,
        group_size=config.group_size,
        fingerprint=made_by,
    )
    pending = pending_groups(folder, plan)
    gather = Gather()
    gather.seconds.update(scans.seconds)
    watch.progress.groups(len(pending))
    for window in windows(plan, pending):
        _curate(config, plan, gather, window, scans, folder, watch)
    watch.progress.phase("merge")
    merge(folder, CLIP_INDEX)
    code = _close(folder, copies, sources, gather, pilot)
    write_report(folder)
    return code


def _pilot(out: Path, folder: Path, made_by: str, sources: int) -> Pilot | None:
    """The pilot this start can be held against: of this recipe and list, nothing done yet."""
    pilot = read_pilot(out)
    if pilot is None or (pilot.recipe, pilot.sources) != (made_by, sources):
        return None
    return None if list_commits(folder) else pilot


def _scan(
    config: CurateConfig, sources: SourceTable, folder: Path, made_by: str, watch: Watch
) -> tuple[SourceTable, Scans]:
    """The first pass: every source that no earlier run has scanned is fetched and decoded once.

    Returns the sources with the sha256 of their bytes, and what was seen of them.
    """
    scans = load_scans(folder, made_by)
    sources = with_identity(sources, scans.known)
    stages = scan_stages(config.stages(), config.fetch, buried(folder))
    left = sources.where(~scans.found.has(sources))
    for start in range(0, len(left), WINDOW):
        # The largest first: the pass does not end with one long film on one worker.
        window = sorted(left[start : start + WINDOW], key=lambda s: (-s.size_bytes, s.uri))
        sizes = {source.uri: source.size_bytes for source in window}
        watch.progress.phase("scan", len(window), sizes)
        works = [Work(source) for source in window]
        keep_scans(folder, on_workers(works, stages, config.workers, watch), scans, made_by)
    sources = with_identity(sources, scans.known)
    finish_scans(folder, sources, scans, made_by)
    return sources, scans


def _curate(
    config: CurateConfig,
    plan: Plan,
    gather: Gather,
    window: list[NumberedGroup],
    scans: Scans,
    folder: Path,
    watch: Watch,
) -> None:
    """The second pass: shots to clips; each group is committed as it completes."""
    gather.begin(window)
    parts = longest_first(
        [[scanned_parts(source, scans) for source in group] for _, group in window]
    )
    ended = [part for part in parts if isinstance(part.content, Outcome)]
    shots = [part for part in parts if not isinstance(part.content, Outcome)]
    watch.progress.phase("curate", len(shots), seconds_of_video(shots))
    stages = curation_stages(config.stages(), config.fetch)
    made = on_workers(shots, stages, config.workers, watch)
    for work in chain(ended, made):
        group = gather.add(work)
        if group is not None:
            _commit(folder, group, plan.fingerprint)
            watch.progress.group(group)
            watch.log.event("committed", group=group.number, clips=len(group.records))
    if left := gather.unfinished():
        raise RuntimeError(f"{len(left)} sources never came back, the first is {left[0]}")


def _commit(folder: Path, group: FinishedGroup, fingerprint: str) -> None:
    name = group_name(group.number)
    # A commit of an earlier recipe goes first: it must not stand beside half of the new files.
    drop_commit(folder, name)
    write_group(
        folder,
        name,
        group.records,
        schema=CLIP_INDEX,
        fingerprint=fingerprint,
        inputs=group.inputs,
        rejects=group.rejects,
    )


def _close(
    folder: Path,
    copies: list[InputState],
    sources: SourceTable,
    gather: Gather,
    pilot: Pilot | None,
) -> int:
    """Checks that the ledger adds up, writes it and the summary, and says how the run ended."""
    states = [state for commit in list_commits(folder) for state in commit.inputs]
    states += copies
    counts = check_ledger(states, sources.column("uri").to_pylist())
    write_ledger(folder / "ledger.parquet", states)
    reasons = Counter(row.reason for row in read_rejects(folder / "rejects.parquet"))
    clips = sum(state.samples for state in states)
    summary: dict[str, object] = {
        "inputs": len(sources),
        "states": counts,
        "clips": clips,
        "rejects": dict(sorted(reasons.items())),
        "stage_seconds": {name: round(s, 2) for name, s in sorted(gather.seconds.items())},
    }
    if pilot is not None:
        actual: dict[str, float] = {"worker_seconds": sum(gather.seconds.values()), "clips": clips}
        actual |= {"bytes": gather.clip_bytes, "yield": counts["kept"] / len(sources)}
        summary["pilot"] = compare(pilot, actual)
    write_bytes(folder / "summary.json", json_bytes(summary) + b"\n")
    return 1 if counts["failed"] else 0
