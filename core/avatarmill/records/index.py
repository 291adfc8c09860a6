"""Parquet tables beside the shards: reproducible bytes, and rows that say where a sample lies."""

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from avatarmill.records.atomic import atomic_writer
from avatarmill.records.store import store_and_name
from avatarmill.records.tarshard import Entry, Members

if TYPE_CHECKING:
    from typing_extensions import Buffer

LOCATION_FIELDS = (
    pa.field("key", pa.string(), nullable=False),
    pa.field("shard", pa.string(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("length", pa.int64(), nullable=False),
    pa.field("sha256", pa.string(), nullable=False),
)
"""The first columns of each index: enough to read one sample with one range request."""

SCORES = pa.map_(pa.string(), pa.float64())

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Record:
    """One sample ready to be written: its members and its index columns less the location."""

    key: str
    members: Members
    row: Row


def location(entry: Entry, shard: str) -> dict[str, object]:
    """Return the location columns of one sample in `shard` (its file name)."""
    return {
        "key": entry.key,
        "shard": shard,
        "offset": entry.offset,
        "length": entry.length,
        "sha256": entry.sha256,
    }


def entry_of(row: Row) -> Entry:
    """Return the entry that an index row describes."""
    return Entry(
        str(row["key"]), int(str(row["offset"])), int(str(row["length"])), str(row["sha256"])
    )


def sorted_items(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return a mapping as sorted pairs, so that its Parquet bytes do not depend on order."""
    return sorted((key, float(value)) for key, value in scores.items())


def write_table(path: Path, rows: Sequence[Row], schema: pa.Schema) -> str:
    """Write rows to Parquet: same rows, same bytes; return their sha256.

    Raises ValueError for unknown columns.
    """
    for row in rows:
        if odd := row.keys() ^ set(schema.names):
            raise ValueError(f"{path.name}: unknown or missing columns {', '.join(sorted(odd))}")
    return save_table(path, pa.Table.from_pylist([dict(row) for row in rows], schema=schema))


def save_table(path: Path, table: pa.Table, *, row_group_size: int = 0) -> str:
    """Write a table with fixed settings and no metadata of ours; return the sha256 of its bytes.

    All rows are in one row group unless `row_group_size` says otherwise.
    """
    with atomic_writer(path) as file:
        sink = _Hashed(file)
        pq.write_table(
            table.replace_schema_metadata(None),
            sink,
            compression="zstd",
            compression_level=3,
            row_group_size=row_group_size or max(1, table.num_rows),
            write_statistics=True,
        )
    return sink.digest.hexdigest()


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is written, so that a large table is never held whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: "Buffer", /) -> int:
        """Append to the file."""
        self.digest.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._file.tell()

    def writable(self) -> bool:
        """It is for writing."""
        return True


def load_table(
    path: Path,
    columns: Sequence[str] | None = None,
    schema: pa.Schema | None = None,
    dictionary: Sequence[str] = (),
) -> pa.Table:
    """Read a Parquet table, local or a URL; columns that `schema` has and the file lacks are null.

    The `dictionary` columns come as codes and values. Raises FileNotFoundError.
    """
    names = None if columns is None else [*columns]
    store, name = store_and_name(path)
    local = store.local
    place = pa.OSFile(str(local / name)) if local else pa.BufferReader(store.read(name))
    with place:
        table = pq.read_table(place, columns=names, schema=schema, read_dictionary=[*dictionary])
    # Arrow keeps what decoding took, which for a list of a million rows is as much again.
    pa.default_memory_pool().release_unused()
    return table


def read_rows(path: Path) -> list[dict[str, object]]:
    """Return the rows of a Parquet table as dicts; maps come back as lists of pairs."""
    rows: list[dict[str, object]] = load_table(path).to_pylist()
    return rows


def merge_tables(path: Path, parts: Iterable[Path], schema: pa.Schema) -> int:
    """Concatenate `parts` in the given order into `path` and return the number of rows."""
    tables = [load_table(part, schema=schema) for part in parts]
    merged = pa.concat_tables([schema.empty_table(), *tables])
    save_table(path, merged)
    return int(merged.num_rows)
