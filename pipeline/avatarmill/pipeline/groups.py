"""Which sources are packed together: decided when the list is planned, kept over restarts.

Everything here works on Arrow columns: a plan of a million sources has no million objects.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from avatarmill.pipeline.source_table import SourceTable, first_rows
from avatarmill.pipeline.types import Source
from avatarmill.records.index import load_table, save_table

PLAN_NAME = "plan.parquet"

PLAN_TABLE = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("group", pa.int64(), nullable=False),
        pa.field("num_groups", pa.int64(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
    ]
)
"""A row a source, in order of groups, then URIs; the last two columns have one value."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Packing groups of a run."""

    sources: SourceTable
    """In order of groups, then URIs."""
    starts: tuple[int, ...]
    """First source of each group, and the number of sources."""
    fingerprint: str
    """Of everything but the list that decides the bytes of the shards."""

    @property
    def groups(self) -> "Groups":
        """The sources of each group. A group whose sources all left the list is empty."""
        return Groups(self)

    def names(self, number: int) -> frozenset[tuple[str, str]]:
        """The (uri, sha256) of one group."""
        start, stop = self.starts[number : number + 2]
        rows = self.sources.table.slice(start, stop - start)
        uris, shas = rows["uri"].to_pylist(), rows["sha256"].to_pylist()
        return frozenset(zip(uris, shas, strict=True))


class Groups(Sequence[tuple[Source, ...]]):
    """The groups of a plan; sources are made when a group is asked for."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __len__(self) -> int:
        return len(self._plan.starts) - 1

    @overload
    def __getitem__(self, index: int) -> tuple[Source, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[Source, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[Source, ...] | list[tuple[Source, ...]]:
        """The sources of one group, or of several."""
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"group {index} of {len(self)}")
        start, stop = self._plan.starts[index % len(self) :][:2]
        return tuple(self._plan.sources[start:stop])


def split_duplicates(
    sources: Sequence[Source],
) -> tuple[SourceTable, Sequence[tuple[Source, Source]]]:
    """Sources with distinct bytes in order of uri and sha256, and (duplicate, first) pairs.

    Empty files are all alike: each is kept, so that each is rejected under its own name. So is
    what could not be read, which has no sha256.
    """
    table = SourceTable.of(sources)
    order = pc.sort_indices(table.table, [("uri", "ascending"), ("sha256", "ascending")])
    table = table.take(order)
    shas = table.column("sha256")
    known = np.asarray(pc.and_(pc.greater(table.column("size_bytes"), 0), pc.not_equal(shas, "")))
    rows = np.flatnonzero(known)
    first = rows[first_rows(shas.take(pa.array(rows)))]
    copies = np.setdiff1d(rows, first)
    if not len(copies):
        return table, []
    origin = first[np.asarray(pc.index_in(shas.take(pa.array(copies)), shas.take(pa.array(first))))]
    pairs = Pairs(table.take(copies), table.take(origin))
    return table.take(np.setdiff1d(np.arange(len(table)), copies)), pairs


class Pairs(Sequence[tuple[Source, Source]]):
    """(duplicate, first) of two lists of one length; made when asked for."""

    def __init__(self, copies: SourceTable, first: SourceTable) -> None:
        self._copies, self._first = copies, first

    def __len__(self) -> int:
        return len(self._copies)

    @overload
    def __getitem__(self, index: int) -> tuple[Source, Source]: ...
    @overload
    def __getitem__(self, index: slice) -> "Pairs": ...
    def __getitem__(self, index: int | slice) -> "tuple[Source, Source] | Pairs":
        """One pair, or some of them."""
        if isinstance(index, slice):
            return Pairs(self._copies[index], self._first[index])
        return self._copies[index], self._first[index]

    def __iter__(self) -> Iterator[tuple[Source, Source]]:
        return zip(self._copies, self._first, strict=True)


def by_precedence(sources: Sequence[Source], folder: Path) -> SourceTable:
    """Sources in the order in which the first of several copies stays: of the list, by URI.

    Those that an earlier run planned come first: a copy that joins the list later does not take
    the place of a source whose clips are finished.
    """
    table = SourceTable.of(sources).sorted_by_uri()
    planned = _planned_rows(table, _read_plan(folder)) >= 0
    return table.take(np.argsort(~planned, kind="stable"))


def plan_groups(
    sources: Sequence[Source], folder: Path, *, group_size: int, fingerprint: str
) -> Plan:
    """The plan of a run in `folder`; what an earlier run planned there stays where it was.

    New sources of the list go into new groups behind the old ones, so finished shards keep their
    bytes when a list grows. A source that is not in `sources` any more leaves its group.
    """
    earlier = _read_plan(folder)
    table = SourceTable.of(sources).sorted_by_uri()
    rows = _planned_rows(table, earlier)
    first = int(earlier["num_groups"][0].as_py()) if earlier.num_rows else 0
    groups = np.full(len(table), -1)
    groups[rows >= 0] = np.asarray(earlier["group"])[rows[rows >= 0]]
    new = np.flatnonzero(rows < 0)
    groups[new] = first + np.arange(len(new)) // group_size
    count = first + -(-len(new) // group_size)
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(count + 1))
    plan = Plan(table.take(order), tuple(starts.tolist()), fingerprint)
    # No times in it: the plan too is the same bytes for the same run.
    _write_plan(folder, plan, groups[order], count)
    return plan


def planned_groups(folder: Path) -> int:
    """Groups with a source in the plan of `folder`; 0 where nothing is planned yet."""
    try:
        groups = load_table(folder / PLAN_NAME, columns=["group"])["group"]
    except FileNotFoundError:
        return 0
    return int(pc.count_distinct(groups).as_py())


def planned_with(folder: Path) -> str:
    """Fingerprint of the recipe that the plan of `folder` was made with; "" without a plan."""
    plan = _read_plan(folder, "fingerprint")
    return str(plan["fingerprint"][0].as_py()) if plan.num_rows else ""


def _planned_rows(table: SourceTable, earlier: pa.Table) -> NDArray[np.int64]:
    """Row of the earlier plan that has the same URI and bytes, -1 where there is none."""
    found = pc.index_in(table.column("uri"), value_set=earlier["uri"].combine_chunks())
    rows = np.asarray(pc.fill_null(found, -1)).astype(np.int64)
    there = np.flatnonzero(rows >= 0)
    before = earlier["sha256"].take(pa.array(rows[there])).combine_chunks()
    now = table.column("sha256").take(pa.array(there))
    rows[there[~np.asarray(pc.equal(now, before))]] = -1
    return rows


def _write_plan(folder: Path, plan: Plan, groups: NDArray[np.int64], count: int) -> None:
    size = len(plan.sources)
    columns = {
        "uri": plan.sources.table["uri"],
        "sha256": plan.sources.table["sha256"],
        "group": pa.array(groups, pa.int64()),
        "num_groups": pa.repeat(pa.scalar(count, pa.int64()), size),
        "fingerprint": pa.repeat(pa.scalar(plan.fingerprint), size),
    }
    save_table(folder / PLAN_NAME, pa.table(columns, schema=PLAN_TABLE))


def _read_plan(folder: Path, *columns: str) -> pa.Table:
    names = columns or ("uri", "sha256", "group", "num_groups")
    try:
        return load_table(folder / PLAN_NAME, columns=names)
    except FileNotFoundError:
        return PLAN_TABLE.empty_table().select(names)
