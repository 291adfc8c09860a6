"""`avatarmill status RUN`: where a curation job stands, running or stopped, from its run folder."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatarmill.cli.console import say, table
from avatarmill.pipeline.groups import planned_groups
from avatarmill.pipeline.status import Status, alive, read_status
from avatarmill.records.commit import list_commits

WAITING = "(waiting)"


@dataclass(frozen=True, slots=True)
class StatusConfig:
    """Which run to look at."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run: the --out of `avatarmill curate`."""


def run(config: StatusConfig) -> int:
    """Prints where the job stands; returns 0 when it runs or has finished, 1 when it stopped.

    Raises:
        ValueError: no job ever ran there.
    """
    status = read_status(config.run)
    if status is None:
        raise ValueError(f"run: {config.run} has no status.json; no `avatarmill curate` ran there")
    running = alive(status)
    for line in _lines(config, status, running):
        say(line)
    if status.stages:
        say()
        _stages(status)
    if running and status.workers:
        say()
        _workers(status)
    return 0 if running or status.state == "finished" else 1


def _lines(config: StatusConfig, status: Status, running: bool) -> Iterator[str]:
    yield f"{config.run}: {_state(status, running)}"
    yield f"{status.inputs} sources listed; {_committed(config.run / 'clips')}"
    if status.total:
        ends = "" if status.eta_seconds is None else f", about {_span(status.eta_seconds)} left"
        yield (
            f"phase {status.phase}: {status.done} of {status.total} parts, "
            f"{100 * status.fraction:.1f} % of the work, {status.queue} waiting"
            f"{ends if running else ''}"
        )
    if status.groups_done:
        ended = ", ".join(f"{count} {name}" for name, count in sorted(status.states.items()))
        yield f"this start: {status.groups_done} of {status.groups_total} groups, {ended}; " + (
            f"{status.clips} clips"
        )
    if status.rejects:
        counts = sorted(status.rejects.items(), key=lambda item: (-item[1], item[0]))
        yield "rejects: " + ", ".join(f"{count} {reason}" for reason, count in counts)


def _state(status: Status, running: bool) -> str:
    since = _span(status.time - status.started)
    if running:
        return f"running for {since} on {status.host}, process {status.pid}"
    if status.state == "running":
        ago = _span(time.time() - status.time)
        return (
            f"stopped in phase {status.phase!r} after {since}: no sign of life for {ago}; the "
            "same `avatarmill curate` command continues"
        )
    return f"{status.state} after {since}" + (f": {status.message}" if status.message else "")


def _committed(clips: Path) -> str:
    commits = list_commits(clips)
    samples = sum(len(commit.keys) for commit in commits)
    return f"{len(commits)} of {planned_groups(clips)} groups committed, {samples} clips"


def _stages(status: Status) -> None:
    rows = [
        (
            name,
            stage.done,
            f"{stage.per_minute:.1f}",
            f"{stage.seconds / max(1, stage.done):.2f}",
            stage.busy,
        )
        for name, stage in status.stages.items()
    ]
    table(("stage", "parts", "a minute", "seconds a part", "workers"), rows)


def _workers(status: Status) -> None:
    rows = [
        (f"{w.node}:{w.pid}", w.stage or WAITING, _span(w.seconds), w.done, w.uri)
        for w in sorted(status.workers, key=lambda w: (w.node, w.pid))
    ]
    table(("worker", "stage", "for", "parts done", "source"), rows)


def _span(seconds: float) -> str:
    """A duration for people.

    >>> _span(42.0), _span(4000.0), _span(400000.0)
    ('42 s', '66 min', '111.1 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
