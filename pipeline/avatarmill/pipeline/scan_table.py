"""Rows of scanned sources on disk, found by sha256 and read when they are asked for.

A run of a million films of 20 s keeps 10 GB of signatures. In memory are the places of the rows,
some 200 bytes a source, and the few row groups that were read last.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from avatarmill.pipeline.likeness import Signature
from avatarmill.pipeline.shots import Scan
from avatarmill.pipeline.types import Probe, Reason, Reject, Shot, Source
from avatarmill.records.atomic import atomic_writer
from avatarmill.records.index import Row
from avatarmill.records.store import open_file

Found = Scan | Reject

GROUP_ROWS = 64
"""Rows read at once for the sake of one: half a megabyte of signatures of short films."""
_GROUPS_HELD = 16

_TYPES = {"float": pa.float64(), "int": pa.int64(), "str": pa.string(), "bool": pa.bool_()}


def _columns(record: type) -> pa.DataType:
    """Arrow columns of a flat dataclass, so that the table follows the record."""
    return pa.struct([(f.name, _TYPES[str(f.type)]) for f in fields(record)])


SOURCE_TABLE = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("probe", _columns(Probe)),
        pa.field("shots", pa.list_(_columns(Shot))),
        pa.field("signature", pa.binary()),
        pa.field("signature_rate", pa.float64()),
        pa.field("reason", pa.string()),
        pa.field("evidence", pa.string()),
        pa.field("stage", pa.string()),
    ]
)
"""A sound file has probe, shots and signature, a rejected one reason, evidence and stage."""


class ScanTable(Mapping[str, Found]):
    """What was seen of sources, by sha256 of their bytes; the last row of a sha256 counts."""

    def __init__(self) -> None:
        self._files: list[Path] = []
        self._starts: list[list[int]] = []
        """First row of every row group of each file."""
        self._footers: dict[int, pq.FileMetaData] = {}
        """Of files with many row groups: parsing such a footer takes longer than reading one."""
        self._places: dict[bytes, tuple[int, int]] = {}
        self._held: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()

    def add(self, path: Path, fingerprint: str) -> None:
        """Find the rows of one file that were made with `fingerprint`."""
        number = len(self._files)
        with open_file(path) as file:
            parquet = pq.ParquetFile(file)
            footer = parquet.metadata
            names = parquet.read(columns=["sha256", "fingerprint"])
        sizes = [footer.row_group(k).num_rows for k in range(footer.num_row_groups)]
        self._files.append(path)
        self._starts.append([0, *np.cumsum(sizes).tolist()])
        if len(sizes) > 1:
            self._footers[number] = footer
        shas, made_by = (names[column].to_pylist() for column in ("sha256", "fingerprint"))
        for row, (sha256, own) in enumerate(zip(shas, made_by, strict=True)):
            if own == fingerprint:
                self._places[bytes.fromhex(sha256)] = number, row

    def __getitem__(self, sha256: str) -> Found:
        """The scan of a source, or why it was rejected. Raises KeyError."""
        number, row = self._places[bytes.fromhex(sha256)]
        group = bisect_right(self._starts[number], row) - 1
        table = self._group(number, group)
        return _found(table.slice(row - self._starts[number][group], 1).to_pylist()[0])

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return (sha256.hex() for sha256 in self._places)

    def __contains__(self, sha256: object) -> bool:
        return isinstance(sha256, str) and bytes.fromhex(sha256) in self._places

    def _group(self, number: int, group: int) -> pa.Table:
        held = self._held.get((number, group))
        if held is None:
            with open_file(self._files[number]) as file:
                footer = self._footers.get(number)
                held = pq.ParquetFile(file, metadata=footer).read_row_group(group)
            self._held[number, group] = held
            if len(self._held) > _GROUPS_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end((number, group))
        return held


def write_scans(path: Path, found: Iterable[tuple[Source, Found]], fingerprint: str) -> None:
    """Write rows in the given order, a few at a time: same rows, same bytes."""
    with (
        atomic_writer(path) as file,
        pq.ParquetWriter(file, SOURCE_TABLE, compression="zstd", compression_level=3) as writer,
    ):
        for rows in _batches(_row(source, scan, fingerprint) for source, scan in found):
            writer.write_table(pa.Table.from_pylist(rows, schema=SOURCE_TABLE))


def is_written(path: Path, sources: Sequence[Source], fingerprint: str) -> bool:
    """Whether the table at `path` has the rows of just these sources in this order."""
    try:
        with open_file(path) as file:
            names = pq.ParquetFile(file).read(columns=["uri", "sha256", "fingerprint"])
    except FileNotFoundError:
        return False
    have = zip(*(names[column].to_pylist() for column in names.column_names), strict=True)
    return list(have) == [(s.uri, s.sha256, fingerprint) for s in sources]


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
