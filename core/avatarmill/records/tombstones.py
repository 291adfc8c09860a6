"""Sources that readers must no longer see: one small file for each forgotten sha256."""

import os
import re
import time
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


class Tombstones:
    """The buried sources of a folder for a reader that runs for days."""

    REFRESH_SECONDS = 10.0
    """An object store is asked again after so long; a local folder shows a change at once."""

    def __init__(self, folder: str | Path | Store) -> None:
        self._store = Store.of(folder)
        self._seen: float | None = None
        self._buried: frozenset[str] = frozenset()

    def now(self) -> frozenset[str]:
        """The sha256 of the sources that must not be shown now."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._buried, self._seen = buried(self._store), stamp
        return self._buried

    def _stamp(self) -> float:
        if self._store.local is None:
            return time.monotonic() // self.REFRESH_SECONDS
        try:
            return float(os.stat(self._store.local / TOMBSTONES).st_mtime_ns)
        except FileNotFoundError:
            return 0.0
