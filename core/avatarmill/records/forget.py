"""Taking one source out of a finished folder of shards, and proving that it is gone.

The tombstone comes first, so readers stop showing the source at once. Then each group that holds
it is written again under names of its own, its commit moves readers over, and the old files go.
Killed at any moment and called again, this ends in the same bytes.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from avatarmill.records.canonical import json_object
from avatarmill.records.commit import (
    INDEX_NAME,
    PARTS,
    Commit,
    list_commits,
    merge,
    write_group,
)
from avatarmill.records.fingerprint import sha256_file
from avatarmill.records.index import LOCATION_FIELDS, Record, Row, entry_of, load_table
from avatarmill.records.ledger import InputState
from avatarmill.records.rejects import RejectRow, read_rejects
from avatarmill.records.sidecars import drop_orphans
from avatarmill.records.store import Store
from avatarmill.records.tarshard import ShardReader, read_tar
from avatarmill.records.tombstones import bury

REASON = "forgotten"
"""Why a forgotten source is rejected."""
STAGE = "forget"

_LOCATION = frozenset(field.name for field in LOCATION_FIELDS)
_FILE = re.compile(r"(?P<group>.+?)(?:-r(?P<revision>\d+))?(?:\.rejects)?\.(?:tar|parquet)")


@dataclass(frozen=True, slots=True)
class Proof:
    """What a look at every byte of a folder's shards found after a source was taken out."""

    shards: int
    samples: int
    num_bytes: int
    problems: tuple[str, ...]
    """Where the source is still found, and shards without their committed sha256."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done in one folder."""

    groups: tuple[str, ...]
    """Written again by this call."""
    samples: int
    """Taken out by this call."""
    unchanged: int
    """Groups whose files nobody touched."""


def forget_source(
    folder: str | Path | Store,
    source_sha256: str,
    *,
    reason: str,
    fingerprints: Callable[[Commit], str] | None = None,
) -> Forgotten:
    """Bury a source, then take it out of the shards, index parts, rejects and commits.

    Only the process that writes the folder may call this; no job may be running on it.

    Args:
        folder: clip or token shards.
        source_sha256: of the bytes of the source.
        reason: kept with the tombstone and, for clips, in the reject table.
        fingerprints: of a commit that was written again; by default it keeps its own.
    """
    store = Store.of(folder)
    bury(folder, source_sha256, reason=reason)
    commits = list_commits(folder)
    touched: list[str] = []
    taken = 0
    for commit in commits:
        if _holds(store, commit, source_sha256):
            taken += _rewrite(store, commit, source_sha256, reason, fingerprints)
            touched.append(commit.group)
    _remove_former_files(store)
    drop_orphans(folder)
    if store.exists(INDEX_NAME):
        merge(folder, load_table(store.path(INDEX_NAME)).schema)
    return Forgotten(tuple(touched), taken, len(commits) - len(touched))


def _holds(store: Store, commit: Commit, source_sha256: str) -> bool:
    """Whether something of the source, besides the fact that it is forgotten, is in the group."""
    mine = (state for state in commit.inputs if state.sha256 == source_sha256)
    if any(state.reason != REASON for state in mine):
        return True
    if not any(key.startswith(f"{source_sha256[:12]}-") for key in commit.keys):
        return False
    rows = load_table(store.path(commit.index), columns=["source_sha256"])
    return source_sha256 in rows["source_sha256"].to_pylist()


def _rewrite(
    store: Store,
    commit: Commit,
    source_sha256: str,
    reason: str,
    fingerprints: Callable[[Commit], str] | None,
) -> int:
    """Commit the group without the source; the samples that went."""
    index = load_table(store.path(commit.index))
    rows = index.to_pylist()
    kept = [row for row in rows if row["source_sha256"] != source_sha256]
    rejects = read_rejects(store.path(commit.rejects))
    left = [row for row in rejects if row.source_sha256 != source_sha256]
    inputs = [state for state in commit.inputs if state.sha256 != source_sha256]
    if "clip_key" not in index.schema.names:
        # Of clips the inputs are sources, each of which must end in a state; of tokens, clips.
        for state in commit.inputs:
            if state.sha256 == source_sha256:
                inputs.append(InputState(state.uri, source_sha256, "rejected", REASON))
                left.append(RejectRow(state.uri, source_sha256, "source", REASON, STAGE, reason))
    write_group(
        store,
        commit.group,
        list(_records(store, commit, kept)),
        schema=_plain(index.schema),
        fingerprint=fingerprints(commit) if fingerprints else commit.fingerprint,
        inputs=inputs,
        rejects=left,
        revision=commit.revision + 1,
    )
    return len(rows) - len(kept)


def _plain(schema: pa.Schema) -> pa.Schema:
    return pa.schema(list(schema))


def _records(store: Store, commit: Commit, rows: list[Row]) -> Iterator[Record]:
    if not rows:
        return
    with ShardReader(store.path(commit.shard)) as reader:
        for row in rows:
            own = {name: value for name, value in row.items() if name not in _LOCATION}
            yield Record(str(row["key"]), reader.read(entry_of(row), verify=True), own)


def _remove_former_files(store: Store) -> None:
    """Delete what commits named before they were written again."""
    current = {commit.group: commit for commit in list_commits(store)}
    for name in [*store.files("", ".tar"), *store.files(PARTS, ".parquet")]:
        found = _FILE.fullmatch(name.rpartition("/")[2])
        commit = current.get(found["group"]) if found else None
        # A group without a commit may be one that a job is about to finish.
        if commit is not None and name not in commit.files:
            store.delete(name)


def prove(folder: str | Path | Store, source_sha256: str) -> Proof:
    """Read every sample of every shard in a folder, committed or not, and look for a source."""
    store = Store.of(folder)
    problems: list[str] = []
    committed = {commit.shard: commit for commit in list_commits(folder) if commit.shard_sha256}
    samples = size = 0
    shards = store.files("", ".tar")
    for name in shards:
        size += store.size(name)
        for key, members in read_tar(store.path(name)):
            samples += 1
            if json_object(members["json"]).get("source_sha256") == source_sha256:
                problems.append(f"{name} holds {key}")
        commit = committed.get(name)
        if commit is not None and sha256_file(store.path(name)) != commit.shard_sha256:
            problems.append(f"{name} does not have its committed sha256")
    problems += [f"{name} is missing" for name in committed.keys() - set(shards)]
    for name in [*store.files(PARTS, ".parquet"), *store.files("", INDEX_NAME)]:
        table = load_table(store.path(name))
        if source_sha256 in table["source_sha256"].to_pylist() and not _only_says_so(name, table):
            problems.append(f"{name} has rows of it")
    return Proof(len(shards), samples, size, tuple(sorted(problems)))


def _only_says_so(name: str, table: pa.Table) -> bool:
    """Whether the rows are of a reject table that says no more than that it is forgotten."""
    return name.endswith(".rejects.parquet") and REASON in table["reason"].to_pylist()
