"""Rows of scanned sources on disk, found by sha256 and read when they are asked for.

A run of a million films of 20 s keeps 10 GB of signatures. In memory are the places of the rows
and the few row groups that were read last.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from avatarmill.pipeline.likeness import Signature
from avatarmill.pipeline.places import Places, digests
from avatarmill.pipeline.shots import Scan
from avatarmill.pipeline.source_table import SourceTable
from avatarmill.pipeline.types import Probe, Reason, Reject, Shot, Source
from avatarmill.records.atomic import atomic_writer
from avatarmill.records.index import Row, load_table, save_table
from avatarmill.records.store import open_file, store_and_name

Found = Scan | Reject

GROUP_ROWS = 64
"""Rows read at once for the sake of one: half a megabyte of signatures of short films."""
_GROUPS_HELD = 16
_ROW_BITS = 40
"""A place is the number of a file, then so many bits for the row in it."""
_WORDS = ("reason", "evidence", "stage")

_TYPES = {"float": pa.float64(), "int": pa.int64(), "str": pa.string(), "bool": pa.bool_()}


def _columns(record: type) -> pa.DataType:
    """Arrow columns of a flat dataclass, so that the table follows the record."""
    return pa.struct([(f.name, _TYPES[str(f.type)]) for f in fields(record)])


SOURCE_TABLE = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("modified_ns", pa.int64()),
        pa.field("probe", _columns(Probe)),
        pa.field("shots", pa.list_(_columns(Shot))),
        pa.field("signature", pa.binary()),
        pa.field("signature_rate", pa.float64()),
        pa.field("reason", pa.string()),
        pa.field("evidence", pa.string()),
        pa.field("stage", pa.string()),
    ]
)
"""A sound file has probe, shots and signature, a rejected one reason, evidence and stage. One that
could not be fetched has no sha256."""

KNOWN = pa.schema([SOURCE_TABLE.field(k) for k in ("uri", "sha256", "size_bytes", "modified_ns")])


_NAMES = [*KNOWN.names, "fingerprint", *_WORDS]


class ScanTable(Mapping[str, Found]):
    """What was seen of sources, by sha256 of their bytes; the last row of a sha256 counts."""

    def __init__(self) -> None:
        self._files: list[Path] = []
        self._layouts: dict[int, tuple[list[int], pq.FileMetaData]] = {}
        self._places = Places()
        self._held: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._known = [KNOWN.empty_table()]
        self.refused: dict[str, tuple[int, int, Reject]] = {}
        """By URI: size and time of change of a source that could not be fetched, and why."""

    def add(self, path: Path, fingerprint: str) -> None:
        """Find the rows of one file that were made with `fingerprint`."""
        names = _names(path)
        if names is None:
            return  # of an earlier code version, which scanned otherwise
        number = len(self._files)
        self._files.append(path)
        made = pc.equal(names["fingerprint"], fingerprint).combine_chunks()
        self._known.append(names.filter(made).select(KNOWN.names).cast(KNOWN))
        fetched = pc.and_(made, pc.not_equal(names["sha256"], ""))
        rows = np.flatnonzero(np.asarray(fetched))
        mine = digests(names["sha256"].filter(fetched).combine_chunks())
        self._places.add(mine, number << _ROW_BITS | rows)
        for found in names.filter(pc.and_(made, pc.invert(fetched))).to_pylist():
            reject = Reject(*(found[word] for word in _WORDS))
            self.refused[found["uri"]] = found["size_bytes"], found["modified_ns"], reject

    @property
    def known(self) -> pa.Table:
        """URI, sha256, size and time of change of every source that was scanned, newest last."""
        return pa.concat_tables(self._known)

    def of(self, source: Source) -> Found | None:
        """What was seen of a source, fetched or not; None where it was not scanned."""
        if source.sha256:
            return self.get(source.sha256)
        size, modified, reject = self.refused.get(source.uri, (-1, -1, None))
        return reject if (size, modified) == (source.size_bytes, source.modified_ns) else None

    def __getitem__(self, sha256: str) -> Found:
        """The scan of a source, or why it was rejected. Raises KeyError."""
        # What could not be fetched has none.
        place = int(self._places.find(digests(pa.array([sha256])))[0]) if sha256 else -1
        if place < 0:
            raise KeyError(sha256)
        number, row = place >> _ROW_BITS, place & (1 << _ROW_BITS) - 1
        starts, footer = self._layout(number)
        group = bisect_right(starts, row) - 1
        table = self._group(number, group, footer)
        return _found(table.slice(row - starts[group], 1).to_pylist()[0])

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, sha256: object) -> bool:
        return (
            isinstance(sha256, str)
            and sha256 != ""
            and bool(self._places.find(digests(pa.array([sha256])))[0] >= 0)
        )

    def has(self, sources: SourceTable) -> NDArray[np.bool_]:
        """Which of the sources were scanned."""
        texts = sources.column("sha256")
        named = pc.not_equal(texts, "")
        found = np.array(named)
        found[found] = self._places.find(digests(texts.filter(named))) >= 0
        if self.refused:
            maybe = pc.is_in(sources.column("uri"), value_set=pa.array(list(self.refused)))
            for row in np.flatnonzero(np.asarray(maybe) & ~found).tolist():
                found[row] = self.of(sources[row]) is not None
        return found

    def _layout(self, number: int) -> tuple[list[int], pq.FileMetaData]:
        """First row of every row group of a file, and its footer.

        Parsing a footer with many row groups takes longer than reading one of them, and holding it
        takes half a gigabyte for a million sources: only when rows are asked for.
        """
        if number not in self._layouts:
            with open_file(self._files[number]) as file:
                footer = pq.ParquetFile(file).metadata
            sizes = [footer.row_group(k).num_rows for k in range(footer.num_row_groups)]
            self._layouts[number] = [0, *np.cumsum(sizes).tolist()], footer
        return self._layouts[number]

    def _group(self, number: int, group: int, footer: pq.FileMetaData) -> pa.Table:
        held = self._held.get((number, group))
        if held is None:
            with open_file(self._files[number]) as file:
                held = pq.ParquetFile(file, metadata=footer).read_row_group(group)
            self._held[number, group] = held
            if len(self._held) > _GROUPS_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end((number, group))
        return held


def known_path(path: Path) -> Path:
    """Where the names of a table's rows are kept without what was seen, quick to read."""
    return path.with_name(f"{path.stem}.known{path.suffix}")


def write_known(path: Path) -> None:
    """Keep the names of the rows of a finished table beside it."""
    with open_file(path) as file:
        names = pq.ParquetFile(file).read(columns=_NAMES)
    save_table(known_path(path), names)


def has_known(path: Path) -> bool:
    """Whether they are kept: `avatarmill forget` changes the table and drops them."""
    store, name = store_and_name(known_path(path))
    return store.exists(name)


def drop_known(path: Path) -> None:
    """Forget the names of a table that is about to change: they would name other rows."""
    store, name = store_and_name(known_path(path))
    store.delete(name)


def _names(path: Path) -> pa.Table | None:
    """URI, sha256 and the like of every row; None for a table of an earlier code version."""
    try:
        # One fingerprint a million times is one dictionary entry.
        names = load_table(known_path(path), dictionary=("fingerprint",))
    except FileNotFoundError:
        with open_file(path) as file:
            parquet = pq.ParquetFile(file)
            whole = set(SOURCE_TABLE.names) <= set(parquet.schema_arrow.names)
            return parquet.read(columns=_NAMES) if whole else None
    return names if set(_NAMES) <= set(names.column_names) else None


def write_scans(path: Path, found: Iterable[tuple[Source, Found]], fingerprint: str) -> None:
    """Write rows in the given order, a few at a time: same rows, same bytes."""
    with (
        atomic_writer(path) as file,
        pq.ParquetWriter(file, SOURCE_TABLE, compression="zstd", compression_level=3) as writer,
    ):
        for rows in _batches(_row(source, scan, fingerprint) for source, scan in found):
            writer.write_table(pa.Table.from_pylist(rows, schema=SOURCE_TABLE))


def is_written(path: Path, sources: SourceTable, fingerprint: str) -> bool:
    """Whether the table at `path` has the rows of just these sources in this order."""
    try:
        have = _names(path)
    except FileNotFoundError:
        return False
    if have is None:
        return False
    same = pc.all(pc.equal(have["fingerprint"], fingerprint)).as_py() is not False
    return same and have.select(KNOWN.names).equals(sources.table.select(KNOWN.names).cast(KNOWN))


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == GROUP_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _row(source: Source, found: Found, fingerprint: str) -> Row:
    row = dict.fromkeys(SOURCE_TABLE.names)
    row |= {"uri": source.uri, "sha256": source.sha256, "fingerprint": fingerprint}
    row |= {"size_bytes": source.size_bytes, "modified_ns": source.modified_ns}
    if isinstance(found, Reject):
        words = {"reason": str(found.reason), "evidence": found.evidence, "stage": found.stage}
        return {**row, **words}
    return {
        **row,
        "probe": asdict(found.probe),
        "shots": [asdict(shot) for shot in found.shots],
        "signature": found.signature.to_png(),
        "signature_rate": found.signature.rate,
    }


def _found(row: Row) -> Found:
    if row["reason"] is not None:
        return Reject(Reason(str(row["reason"])), str(row["evidence"]), str(row["stage"]))
    signature = Signature.from_png(row["signature"], row["signature_rate"])  # type: ignore[arg-type]
    shots = tuple(Shot(**shot) for shot in row["shots"])  # type: ignore[attr-defined]
    return Scan(Probe(**row["probe"]), shots, signature)  # type: ignore[arg-type]
