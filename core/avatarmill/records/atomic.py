"""Files that appear whole or not at all: temporary name, fsync, rename."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary sibling of `path` for writing; on a clean exit it becomes `path`.

    The bytes and the rename are flushed to disk before the block ends. When the block raises,
    the temporary file is removed and `path` keeps what it held.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id keeps two writers of one file apart; the last rename wins, both are whole.
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old bytes or all of the new ones."""
    with atomic_writer(path) as file:
        file.write(data)


def _sync_folder(folder: Path) -> None:
    # Without this a rename can be lost when the machine, not only the process, goes down.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
