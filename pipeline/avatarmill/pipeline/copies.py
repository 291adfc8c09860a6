"""Near copies of a run, decided once for a list and kept: a second start does not compare again."""

import hashlib
from pathlib import Path

import pyarrow as pa

from avatarmill.pipeline.near_duplicates import NearDuplicateConfig, find_copies
from avatarmill.pipeline.scans import Scans
from avatarmill.pipeline.source_table import SourceTable
from avatarmill.records.fingerprint import fingerprint
from avatarmill.records.index import load_table, save_table
from avatarmill.records.ledger import InputState

COPIES_NAME = "copies.parquet"
COPY_TABLE = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("decided_for", pa.string(), nullable=False),
    ]
)
"""A row a copy, and a first one without a URI, so that no copies are known to be none."""


def near_copies(
    sources: SourceTable, scans: Scans, config: NearDuplicateConfig, folder: Path, made_by: str
) -> list[InputState]:
    """The state of every source that is found in one before it.

    What was decided for the same sources, settings and scans (`made_by`) is read back.
    """
    if not config.enabled:
        return []
    ours = fingerprint([config, made_by, _digest(sources)])
    path = folder / COPIES_NAME
    try:
        table = load_table(path, schema=COPY_TABLE)
    except FileNotFoundError:
        table = COPY_TABLE.empty_table()
    if not table.num_rows or table["decided_for"][0].as_py() != ours:
        table = _decide(sources, scans, config, ours)
        save_table(path, table)
    rows = table.slice(1).to_pylist()
    return [InputState(row["uri"], row["sha256"], "duplicate", row["reason"]) for row in rows]


def _decide(sources: SourceTable, scans: Scans, config: NearDuplicateConfig, ours: str) -> pa.Table:
    copies = find_copies(len(sources), lambda k: scans.signature(sources[k]), config)
    rows = [{"uri": "", "sha256": "", "reason": "", "decided_for": ours}]
    for k, copy in sorted(copies.items(), key=lambda item: sources[item[0]].uri):
        words = (
            f"near copy of {sources[copy.of].uri}: likeness {copy.likeness.value:.3f} over "
            f"{100 * copy.likeness.coverage:.0f} % of it, limits {config.threshold:g} and "
            f"{100 * config.overlap:.0f} %, at {copy.likeness.speed:.2f} times its speed"
        )
        source = sources[k]
        row = {"uri": source.uri, "sha256": source.sha256, "reason": words, "decided_for": ours}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=COPY_TABLE)


def _digest(sources: SourceTable) -> str:
    """Of the set of sources, whatever their order: the first of a list stays the first."""
    names = sources.sorted_by_uri().table.select(["uri", "sha256"])
    digest = hashlib.sha256()
    for batch in names.combine_chunks().to_batches(max_chunksize=1 << 16):
        for column in batch.columns:
            digest.update("\0".join(column.to_pylist()).encode())
    return digest.hexdigest()
