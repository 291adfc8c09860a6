"""Which sources a training run drew from, so that it can be found when one of them is forgotten.

OUT/seen/DIGEST.parquet   one row a source; another file when a resumed run has other shards
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from avatarmill.records.fingerprint import fingerprint
from avatarmill.records.index import save_table
from avatarmill.records.store import Store
from avatarmill.train.loader import Shard

SEEN = "seen"
SEEN_TABLE = pa.schema([pa.field("source_sha256", pa.string(), nullable=False)])


def record_sources(out: Path, shards: Sequence[Shard]) -> None:
    """Write down the sources of the shards before a step is made with them."""
    sources = sorted(frozenset[str]().union(*(shard.sources for shard in shards)))
    table = pa.table({"source_sha256": sources}, schema=SEEN_TABLE)
    name = f"{SEEN}/{fingerprint(sources)[:16]}.parquet"
    if not Store.of(out).exists(name):
        save_table(Store.of(out).path(name), table)
