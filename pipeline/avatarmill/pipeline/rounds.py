"""What jobs over a list of videos have in common: scan all, make groups, close the ledger."""

import errno
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa

from avatarmill.pipeline.executor import StageSpec
from avatarmill.pipeline.foreseen import Pilot, compare
from avatarmill.pipeline.gather import FinishedGroup, Gather
from avatarmill.pipeline.groups import Plan
from avatarmill.pipeline.identify import with_identity
from avatarmill.pipeline.passes import on_workers, scanned_parts
from avatarmill.pipeline.pending import (
    WINDOW,
    NumberedGroup,
    group_name,
    pending_groups,
    windows,
)
from avatarmill.pipeline.pools import Workers
from avatarmill.pipeline.scans import Scans, finish_scans, keep_scans, load_scans
from avatarmill.pipeline.source_table import SourceTable
from avatarmill.pipeline.watch import Watch
from avatarmill.pipeline.work import Outcome, Work, longest_first, seconds_of_video
from avatarmill.records.atomic import write_bytes
from avatarmill.records.canonical import json_bytes
from avatarmill.records.commit import drop_commit, list_commits, merge, write_group
from avatarmill.records.ledger import InputState, check_ledger, write_ledger
from avatarmill.records.rejects import read_rejects

logger = logging.getLogger(__name__)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Making:
    """How the shots of a list become committed groups."""

    stages: Sequence[StageSpec]
    """From a shot to its outcome."""
    workers: Workers
    schema: pa.Schema
    """Of the index."""
    folder: Path
    plan: Plan
    phase: str
    """What `avatarmill status` calls it."""


def unless_full(out: Path, job: Callable[[], int]) -> int:
    """The exit status of a job that writes to `out`: 1, with what to do, when the disk is full."""
    try:
        return job()
    except OSError as error:
        if error.errno not in _FULL:
            raise
        logger.error(
            "no space left for %s (%s); what is committed is whole: free some space and run the "
            "same command again",
            out,
            error.strerror,
        )
        return 1


def scan_all(
    sources: SourceTable,
    stages: Sequence[StageSpec],
    workers: Workers,
    folder: Path,
    made_by: str,
    watch: Watch,
) -> tuple[SourceTable, Scans]:
    """The first pass: every source that no earlier run has scanned is fetched and decoded once.

    Returns the sources with the sha256 of their bytes, and what was seen of them.
    """
    scans = load_scans(folder, made_by)
    sources = with_identity(sources, scans.known)
    left = sources.where(~scans.found.has(sources))
    for start in range(0, len(left), WINDOW):
        # The largest first: the pass does not end with one long film on one worker.
        window = sorted(left[start : start + WINDOW], key=lambda s: (-s.size_bytes, s.uri))
        sizes = {source.uri: source.size_bytes for source in window}
        watch.progress.phase("scan", len(window), sizes)
        works = [Work(source) for source in window]
        keep_scans(folder, on_workers(works, stages, workers, watch), scans, made_by)
    sources = with_identity(sources, scans.known)
    finish_scans(folder, sources, scans, made_by)
    return sources, scans


def make_groups(making: Making, scans: Scans, watch: Watch) -> Gather:
    """The second pass: shots to samples, a window of groups at a time, and the index of all."""
    gather = Gather()
    gather.seconds.update(scans.seconds)
    pending = pending_groups(making.folder, making.plan)
    watch.progress.groups(len(pending))
    for window in windows(making.plan, pending):
        _make_window(making, window, gather, scans, watch)
    watch.progress.phase("merge")
    merge(making.folder, making.schema)
    return gather


def _make_window(
    making: Making, window: list[NumberedGroup], gather: Gather, scans: Scans, watch: Watch
) -> None:
    """Each group is committed as it completes."""
    gather.begin(window)
    parts = longest_first(
        [[scanned_parts(source, scans) for source in group] for _, group in window]
    )
    ended = [part for part in parts if isinstance(part.content, Outcome)]
    shots = [part for part in parts if not isinstance(part.content, Outcome)]
    watch.progress.phase(making.phase, len(shots), seconds_of_video(shots))
    made = on_workers(shots, making.stages, making.workers, watch)
    for work in chain(ended, made):
        group = gather.add(work)
        if group is not None:
            _commit(making, group)
            watch.progress.group(group)
            watch.log.event("committed", group=group.number, clips=len(group.records))
    if left := gather.unfinished():
        raise RuntimeError(f"{len(left)} sources never came back, the first is {left[0]}")


def _commit(making: Making, group: FinishedGroup) -> None:
    name = group_name(group.number)
    # A commit of an earlier recipe goes first: it must not stand beside half of the new files.
    drop_commit(making.folder, name)
    write_group(
        making.folder,
        name,
        group.records,
        schema=making.schema,
        fingerprint=making.plan.fingerprint,
        inputs=group.inputs,
        rejects=group.rejects,
    )


def close_run(
    folder: Path,
    copies: list[InputState],
    sources: SourceTable,
    gather: Gather,
    pilot: Pilot | None = None,
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
