"""The first pass of a job: every source is decoded once, and what was seen is kept with the clips.

FOLDER/sources.parquet       one row a source, in order of the list
FOLDER/sources.known.parquet the same rows without what was seen
FOLDER/scans/NUMBER.parquet  rows of a pass under way, in order of arrival; gone when it is done

Near duplicates are decided after this pass and before sources are packed into groups. A decision
at the end would leave copies in committed shards, to be hidden by every reader, after bodies were
fitted to them; here a copy costs one decode, its state is known before anything is written, and
shards depend on the list alone. The rows save the second pass from decoding for shots again, and a
killed pass from starting over.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pyarrow as pa

from avatarmill.pipeline.likeness import Signature
from avatarmill.pipeline.scan_table import (
    KNOWN,
    SOURCE_TABLE,
    Found,
    ScanTable,
    drop_known,
    has_known,
    is_written,
    write_known,
    write_scans,
)
from avatarmill.pipeline.shots import Scan
from avatarmill.pipeline.source_table import SourceTable
from avatarmill.pipeline.types import Source
from avatarmill.pipeline.work import Outcome, Scanned, Work
from avatarmill.records.store import Store

SOURCES_NAME = "sources.parquet"
SCANS = "scans"
_PART_ROWS = 32
"""Sources written at once; as many are scanned again after a kill."""

__all__ = ["SOURCES_NAME", "SOURCE_TABLE", "Scans", "finish_scans", "keep_scans", "load_scans"]


@dataclass(slots=True)
class Scans:
    """What the first pass saw."""

    found: ScanTable = field(default_factory=ScanTable)
    errors: dict[str, Outcome] = field(default_factory=dict)
    """By URI: where our own code failed. Not kept, so that the next run tries again."""
    failed: list[Source] = field(default_factory=list)
    """Their sources, with the sha256 of the bytes where these could be had."""
    seconds: Counter[str] = field(default_factory=Counter)
    """Wall seconds of the pass, over all workers."""

    @property
    def known(self) -> pa.Table:
        """URI, sha256, size and time of change of every source this run or an earlier one read."""
        failed = SourceTable.of(self.failed).table.select(KNOWN.names).cast(KNOWN)
        return pa.concat_tables([self.found.known, failed])

    def signature(self, source: Source) -> Signature | None:
        """Of a sound source."""
        scan = self.found.get(source.sha256)
        return scan.signature if isinstance(scan, Scan) else None


def load_scans(folder: Path, fingerprint: str) -> Scans:
    """What earlier runs scanned with the same settings and code, finished or killed."""
    store, scans = Store.of(folder), Scans()
    names = [SOURCES_NAME] if store.exists(SOURCES_NAME) else []
    for name in [*names, *sorted(store.files(SCANS, ".parquet"))]:
        scans.found.add(store.path(name), fingerprint)
    return scans


def keep_scans(folder: Path, works: Iterable[Work], scans: Scans, fingerprint: str) -> None:
    """Writes scanned works in parts as they arrive, and adds them to `scans`."""
    store = Store.of(folder)
    parts = store.files(SCANS, ".parquet")
    number = max((int(Path(name).stem) for name in parts), default=-1)
    kept = _take(works, scans)
    while batch := list(islice(kept, _PART_ROWS)):
        number += 1
        path = store.path(f"{SCANS}/{number:06d}.parquet")
        write_scans(path, batch, fingerprint)
        scans.found.add(path, fingerprint)


def _take(works: Iterable[Work], scans: Scans) -> Iterator[tuple[Source, Found]]:
    """The sources of `works` that are worth a row, and what was seen of them."""
    for work in works:
        scans.seconds.update(work.seconds)
        if isinstance(work.content, Scanned):
            yield work.source, work.content.scan
            continue
        assert isinstance(work.content, Outcome), f"{work.source.uri} left the pass unfinished"
        if work.content.error:
            scans.errors[work.source.uri] = work.content
            scans.failed.append(work.source)
        else:
            yield work.source, work.content.rejects[0]


def finish_scans(folder: Path, sources: Sequence[Source], scans: Scans, fingerprint: str) -> None:
    """Writes the table of all sources and removes the parts: same list, same bytes."""
    store = Store.of(folder)
    table = store.path(SOURCES_NAME)
    listed = SourceTable.of(sources)
    seen = listed.where(scans.found.has(listed))
    parts = store.files(SCANS, ".parquet")
    written = is_written(table, seen, fingerprint)
    if written and not parts and has_known(table):
        return
    if not written:
        drop_known(table)
        found = ((source, scans.found.of(source)) for source in seen)
        write_scans(table, ((source, scan) for source, scan in found if scan), fingerprint)
    write_known(table)
    scans.found = ScanTable()
    scans.found.add(table, fingerprint)
    for name in parts:
        store.delete(name)
    if store.local and (store.local / SCANS).is_dir():
        (store.local / SCANS).rmdir()
