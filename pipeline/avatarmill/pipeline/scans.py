"""The first pass of a job: every source is decoded once, and what was seen is kept with the clips.

FOLDER/sources.parquet       one row a source, in order of the list
FOLDER/scans/NUMBER.parquet  rows of a pass under way, in order of arrival; gone when it is done

Near duplicates are decided after this pass and before sources are packed into groups. A decision
at the end would leave copies in committed shards, to be hidden by every reader, after bodies were
fitted to them; here a copy costs one decode, its state is known before anything is written, and
shards depend on the list alone. The rows save the second pass from decoding for shots again, and a
killed pass from starting over.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path

import pyarrow as pa

from avatarmill.pipeline.likeness import Signature
from avatarmill.pipeline.shots import Scan
from avatarmill.pipeline.types import Probe, Reason, Reject, Shot, Source
from avatarmill.pipeline.work import Outcome, Scanned, Work
from avatarmill.records.index import Row, read_rows, write_table

SOURCES_NAME = "sources.parquet"
SCANS = "scans"
_PART_ROWS = 32
"""Sources written at once; as many are scanned again after a kill."""

_TYPES = {"float": pa.float64(), "int": pa.int64(), "str": pa.string()}


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


@dataclass(slots=True)
class Scans:
    """What the first pass saw, by sha256 of the bytes."""

    found: dict[str, Scan | Reject] = field(default_factory=dict)
    errors: dict[str, Outcome] = field(default_factory=dict)
    """By URI: where our own code failed. Not kept, so that the next run tries again."""
    seconds: Counter[str] = field(default_factory=Counter)
    """Wall seconds of the pass, over all workers."""

    def signature(self, source: Source) -> Signature | None:
        """Of a sound source."""
        scan = self.found.get(source.sha256)
        return scan.signature if isinstance(scan, Scan) else None


def load_scans(folder: Path, fingerprint: str) -> Scans:
    """What earlier runs scanned with the same settings and code, finished or killed."""
    scans = Scans()
    for path in [folder / SOURCES_NAME, *sorted((folder / SCANS).glob("*.parquet"))]:
        for row in read_rows(path) if path.exists() else ():
            if row["fingerprint"] == fingerprint:
                scans.found[str(row["sha256"])] = _found(row)
    return scans


def keep_scans(folder: Path, works: Iterable[Work], scans: Scans, fingerprint: str) -> None:
    """Adds scanned works to `scans`, and writes them in parts as they arrive."""
    parts = folder / SCANS
    number = max((int(path.stem) for path in parts.glob("*.parquet")), default=-1)
    kept = _take(works, scans)
    while batch := list(islice(kept, _PART_ROWS)):
        number += 1
        rows = [_row(source, scans.found[source.sha256], fingerprint) for source in batch]
        write_table(parts / f"{number:06d}.parquet", rows, SOURCE_TABLE)


def _take(works: Iterable[Work], scans: Scans) -> Iterator[Source]:
    """The sources of `works` that are worth a row."""
    for work in works:
        scans.seconds.update(work.seconds)
        if isinstance(work.content, Scanned):
            scans.found[work.source.sha256] = work.content.scan
        else:
            assert isinstance(work.content, Outcome), f"{work.source.uri} left the pass unfinished"
            if work.content.error:
                scans.errors[work.source.uri] = work.content
                continue
            scans.found[work.source.sha256] = work.content.rejects[0]
        yield work.source


def finish_scans(folder: Path, sources: Sequence[Source], scans: Scans, fingerprint: str) -> None:
    """Writes the table of all sources and removes the parts: same list, same bytes."""
    seen = [source for source in sources if source.sha256 in scans.found]
    rows = [_row(source, scans.found[source.sha256], fingerprint) for source in seen]
    write_table(folder / SOURCES_NAME, rows, SOURCE_TABLE)
    for part in (folder / SCANS).glob("*.parquet"):
        part.unlink()
    if (folder / SCANS).is_dir():
        (folder / SCANS).rmdir()


def _row(source: Source, found: Scan | Reject, fingerprint: str) -> Row:
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


def _found(row: Row) -> Scan | Reject:
    if row["reason"] is not None:
        return Reject(Reason(str(row["reason"])), str(row["evidence"]), str(row["stage"]))
    signature = Signature.from_png(row["signature"], row["signature_rate"])  # type: ignore[arg-type]
    shots = tuple(Shot(**shot) for shot in row["shots"])  # type: ignore[attr-defined]
    return Scan(Probe(**row["probe"]), shots, signature)  # type: ignore[arg-type]
