"""The list of sources as Arrow columns: a million rows take what their text takes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from avatarmill.pipeline.types import Source

BASE = pa.schema(
    [
        pa.field("uri", pa.string()),
        pa.field("path", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("modified_ns", pa.int64()),
        pa.field("licence", pa.string()),
        pa.field("consent", pa.string()),
    ]
)
"""Columns of every list; any others are the user's, all text, and travel with the clips. A path is
empty where it is the URI."""

_BATCH = 4096


class SourceTable(Sequence[Source]):
    """Sources by position; a `Source` is made when one is asked for."""

    def __init__(self, table: pa.Table) -> None:
        """Takes a table with the columns of `BASE` and any number of text columns."""
        self.table = table

    @classmethod
    def of(cls, sources: Sequence[Source]) -> "SourceTable":
        """The table of some sources; one that is a table already stays what it is."""
        if isinstance(sources, SourceTable):
            return sources
        extra = sorted({name for source in sources for name in source.listed})
        columns: dict[str, list[object]] = {
            name: [getattr(source, name) for source in sources] for name in BASE.names
        }
        columns["path"] = ["" if s.path == s.uri else s.path for s in sources]
        own = {name: [source.listed.get(name, "") for source in sources] for name in extra}
        schema = pa.schema([*BASE, *(pa.field(name, pa.string()) for name in extra)])
        return cls(pa.table({**columns, **own}, schema=schema))

    @classmethod
    def listing(cls, columns: Mapping[str, Any]) -> Self:
        """The table of `uri`, `path` and text columns; what is not known yet is empty or 0."""
        count = len(columns["uri"])
        made = dict(columns)
        made["path"] = pc.if_else(pc.equal(made["path"], made["uri"]), "", made["path"])
        for field in BASE:
            if field.name not in made:
                empty = "" if field.type == pa.string() else 0
                made[field.name] = pa.repeat(pa.scalar(empty, field.type), count)
        extra = [name for name in made if name not in BASE.names]
        schema = pa.schema([*BASE, *(pa.field(name, pa.string()) for name in sorted(extra))])
        return cls(pa.table({name: made[name] for name in schema.names}, schema=schema))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Source: ...
    @overload
    def __getitem__(self, index: slice) -> "SourceTable": ...
    def __getitem__(self, index: int | slice) -> "Source | SourceTable":
        """One source, or a run of them without copying."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self.take(np.arange(start, stop, step))
            return SourceTable(self.table.slice(start, max(0, stop - start)))
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)} sources")
        return _source(self.table.slice(index % len(self), 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Source]:
        for start in range(0, len(self), _BATCH):
            yield from map(_source, self.table.slice(start, _BATCH).to_pylist())

    def column(self, name: str) -> Any:
        """One column as an Arrow array in one piece."""
        column = self.table[name].combine_chunks()
        return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column

    def places(self) -> Any:
        """The paths and URLs that bytes are read from, as an Arrow array."""
        paths = self.column("path")
        return pc.if_else(pc.equal(paths, ""), self.column("uri"), paths)

    def take(self, rows: Any) -> "SourceTable":
        """The sources at some positions, in that order."""
        rows = np.asarray(rows).astype(np.int64)
        if len(rows) == len(self) and (rows == np.arange(len(self))).all():
            return self  # lists are mostly in order already, and a copy takes what they take
        table = self.table.take(pa.array(rows))
        pa.default_memory_pool().release_unused()
        return SourceTable(table)

    def where(self, mask: Any) -> "SourceTable":
        """The sources for which a mask of their length is true."""
        return SourceTable(self.table.filter(pa.array(mask)))

    def without(self, uris: Iterable[str]) -> "SourceTable":
        """The sources that are not named."""
        named = pa.array(list(uris), pa.string())
        return self.where(pc.invert(pc.is_in(self.column("uri"), value_set=named)))

    def with_columns(self, **columns: Any) -> "SourceTable":
        """The same sources with some columns of `BASE` replaced."""
        table = self.table
        for name, column in columns.items():
            place = table.column_names.index(name)
            table = table.set_column(
                place, BASE.field(name), pa.array(column, BASE.field(name).type)
            )
        return SourceTable(table)

    def sorted_by_uri(self) -> "SourceTable":
        """In order of URI, the order of code points."""
        return self.take(pc.sort_indices(self.table["uri"]))

    def first_of_each(self) -> "SourceTable":
        """The first row of several with one URI; the order stays."""
        first = first_rows(self.column("uri"))
        return self if len(first) == len(self) else self.take(first)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SourceTable) and bool(self.table.equals(other.table))

    __hash__ = None  # type: ignore[assignment]


def first_rows(values: Any) -> NDArray[np.int64]:
    """Rows of an Arrow array in which a value stands for the first time, rising."""
    order = np.asarray(pc.sort_indices(values))
    held = values.take(pa.array(order))
    new = np.ones(len(held), bool)
    if len(held) > 1:
        # The sort is stable: of equal values the first is the first of the list.
        new[1:] = ~np.asarray(pc.equal(held.slice(1), held.slice(0, len(held) - 1)))
    return np.sort(order[new])


def concat(tables: Sequence[SourceTable]) -> SourceTable:
    """Several lists behind each other; a column that one of them lacks is empty there."""
    merged = pa.concat_tables(
        [BASE.empty_table(), *(table.table for table in tables)], promote_options="default"
    )
    names = [*BASE.names, *sorted(set(merged.column_names) - set(BASE.names))]
    filled = {
        name: pc.fill_null(merged[name], "" if merged[name].type == pa.string() else 0)
        for name in names
    }
    return SourceTable(pa.table(filled))


def _source(row: dict[str, Any]) -> Source:
    base = {name: row.pop(name) for name in BASE.names}
    base["path"] = base["path"] or base["uri"]
    return Source(**base, listed={name: value for name, value in row.items() if value})
