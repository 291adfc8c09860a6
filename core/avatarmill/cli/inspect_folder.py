"""A folder of committed shards: its index, ledger, rejects, and what is wrong with its files."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from avatarmill.cli.inspect_pictures import Card, sample_card
from avatarmill.cli.inspect_shard import Kind, read_sample
from avatarmill.cli.inspect_tables import (
    Section,
    Table,
    facts,
    ledger_tables,
    reject_tables,
    sample_tables,
)
from avatarmill.records.commit import PARTS, REJECTS_NAME, Commit, list_commits, verify
from avatarmill.records.index import Row, entry_of, read_rows
from avatarmill.records.rejects import RejectRow, read_rejects
from avatarmill.records.tarshard import Entry, ShardError
from avatarmill.records.tombstones import buried

LEDGER_NAME = "ledger.parquet"


@dataclass(frozen=True, slots=True)
class FolderSamples:
    """Where the samples lie whose pictures can be shown."""

    folder: Path
    kind: Kind
    shards: Mapping[Path, Mapping[str, Entry]]

    def spread(self, count: int) -> Iterator[Callable[[], Card | None]]:
        """Readers of at most `count` samples, spread evenly over all of them."""
        places = [(shard, key) for shard, entries in self.shards.items() for key in entries]
        chosen = np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)
        for shard, key in (places[at] for at in chosen.tolist()):
            yield partial(_card, self.kind, shard, key, self.shards[shard][key])


def _card(kind: Kind, shard: Path, key: str, entry: Entry) -> Card | None:
    return sample_card(kind, key, read_sample(shard, entry))


def inspect_folder(
    folder: Path, *, verify_bytes: bool
) -> tuple[Section, FolderSamples, list[RejectRow]]:
    """Tables of a folder, its samples and its rejects.

    Samples of forgotten sources are counted and not shown. Without `verify_bytes` files must only
    be there and long enough for what the index says.
    """
    section = Section(folder.name)
    hidden = buried(folder)
    rows, shards, forgotten = [], {}, 0
    commits = _commits(folder, section)
    for commit in commits:
        own = _part(folder, commit, section)
        visible = [row for row in own if str(row["source_sha256"]) not in hidden]
        forgotten += len(own) - len(visible)
        rows += visible
        shards[folder / commit.shard] = {str(row["key"]): entry_of(row) for row in visible}
        section.problems += _too_short(folder / commit.shard, own)
    if verify_bytes and not section.problems:
        section.problems += verify(folder)
    section.tables.append(_counts(folder, commits, rows, forgotten, verify_bytes))
    section.tables += sample_tables(rows) if rows else []
    if (folder / LEDGER_NAME).is_file():
        section.tables += ledger_tables(read_rows(folder / LEDGER_NAME))
    rejects_path = folder / REJECTS_NAME
    rejects = read_rejects(rejects_path) if rejects_path.is_file() else []
    section.tables += reject_tables(rejects) if rejects else []
    return section, FolderSamples(folder, _kind(rows), shards), rejects


def _commits(folder: Path, section: Section) -> list[Commit]:
    try:
        return list_commits(folder)
    except ShardError as error:
        section.problems.append(f"damaged commit: {error}")
        return []


def _part(folder: Path, commit: Commit, section: Section) -> list[Row]:
    """Index rows of one group; none where they cannot be read."""
    path = folder / PARTS / f"{Path(commit.shard).stem}.parquet"
    try:
        return list(read_rows(path))
    except (OSError, pa.ArrowInvalid) as error:
        section.problems.append(f"{path.name}: not a readable index: {error}")
        return []


def _too_short(shard: Path, rows: list[Row]) -> Iterator[str]:
    """A cheap look for what the commonest accidents leave: no file, or half of one."""
    if not rows:
        return
    if not shard.is_file():
        yield f"{shard.name} is missing"
        return
    last = max((entry_of(row) for row in rows), key=lambda entry: entry.offset)
    if shard.stat().st_size < last.offset + last.length:
        yield f"{shard.name} is truncated: {shard.stat().st_size} bytes, {last.key} ends later"


def _kind(rows: list[Row]) -> Kind:
    if not rows:
        return "other"
    if "num_tokens" in rows[0]:
        return "token"
    return "shot" if "num_bytes" in rows[0] else "clip"


def _counts(
    folder: Path, commits: list[Commit], rows: list[Row], forgotten: int, verified: bool
) -> Table:
    shards = {str(row["shard"]) for row in rows}
    paths = [path for path in (folder / name for name in shards) if path.is_file()]
    return facts(
        "files",
        {
            "kind": _kind(rows),
            "groups": len(commits),
            "shards": len(shards),
            "bytes": sum(path.stat().st_size for path in paths),
            "samples of forgotten sources": forgotten,
            "bytes checked": "all" if verified else "sizes only; --verify reads them",
        },
    )
