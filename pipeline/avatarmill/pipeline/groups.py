"""Which sources are packed together: decided when the list is planned, kept over restarts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avatarmill.pipeline.types import Source
from avatarmill.records.atomic import write_bytes

PLAN_NAME = "plan.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """Packing groups of a run."""

    groups: tuple[tuple[Source, ...], ...]
    fingerprint: str
    """Of everything but the list that decides the bytes of the shards."""


def split_duplicates(
    sources: Sequence[Source],
) -> tuple[list[Source], list[tuple[Source, Source]]]:
    """Sources with distinct bytes in order of sha256 and uri, and (duplicate, first) pairs.

    Empty files are all alike: each is kept, so that each is rejected under its own name.
    """
    first: dict[str, Source] = {}
    unique, duplicates = [], []
    for source in sorted(sources, key=lambda s: (s.uri, s.sha256)):
        if source.size_bytes and source.sha256 in first:
            duplicates.append((source, first[source.sha256]))
        else:
            first.setdefault(source.sha256, source)
            unique.append(source)
    return unique, duplicates


def by_precedence(sources: Sequence[Source], folder: Path, fingerprint: str) -> list[Source]:
    """Sources in the order in which the first of several copies stays: of the list, by URI.

    Those that an earlier run planned come first: a copy that joins the list later does not take
    the place of a source whose clips are finished.

    Raises:
        ValueError: `folder` holds a plan made with another configuration.
    """
    earlier = _read_plan(folder / PLAN_NAME, fingerprint)
    planned = {(uri, sha256) for group in earlier for uri, sha256 in group}
    return sorted(sources, key=lambda s: ((s.uri, s.sha256) not in planned, s.uri))


def plan_groups(
    sources: Sequence[Source], folder: Path, *, group_size: int, fingerprint: str
) -> Plan:
    """The plan of a run in `folder`; what an earlier run planned there stays where it was.

    New sources of the list go into new groups behind the old ones, so finished shards keep their
    bytes when a list grows. A source that is not in `sources` any more leaves its group.

    Raises:
        ValueError: `folder` holds a plan made with another configuration.
    """
    path = folder / PLAN_NAME
    earlier = _read_plan(path, fingerprint)
    listed = {source.uri: source for source in sorted(sources, key=lambda s: s.uri)}
    groups = [
        tuple(listed.pop(uri) for uri, sha in group if _same(listed.get(uri), sha))
        for group in earlier
    ]
    rest = list(listed.values())
    groups += [tuple(rest[i : i + group_size]) for i in range(0, len(rest), group_size)]
    # Sorted keys and no times in it: the plan too is the same bytes for the same run.
    document = {
        "fingerprint": fingerprint,
        "groups": [[[s.uri, s.sha256] for s in group] for group in groups],
    }
    write_bytes(path, json.dumps(document, indent=1, sort_keys=True).encode())
    return Plan(tuple(groups), fingerprint)


def planned_groups(folder: Path) -> int:
    """Groups with a source in the plan of `folder`; 0 where nothing is planned yet."""
    path = folder / PLAN_NAME
    return sum(map(bool, json.loads(path.read_bytes())["groups"])) if path.exists() else 0


def _same(source: Source | None, sha256: str) -> bool:
    return source is not None and source.sha256 == sha256


def _read_plan(path: Path, fingerprint: str) -> list[list[list[str]]]:
    if not path.exists():
        return []
    document = json.loads(path.read_bytes())
    if document["fingerprint"] != fingerprint:
        raise ValueError(
            f"out: {path.parent} holds clips of another configuration or code version "
            f"({document['fingerprint'][:12]}, now {fingerprint[:12]}); choose another --out or "
            "remove that folder"
        )
    groups: list[list[list[str]]] = document["groups"]
    return groups
