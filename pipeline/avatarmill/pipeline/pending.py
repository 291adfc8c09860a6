"""Which groups of a plan are still to be made, found by one look at every commit."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from avatarmill.pipeline.groups import Plan
from avatarmill.pipeline.types import Source
from avatarmill.records.commit import COMMITS, Commit, drop_commit, read_commit
from avatarmill.records.store import Store

logger = logging.getLogger(__name__)

WINDOW = 16_384
"""Sources in the hands of the job at once. A list of a million goes through in windows, so that
memory does not grow with it; between two of them the workers start anew."""

NumberedGroup = tuple[int, tuple[Source, ...]]


def group_name(number: int) -> str:
    """The name of a packing group."""
    return f"clips-{number:06d}"


def pending_groups(folder: Path, plan: Plan) -> list[int]:
    """Numbers of the groups to make. The commits of groups that the plan leaves empty go."""
    names = Store.of(folder).files(COMMITS, ".json")
    committed = {Path(name).stem for name in names}
    pending: list[int] = []
    for number in range(len(plan.groups)):
        name, wanted = group_name(number), plan.names(number)
        commit = read_commit(folder, name) if name in committed else None
        if not wanted and commit is not None:
            logger.info("group %s has no source of the list any more", name)
            drop_commit(folder, name)
        elif wanted and not (commit and _is_of(commit, wanted, plan.fingerprint)):
            pending.append(number)
    return pending


def _is_of(commit: Commit, wanted: frozenset[tuple[str, str]], made_by: str) -> bool:
    """Committed for these very sources by this recipe, and none of them failed."""
    if commit.fingerprint != made_by or any(s.state == "failed" for s in commit.inputs):
        return False
    return {(state.uri, state.sha256) for state in commit.inputs} == wanted


def windows(plan: Plan, numbers: Sequence[int]) -> Iterator[list[NumberedGroup]]:
    """The groups with their sources, as many at once as fit into a window."""
    window: list[NumberedGroup] = []
    held = 0
    for number in numbers:
        group = plan.groups[number]
        if window and held + len(group) > WINDOW:
            yield window
            window, held = [], 0
        window.append((number, group))
        held += len(group)
    if window:
        yield window
