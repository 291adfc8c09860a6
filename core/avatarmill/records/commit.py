"""Group commits: a shard and its tables exist only once one small JSON names their sha256.

FOLDER/GROUP.tar                  samples (absent for a group without samples)
FOLDER/parts/GROUP.parquet        their index rows
FOLDER/parts/GROUP.rejects.parquet
FOLDER/commits/GROUP.json         written last: a rename, or one PUT on an object store

A group from which a source was taken out later has GROUP-r1, GROUP-r2, ... in place of GROUP in
the names of the first three, so that its commit moves all readers at once.
"""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from avatarmill.records.canonical import json_bytes
from avatarmill.records.fingerprint import sha256_file
from avatarmill.records.index import (
    Record,
    Row,
    entry_of,
    location,
    merge_tables,
    read_rows,
    write_table,
)
from avatarmill.records.jsonfields import integer, read_fields, sequence_of, text
from avatarmill.records.ledger import InputState
from avatarmill.records.rejects import REJECT_INDEX, RejectRow, write_rejects
from avatarmill.records.store import TEMPORARY_SUFFIX, Store
from avatarmill.records.tarshard import ShardError, ShardReader, check_key, write_tar

logger = logging.getLogger(__name__)

COMMITS = "commits"
PARTS = "parts"
INDEX_NAME = "index.parquet"
REJECTS_NAME = "rejects.parquet"


@dataclass(frozen=True, slots=True)
class Commit:
    """What one finished group holds."""

    group: str
    fingerprint: str
    """Of everything that decides the group's bytes; another one makes the commit stale."""
    shard_sha256: str
    """Empty when no sample was kept; then there is no shard."""
    index_sha256: str
    rejects_sha256: str
    """Empty in a side-car."""
    keys: tuple[str, ...]
    inputs: tuple[InputState, ...]
    """The group's sources and how each ended."""
    revision: int = 0
    """How often a source was taken out of the finished group."""

    @property
    def stem(self) -> str:
        """What the names of the group's files begin with."""
        return f"{self.group}-r{self.revision}" if self.revision else self.group

    @property
    def shard(self) -> str:
        """Name of the shard, relative to the folder."""
        return f"{self.stem}.tar"

    @property
    def index(self) -> str:
        """Name of the index part, relative to the folder."""
        return f"{PARTS}/{self.stem}.parquet"

    @property
    def rejects(self) -> str:
        """Name of the reject table, relative to the folder."""
        return f"{PARTS}/{self.stem}.rejects.parquet"

    @property
    def files(self) -> dict[str, str]:
        """Name to sha256 of every file that the commit stands for."""
        files = {
            self.shard: self.shard_sha256,
            self.index: self.index_sha256,
            self.rejects: self.rejects_sha256,
        }
        return {name: sha256 for name, sha256 in files.items() if sha256}


def write_group(
    folder: str | Path | Store,
    group: str,
    records: Sequence[Record],
    *,
    schema: pa.Schema,
    fingerprint: str,
    inputs: Sequence[InputState] = (),
    rejects: Sequence[RejectRow] = (),
    revision: int = 0,
) -> Commit:
    """Write a group's shard, index part and rejects, then its commit; return the commit.

    Samples are written in order of their keys, so that the order of arrival leaves no trace.
    Rewriting a group with the same arguments gives the same bytes. Raises ShardError for keys
    that are not allowed or given twice.
    """
    check_key(group)
    store = Store.of(folder)
    ordered = sorted(records, key=lambda record: record.key)
    commit = Commit(
        group=group,
        fingerprint=fingerprint,
        shard_sha256="",
        index_sha256="",
        rejects_sha256="",
        keys=tuple(record.key for record in ordered),
        inputs=tuple(sorted(inputs, key=lambda state: state.uri)),
        revision=revision,
    )
    rows: list[dict[str, object]] = []
    shard_sha256 = ""
    if ordered:
        samples = ((record.key, record.members) for record in ordered)
        written = write_tar(store.path(commit.shard), samples)
        shard_sha256 = written.sha256
        for record, entry in zip(ordered, written.entries, strict=True):
            rows.append({**location(entry, commit.shard), **record.row})
    commit = dataclasses.replace(
        commit,
        shard_sha256=shard_sha256,
        index_sha256=write_table(store.path(commit.index), rows, schema),
        rejects_sha256=write_rejects(store.path(commit.rejects), rejects),
    )
    store.put_atomic(commit_name(group), commit_bytes(commit))
    return commit


def write_rows(
    folder: str | Path | Store,
    group: str,
    rows: Sequence[Row],
    schema: pa.Schema,
    fingerprint: str,
) -> Commit:
    """Commit a group that is a table without samples, its rows in the given order of keys."""
    store = Store.of(folder)
    check_key(group)
    commit = Commit(group, fingerprint, "", "", "", tuple(str(row["key"]) for row in rows), ())
    index_sha256 = write_table(store.path(commit.index), rows, schema)
    commit = dataclasses.replace(commit, index_sha256=index_sha256)
    store.put_atomic(commit_name(group), commit_bytes(commit))
    return commit


def commit_name(group: str) -> str:
    """Return the name of a group's commit file, relative to the folder."""
    return f"{COMMITS}/{group}.json"


def commit_bytes(commit: Commit) -> bytes:
    """Encode a commit; the revision is left out where it is 0."""
    fields = dataclasses.asdict(commit)
    if not commit.revision:
        del fields["revision"]
    return json_bytes(fields)


def read_commit(folder: str | Path | Store, group: str) -> Commit | None:
    """Return the group's commit, or None when the group is not finished."""
    try:
        return _parse(commit_name(group), Store.of(folder).read(commit_name(group)))
    except FileNotFoundError:
        return None


def list_commits(folder: str | Path | Store) -> list[Commit]:
    """Return the commits of a folder in order of their groups; none for a missing folder."""
    store = Store.of(folder)
    names = store.files(COMMITS, ".json")
    return [_parse(name, data) for name, data in zip(names, store.read_all(names), strict=True)]


def drop_commit(folder: str | Path | Store, group: str) -> None:
    """Make a group unfinished again; its files become invisible at once."""
    Store.of(folder).delete(commit_name(group))


def sweep(folder: str | Path | Store) -> list[Path]:
    """Delete what an interrupted run left: temporary files, shards and parts without a commit.

    Only the one process that writes the folder may call this. Returns the deleted paths.
    """
    store = Store.of(folder)
    wanted = {name for commit in list_commits(folder) for name in commit.files}
    left = [*store.files("", ".tar"), *store.files(PARTS, ".parquet")]
    if store.local:
        temporary = store.local.rglob(f"*{TEMPORARY_SUFFIX}")
        left += [path.relative_to(store.local).as_posix() for path in temporary]
    stray = sorted(name for name in left if name not in wanted)
    for name in stray:
        logger.info("removing %s, which no commit names", name)
        store.delete(name)
    return [store.path(name) for name in stray]


def merge(folder: str | Path | Store, schema: pa.Schema) -> int:
    """Write index.parquet and rejects.parquet from the committed parts; return the index rows."""
    store, commits = Store.of(folder), list_commits(folder)
    rejects = [store.path(commit.rejects) for commit in commits]
    merge_tables(store.path(REJECTS_NAME), rejects, REJECT_INDEX)
    index = [store.path(commit.index) for commit in commits]
    return merge_tables(store.path(INDEX_NAME), index, schema)


def verify(folder: str | Path | Store) -> list[str]:
    """Check every committed byte and return what is wrong, one line each; empty means good."""
    store = Store.of(folder)
    return [line for commit in list_commits(folder) for line in _problems(store, commit)]


def _problems(store: Store, commit: Commit) -> Iterator[str]:
    broken = False
    for name, sha256 in commit.files.items():
        short = name.rpartition("/")[2]
        if not store.exists(name):
            broken = True
            yield f"{short} is missing"
        elif sha256_file(store.path(name)) != sha256:
            broken = True
            yield f"{short} does not have the committed sha256 {sha256[:12]}"
    if not broken:
        yield from _index_problems(store, commit)


def _index_problems(store: Store, commit: Commit) -> Iterator[str]:
    rows = read_rows(store.path(commit.index))
    if tuple(str(row["key"]) for row in rows) != commit.keys:
        yield f"{commit.stem}.parquet lists other keys than the commit"
    if not rows:
        return
    with ShardReader(store.path(commit.shard)) as reader:
        for row in rows:
            try:
                reader.read(entry_of(row), verify=True)
            except ShardError as error:
                yield str(error)


def _parse(name: str, data: bytes) -> Commit:
    short = name.rpartition("/")[2]
    fields = read_fields(
        data,
        short,
        {
            **dict.fromkeys(("group", "fingerprint"), text),
            **dict.fromkeys(("shard_sha256", "index_sha256", "rejects_sha256"), text),
            "keys": sequence_of(text),
            "inputs": sequence_of(_input_state),
        },
        later={"revision": integer},
    )
    commit = Commit(**fields)
    if f"{commit.group}.json" != short:
        raise ShardError(f"{short} is the commit of group {commit.group!r}")
    return commit


def _input_state(value: object) -> InputState:
    names = {field.name for field in dataclasses.fields(InputState)}
    if not isinstance(value, dict) or value.keys() != names:
        raise TypeError(f"expected an input with {', '.join(sorted(names))}, got {value!r}")
    return InputState(**value)
