"""What a curation run keeps of its sources beside the shards, less one that is to be forgotten."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from avatarmill.pipeline.scan_table import drop_known
from avatarmill.pipeline.types import Reason, Reject
from avatarmill.pipeline.work import Outcome
from avatarmill.records.atomic import atomic_writer
from avatarmill.records.forget import STAGE
from avatarmill.records.index import load_table
from avatarmill.records.ledger import read_ledger, write_ledger
from avatarmill.records.store import Store, open_file

LEDGER_NAME = "ledger.parquet"
SCAN_FILES = (("", "sources.parquet"), ("scans", ".parquet"))
"""Folder and end of the names of the tables with scans: pictures of every source are in them."""

_KEPT = ("uri", "sha256", "fingerprint", "size_bytes", "modified_ns")
_ZSTD = {"compression": "zstd", "compression_level": 3}

EVIDENCE = "taken out with avatarmill forget"


def forgotten_outcome() -> Outcome:
    """How a source ends that is listed although it was forgotten."""
    return Outcome(rejects=(Reject(Reason.FORGOTTEN, EVIDENCE, STAGE),))


def forget_scans(folder: Path, source_sha256: str) -> int:
    """Blank what was seen of a source in the tables of the first pass; rows that were.

    URI and sha256 stay: a later start then knows the source without reading it again.
    """
    store = Store.of(folder)
    names = [name for place, end in SCAN_FILES for name in store.files(place, end)]
    return sum(_blank(store.path(name), source_sha256) for name in names)


def _blank(path: Path, source_sha256: str) -> int:
    held = load_table(path, columns=["sha256", "reason"])
    mine = pc.and_(pc.equal(held["sha256"], source_sha256), _not_forgotten(held))
    rows = int(pc.sum(mine).as_py() or 0)
    if not rows:
        return 0
    drop_known(path)
    # Row group by row group: the table of a large run does not fit into memory.
    with open_file(path) as source, atomic_writer(path) as target:
        table = pq.ParquetFile(source)
        schema = table.schema_arrow
        with pq.ParquetWriter(target, schema, **_ZSTD) as writer:
            for number in range(table.num_row_groups):
                group = table.read_row_group(number).to_pylist()
                kept = [row if row["sha256"] != source_sha256 else _named(row) for row in group]
                writer.write_table(pa.Table.from_pylist(kept, schema=schema))
    return rows


def _not_forgotten(table: pa.Table) -> pa.ChunkedArray:
    return pc.fill_null(pc.not_equal(table["reason"], str(Reason.FORGOTTEN)), True)


def _named(row: dict[str, object]) -> dict[str, object]:
    """A row without what was seen."""
    words = {"reason": str(Reason.FORGOTTEN), "evidence": EVIDENCE, "stage": STAGE}
    return {**dict.fromkeys(row), **{name: row[name] for name in _KEPT}, **words}


def forget_shots(folder: Path, source_sha256: str) -> int:
    """Delete the pictures of a source that a local run remembers of its shots; files that went.

    `folder` holds the clips; shots are in the folder beside it, or where the configuration says.
    """
    if Store.of(folder).local is None:
        return 0
    places = [folder.parent / "analysis"]
    config = folder.parent / "curate.config.json"
    if config.is_file():
        own = json.loads(config.read_bytes())["config"].get("analysis", {}).get("folder")
        places += [Path(own)] if own else []
    found = {shot for place in places for shot in place.glob(f"{source_sha256[:12]}-*.shot")}
    for shot in found:
        shot.unlink(missing_ok=True)
    return len(found)


def forget_in_ledger(folder: Path, source_sha256: str) -> None:
    """Let the source end as forgotten in the ledger of a finished run."""
    path = Store.of(folder).path(LEDGER_NAME)
    if not Store.of(folder).exists(LEDGER_NAME):
        return
    states = [
        replace(state, state="rejected", reason=str(Reason.FORGOTTEN), samples=0)
        if state.sha256 == source_sha256 and state.state != "duplicate"
        else state
        for state in read_ledger(path)
    ]
    write_ledger(path, states)


def near_copies(folder: Path, source_sha256: str) -> list[str]:
    """URIs of the listed sources that were left out as copies of this one."""
    if not Store.of(folder).exists(LEDGER_NAME):
        return []
    states = read_ledger(Store.of(folder).path(LEDGER_NAME))
    named = {state.uri for state in states if state.sha256 == source_sha256}
    copies = [s for s in states if s.state == "duplicate" and s.sha256 != source_sha256]
    return [s.uri for s in copies if any(f"copy of {uri}:" in s.reason for uri in named)]
