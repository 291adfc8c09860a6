"""Files that appear whole or not at all, wherever their path points."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from avatarmill.records.store import store_and_name


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[BinaryIO]:
    """Open `path`, local or a URL, for writing; on a clean exit it holds what was written.

    Local bytes and the rename are flushed to disk before the block ends; an object store gets one
    PUT. When the block raises, `path` keeps what it held.
    """
    store, name = store_and_name(path)
    with store.writer(name) as file:
        yield file


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old bytes or all of the new ones."""
    with atomic_writer(path) as file:
        file.write(data)


def read_bytes(path: str | Path) -> bytes:
    """Return the bytes of a file, local or a URL. Raises FileNotFoundError."""
    store, name = store_and_name(path)
    return store.read(name)
