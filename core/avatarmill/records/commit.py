"""Group commits: a shard and its tables exist only once one small JSON names their sha256.

FOLDER/GROUP.tar                  samples (absent for a group without samples)
FOLDER/parts/GROUP.parquet        their index rows
FOLDER/parts/GROUP.rejects.parquet
FOLDER/commits/GROUP.json         written last, by rename
"""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from avatarmill.records.atomic import TEMPORARY_SUFFIX, write_bytes
from avatarmill.records.fingerprint import sha256_file
from avatarmill.records.index import (
    Record,
    entry_of,
    location,
    merge_tables,
    read_rows,
    write_table,
)
from avatarmill.records.jsonfields import read_fields, sequence_of, text, to_json
from avatarmill.records.ledger import InputState
from avatarmill.records.rejects import REJECT_INDEX, RejectRow, write_rejects
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
    keys: tuple[str, ...]
    inputs: tuple[InputState, ...]
    """The group's sources and how each ended."""

    @property
    def shard(self) -> str:
        """File name of the shard, relative to the folder."""
        return f"{self.group}.tar"


def write_group(
    folder: Path,
    group: str,
    records: Sequence[Record],
    *,
    schema: pa.Schema,
    fingerprint: str,
    inputs: Sequence[InputState] = (),
    rejects: Sequence[RejectRow] = (),
) -> Commit:
    """Write a group's shard, index part and rejects, then its commit; return the commit.

    Samples are written in order of their keys, so that the order of arrival leaves no trace.
    Rewriting a group with the same arguments gives the same bytes. Raises ShardError for keys
    that are not allowed or given twice.
    """
    check_key(group)
    ordered = sorted(records, key=lambda record: record.key)
    shard, index, rejected = _paths(folder, group)
    rows: list[dict[str, object]] = []
    shard_sha256 = ""
    if ordered:
        written = write_tar(shard, ((record.key, record.members) for record in ordered))
        shard_sha256 = written.sha256
        for record, entry in zip(ordered, written.entries, strict=True):
            rows.append({**location(entry, shard.name), **record.row})
    write_table(index, rows, schema)
    write_rejects(rejected, rejects)
    commit = Commit(
        group=group,
        fingerprint=fingerprint,
        shard_sha256=shard_sha256,
        index_sha256=sha256_file(index),
        rejects_sha256=sha256_file(rejected),
        keys=tuple(record.key for record in ordered),
        inputs=tuple(sorted(inputs, key=lambda state: state.uri)),
    )
    write_bytes(_commit_path(folder, group), to_json(commit))
    return commit


def _paths(folder: Path, group: str) -> tuple[Path, Path, Path]:
    parts = folder / PARTS
    return (
        folder / f"{group}.tar",
        parts / f"{group}.parquet",
        parts / f"{group}.rejects.parquet",
    )


def _commit_path(folder: Path, group: str) -> Path:
    return folder / COMMITS / f"{group}.json"


def read_commit(folder: Path, group: str) -> Commit | None:
    """Return the group's commit, or None when the group is not finished."""
    path = _commit_path(folder, group)
    return _parse(path) if path.exists() else None


def list_commits(folder: Path) -> list[Commit]:
    """Return the commits of a folder in order of their groups; none for a missing folder."""
    return [_parse(path) for path in sorted((folder / COMMITS).glob("*.json"))]


def drop_commit(folder: Path, group: str) -> None:
    """Make a group unfinished again; its files become invisible at once."""
    _commit_path(folder, group).unlink(missing_ok=True)


def sweep(folder: Path) -> list[Path]:
    """Delete what an interrupted run left: temporary files, shards and parts without a commit.

    Only the one process that writes the folder may call this. Returns the deleted paths.
    """
    groups = {commit.group for commit in list_commits(folder)}
    wanted = {path for group in groups for path in _paths(folder, group)}
    left = [*folder.rglob(f"*{TEMPORARY_SUFFIX}"), *folder.glob("*.tar")]
    left += (folder / PARTS).glob("*.parquet")
    stray = sorted(path for path in left if path not in wanted)
    for path in stray:
        logger.info("removing %s, which no commit names", path.name)
        path.unlink()
    return stray


def merge(folder: Path, schema: pa.Schema) -> int:
    """Write index.parquet and rejects.parquet from the committed parts; return the index rows."""
    paths = [_paths(folder, commit.group) for commit in list_commits(folder)]
    merge_tables(folder / REJECTS_NAME, [rejected for _, _, rejected in paths], REJECT_INDEX)
    return merge_tables(folder / INDEX_NAME, [index for _, index, _ in paths], schema)


def verify(folder: Path) -> list[str]:
    """Check every committed byte and return what is wrong, one line each; empty means good."""
    return [line for commit in list_commits(folder) for line in _problems(folder, commit)]


def _problems(folder: Path, commit: Commit) -> Iterator[str]:
    shard, index, rejected = _paths(folder, commit.group)
    expected = {index: commit.index_sha256, rejected: commit.rejects_sha256}
    if commit.shard_sha256:
        expected[shard] = commit.shard_sha256
    broken = False
    for path, sha256 in expected.items():
        if not path.exists():
            broken = True
            yield f"{path.name} is missing"
        elif sha256_file(path) != sha256:
            broken = True
            yield f"{path.name} does not have the committed sha256 {sha256[:12]}"
    if not broken:
        yield from _index_problems(shard, index, commit)


def _index_problems(shard: Path, index: Path, commit: Commit) -> Iterator[str]:
    rows = read_rows(index)
    if tuple(str(row["key"]) for row in rows) != commit.keys:
        yield f"{index.name} lists other keys than the commit"
    if not rows:
        return
    with ShardReader(shard) as reader:
        for row in rows:
            try:
                reader.read(entry_of(row), verify=True)
            except ShardError as error:
                yield str(error)


def _parse(path: Path) -> Commit:
    fields = read_fields(
        path.read_bytes(),
        path.name,
        {
            **dict.fromkeys(("group", "fingerprint"), text),
            **dict.fromkeys(("shard_sha256", "index_sha256", "rejects_sha256"), text),
            "keys": sequence_of(text),
            "inputs": sequence_of(_input_state),
        },
    )
    commit = Commit(**fields)
    if commit.group != path.stem:
        raise ShardError(f"{path.name} is the commit of group {commit.group!r}")
    return commit


def _input_state(value: object) -> InputState:
    names = {field.name for field in dataclasses.fields(InputState)}
    if not isinstance(value, dict) or value.keys() != names:
        raise TypeError(f"expected an input with {', '.join(sorted(names))}, got {value!r}")
    return InputState(**value)
