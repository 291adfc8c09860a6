"""Sources that readers must no longer see: one small file for each forgotten sha256."""

import re
from pathlib import Path

from avatarmill.records.canonical import json_bytes
from avatarmill.records.store import Store

TOMBSTONES = "tombstones"


def bury(folder: str | Path | Store, source_sha256: str, *, reason: str) -> None:
    """Hide every sample of a source from the readers of `folder`, at once.

    Raises ValueError unless `source_sha256` is a full sha256: a prefix could hide a stranger.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", source_sha256):
        raise ValueError(f"source_sha256 is {source_sha256!r}, expected 64 hex digits")
    document = json_bytes({"source_sha256": source_sha256, "reason": reason})
    Store.of(folder).put_atomic(f"{TOMBSTONES}/{source_sha256}.json", document)


def buried(folder: str | Path | Store) -> frozenset[str]:
    """Return the sha256 of the sources that `folder` must not show."""
    names = Store.of(folder).files(TOMBSTONES, ".json")
    return frozenset(Path(name).stem for name in names)
