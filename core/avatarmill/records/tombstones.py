"""Sources that readers must no longer see: one small file for each forgotten sha256."""

import re
from pathlib import Path

from avatarmill.records.atomic import write_bytes
from avatarmill.records.canonical import json_bytes

TOMBSTONES = "tombstones"


def bury(folder: Path, source_sha256: str, *, reason: str) -> None:
    """Hide every sample of a source from the readers of `folder`, at once.

    Raises ValueError unless `source_sha256` is a full sha256: a prefix could hide a stranger.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", source_sha256):
        raise ValueError(f"source_sha256 is {source_sha256!r}, expected 64 hex digits")
    path = folder / TOMBSTONES / f"{source_sha256}.json"
    write_bytes(path, json_bytes({"source_sha256": source_sha256, "reason": reason}))


def buried(folder: Path) -> frozenset[str]:
    """Return the sha256 of the sources that `folder` must not show."""
    return frozenset(path.stem for path in (folder / TOMBSTONES).glob("*.json"))
