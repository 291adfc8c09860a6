"""The reject table: one row for each source, shot or track that is not kept, with its evidence."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from avatarmill.records.index import read_rows, write_table

Level = Literal[
    "source",  # the whole file
    "shot",  # one shot of a file that may have good ones
    "track",  # one person of a shot
]

REJECT_INDEX = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("source_sha256", pa.string(), nullable=False),
        pa.field("level", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("evidence", pa.string(), nullable=False),
        pa.field("start_seconds", pa.float64(), nullable=False),
        pa.field("stop_seconds", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class RejectRow:
    """One rejection. The reasons are a closed list kept by the component that rejects."""

    uri: str
    source_sha256: str
    level: Level
    reason: str
    """A lower_case word of the closed list."""
    stage: str
    evidence: str
    """The measured value and the limit it broke."""
    start_seconds: float = 0.0
    stop_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.level not in get_args(Level):
            raise ValueError(f"level is {self.level!r}, one of {', '.join(get_args(Level))}")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.reason):
            raise ValueError(f"reason is {self.reason!r}, expected lower_case words")


def write_rejects(path: Path, rows: Iterable[RejectRow]) -> str:
    """Write rejections in order of source, time, level and reason; return the table's sha256."""
    ordered = sorted(rows, key=_order)
    return write_table(path, [_row(row) for row in ordered], REJECT_INDEX)


def _order(row: RejectRow) -> tuple[str, str, float, str, str, str]:
    return (row.uri, row.source_sha256, row.start_seconds, row.level, row.reason, row.evidence)


def _row(row: RejectRow) -> dict[str, object]:
    times = {name: round(getattr(row, name), 6) for name in ("start_seconds", "stop_seconds")}
    return {**asdict(row), "reason": str(row.reason), **times}


def read_rejects(path: Path) -> list[RejectRow]:
    """Read a reject table. Raises ValueError for a row outside the schema."""
    return [RejectRow(**row) for row in read_rows(path)]  # type: ignore[arg-type]
