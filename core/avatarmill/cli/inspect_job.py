"""`avatarmill inspect PATH`: what a shard, a table, a folder of shards or a whole run holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from avatarmill.cli.console import printable, say, table
from avatarmill.cli.inspect_folder import FolderSamples, inspect_folder
from avatarmill.cli.inspect_pictures import Card
from avatarmill.cli.inspect_shard import inspect_shard
from avatarmill.cli.inspect_tables import (
    Section,
    all_rejects,
    facts,
    ledger_tables,
    reject_tables,
    sample_tables,
)
from avatarmill.cli.pages import contact_sheet, png, template
from avatarmill.records.atomic import write_bytes
from avatarmill.records.commit import COMMITS, INDEX_NAME
from avatarmill.records.index import read_rows
from avatarmill.records.ledger import LEDGER_INDEX
from avatarmill.records.rejects import REJECT_INDEX, RejectRow
from avatarmill.records.tarshard import ShardError

_MOST_REJECTS = 500
"""Reject rows on a page."""


@dataclass(frozen=True, slots=True)
class InspectConfig:
    """What to look at, and where pictures of it go."""

    path: Annotated[Path, tyro.conf.Positional]
    """A shard (.tar), a table (.parquet), a folder of shards, or the folder of a run."""
    sheet: Path | None = None
    """PNG to write: one sample a row."""
    html: Path | None = None
    """Page to write: all tables, pictures of samples, every reject. It needs no other file."""
    samples: int = 24
    """Samples with pictures, spread evenly over what there is."""
    verify: bool = False
    """Hold every byte of a folder against its commits; a single shard always is."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples: {self.samples} must be at least 1")
        if not self.path.exists():
            raise ValueError(f"path: {self.path} does not exist")


@dataclass(slots=True)
class _Seen:
    """All that is shown."""

    sections: list[Section]
    samples: list[FolderSamples]
    rejects: list[RejectRow]


def run(config: InspectConfig) -> int:
    """Prints tables, and writes the sheet and the page that were asked for.

    Returns:
        0; 1 when something is damaged or does not belong where it is.
    """
    seen = _look(config)
    cards = _cards(config, seen) if config.sheet or config.html else []
    for section in seen.sections:
        _say(section)
    if config.sheet:
        if not cards:
            raise ValueError(f"sheet: {config.path} has no sample with pictures")
        write_bytes(config.sheet, png(_sheet(cards)))
        say(f"\n{len(cards)} samples in {config.sheet}")
    if config.html:
        write_bytes(config.html, _page(config, seen, cards).encode())
        say(f"\npage: {config.html}")
    return 1 if any(section.problems for section in seen.sections) else 0


def _look(config: InspectConfig) -> _Seen:
    path = config.path
    if path.is_dir():
        return _look_at_folders(config)
    if path.suffix == ".tar":
        found = inspect_shard(path)
        size = path.stat().st_size
        counts: dict[str, object] = {"kind": found.kind, "bytes": size, "members": found.members}
        counts["checked against the index"] = f"{found.checked} of {len(found.entries)} samples"
        tables = sample_tables(list(found.rows.values())) if found.rows else []
        section = Section(path.name, [facts("file", counts), *tables], found.all_problems())
        return _Seen([section], [FolderSamples(path.parent, found.kind, {path: found.entries})], [])
    if path.suffix == ".parquet":
        return _look_at_table(path)
    raise ValueError(f"path: {path} is no shard (.tar), table (.parquet) or folder of these")


def _look_at_table(path: Path) -> _Seen:
    try:
        names = set(pq.read_schema(path).names)
        rows = read_rows(path) if names & {"uri", "source_sha256"} else []
    except (OSError, pa.ArrowInvalid) as error:
        return _Seen([Section(path.name, [], [f"not a readable table: {error}"])], [], [])
    if names == set(REJECT_INDEX.names):
        rejects = [RejectRow(**row) for row in rows]  # type: ignore[arg-type]
        return _Seen([Section(path.name, reject_tables(rejects))], [], rejects)
    if names == set(LEDGER_INDEX.names):
        return _Seen([Section(path.name, ledger_tables(rows))], [], [])
    if {"key", "shard"} <= names and names & {"scores", "num_bytes"}:
        if path.name == INDEX_NAME:
            say(f"{path} lists committed samples; inspect {path.parent} to see their pictures")
        return _Seen([Section(path.name, sample_tables(rows))], [], [])
    raise ValueError(
        f"path: {path} has columns {', '.join(sorted(names))}; an index, a reject table or a "
        "ledger is expected"
    )


def _look_at_folders(config: InspectConfig) -> _Seen:
    path = config.path
    folders = [path, *(path / name for name in ("clips", "tokens", "shots"))]
    found = [folder for folder in folders if (folder / COMMITS).is_dir()]
    if not found:
        raise ValueError(f"path: {path} has no shards, nor clips, tokens or shots with shards")
    seen = _Seen([], [], [])
    for folder in found:
        section, samples, rejects = inspect_folder(folder, verify_bytes=config.verify)
        seen.sections.append(section)
        seen.samples.append(samples)
        seen.rejects += rejects
    return seen


def _cards(config: InspectConfig, seen: _Seen) -> list[Card]:
    """Cards of samples of each folder; what cannot be read joins the problems."""
    cards: list[Card] = []
    for section, samples in zip(seen.sections, seen.samples, strict=False):
        for read in samples.spread(config.samples):
            try:
                card = read()
            except (ShardError, OSError) as error:
                section.problems.append(str(error))
                continue
            cards += [card] if card else []
    return cards


def _sheet(cards: list[Card]) -> np.ndarray:
    rows = [[picture for _, picture in card.pictures] for card in cards]
    return contact_sheet(rows, [], labels=[card.key for card in cards])


def _page(config: InspectConfig, seen: _Seen, cards: list[Card]) -> str:
    sections = list(seen.sections)
    if seen.rejects:
        sections.append(Section("Rejects", [all_rejects(seen.rejects, _MOST_REJECTS)]))
    page = template("inspect.html.j2")
    return page.render(path=str(config.path), sections=sections, cards=cards)


def _say(section: Section) -> None:
    say(f"\n{printable(section.title)}")
    for problem in section.problems:
        say(f"  ! {printable(problem)}")
    for shown in section.tables:
        say(f"\n{shown.title}" if shown.title else "")
        table(shown.header, shown.rows)
