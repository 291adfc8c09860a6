"""Readers of lists: text, CSV, JSON lines and Parquet become columns of text."""

import csv
import io
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

logger = logging.getLogger(__name__)

Columns = dict[str, Any]
"""Name to Arrow text column; `uri` is always there."""

URI_NAMES = ("uri", "url", "path", "file_path")
_SAME = {"license": "licence"}
_OWN = frozenset({"sha256", "size_bytes", "modified_ns"})
"""Columns of ours that a list does not set: the job measures them."""


def read_text(data: bytes) -> Columns:
    """One place a line; empty lines and lines that start with `#` do not count."""
    lines = pc.list_flatten(pc.split_pattern(pa.array([_decoded(data)]), "\n"))
    lines = pc.utf8_trim_whitespace(lines)
    used = pc.and_(pc.not_equal(lines, ""), pc.invert(pc.starts_with(lines, "#")))
    return {"uri": lines.filter(used)}


def read_csv(data: bytes) -> Columns:
    """A table with a header; every value is text, as it stands there."""
    text = _decoded(data)
    header = next(csv.reader(io.StringIO(text[: text.find("\n") + 1] or text)), [])
    if len(set(header)) != len(header):
        raise ValueError(f"two columns of the header {header} have one name")
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(text.encode()),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"not a CSV table: {error}") from error
    return columns_of(table)


def read_json_lines(data: bytes) -> Columns:
    """One JSON object a line."""
    try:
        table = pyarrow.json.read_json(io.BytesIO(data))
    except pa.ArrowInvalid as error:
        raise ValueError(f"not one JSON object a line: {error}") from error
    return columns_of(table)


def read_parquet(data: bytes) -> Columns:
    """A Parquet table."""
    try:
        return columns_of(pq.read_table(pa.BufferReader(data)))
    except pa.ArrowInvalid as error:
        raise ValueError(f"not a Parquet table: {error}") from error


READERS: Mapping[str, Callable[[bytes], Columns]] = {
    ".txt": read_text,
    ".csv": read_csv,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
}
"""By the end of the list's name."""


def columns_of(table: pa.Table) -> Columns:
    """The text columns of a table, the places first, under our names.

    Numbers, dates and truth values become text; columns of bytes, lists and records are left out
    with a warning. Raises ValueError when no column holds the places.
    """
    place = next((name for name in URI_NAMES if name in table.column_names), None)
    if place is None:
        raise ValueError(f"it has the columns {table.column_names}; it needs 'uri' or 'path'")
    columns: Columns = {"uri": _text(place, table[place])}
    for name in table.column_names:
        own = _SAME.get(name, name)
        if own in columns or name in URI_NAMES or name in _OWN:
            continue
        column = _text(name, table[name])
        if column is None:
            logger.warning("column %s holds %s and is left out", name, table[name].type)
        else:
            columns[own] = column
    if columns["uri"] is None or pc.any(pc.equal(columns["uri"], "")).as_py():
        raise ValueError(f"column {place!r} has rows without a place")
    return columns


def _text(name: str, column: pa.ChunkedArray) -> Any:
    kind = column.type
    if pa.types.is_null(kind):
        return pa.repeat(pa.scalar(""), len(column))
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return None
    return pc.fill_null(column.cast(pa.string()), "")


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text: byte {error.start} is {data[error.start]:#x}") from error
