"""What a curation run keeps of its sources beside the shards, less one that is to be forgotten."""

from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

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

EVIDENCE = "taken out with avatarmill forget"


def forgotten_outcome() -> Outcome:
    """How a source ends that is listed although it was forgotten."""
    return Outcome(rejects=(Reject(Reason.FORGOTTEN, EVIDENCE, STAGE),))


def forget_scans(folder: Path, source_sha256: str) -> int:
    """Take what was seen of a source out of the tables of the first pass; rows that went."""
    store = Store.of(folder)
    names = [name for place, end in SCAN_FILES for name in store.files(place, end)]
    return sum(_drop_rows(store.path(name), source_sha256) for name in names)


def _drop_rows(path: Path, source_sha256: str) -> int:
    mine = pc.sum(pc.equal(load_table(path, columns=["sha256"])["sha256"], source_sha256))
    if not mine.as_py():
        return 0
    # Row group by row group: the table of a large run does not fit into memory.
    with open_file(path) as source, atomic_writer(path) as target:
        table = pq.ParquetFile(source)
        options = {"compression": "zstd", "compression_level": 3}
        with pq.ParquetWriter(target, table.schema_arrow, **options) as writer:
            for number in range(table.num_row_groups):
                rows = table.read_row_group(number)
                writer.write_table(rows.filter(pc.not_equal(rows["sha256"], source_sha256)))
    return int(mine.as_py())


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
