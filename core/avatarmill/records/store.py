"""Folders of runs: on a local disk, or behind an object store that fsspec speaks to."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

TEMPORARY_SUFFIX = ".tmp"

OBJECT_STORES = frozenset({"s3", "gs", "az", "abfs", "oss"})
"""Protocols whose one PUT shows a whole object or none. Others (sftp, hdfs) show half a file."""

SPOOL_BYTES = 32 << 20
"""A file on its way to an object store stays in memory up to this size, then on disk."""

_COPY_BYTES = 8 << 20


def split_url(place: str | Path) -> tuple[str, str]:
    """Return (protocol, rest) of a place; the protocol of a local path is "".

    A URL that went through `pathlib` has lost one slash and is understood all the same:

    >>> split_url(Path("s3://bucket") / "run")
    ('s3', 'bucket/run')

    Raises ValueError for a protocol that cannot hold a run.
    """
    text = str(place)
    head, colon, rest = text.partition(":/")
    if not colon or "/" in head or len(head) < 2:
        return "", text
    if head not in OBJECT_STORES:
        raise ValueError(
            f"{text!r} is on {head!r}; a run lives on a local disk or on one of "
            f"{', '.join(sorted(OBJECT_STORES))}"
        )
    return head, rest.strip("/")


@dataclass(frozen=True, slots=True)
class Store:
    """One folder and what is in it, by names relative to it such as `commits/g-000001.json`.

    A file appears under its name whole or not at all: by rename on a local disk, by one PUT on an
    object store. Nothing is cached, so another process's files are seen at once.
    """

    protocol: str
    """Empty for a local disk."""
    root: str
    """Local path, or bucket and prefix."""

    @classmethod
    def of(cls, place: "str | Path | Store") -> "Store":
        """The store of a local path, a URL, or a URL that went through `pathlib`."""
        return place if isinstance(place, Store) else cls(*split_url(place))

    @property
    def local(self) -> Path | None:
        """The folder, where it is on a local disk."""
        return None if self.protocol else Path(self.root)

    def __str__(self) -> str:
        """Return the path or URL."""
        return f"{self.protocol}://{self.root}" if self.protocol else self.root

    def child(self, name: str) -> "Store":
        """The store of a folder in this one."""
        return Store(self.protocol, str(PurePosixPath(self.root) / name))

    def path(self, name: str) -> Path:
        """The place of a file for functions that take a path, local or not."""
        # Of a URL pathlib keeps all but one slash, which `split_url` puts back.
        return Path(str(self)) / name

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """Open `name` for writing; it appears when the block ends without an exception."""
        if self.protocol:
            with self._remote_writer(name) as file:
                yield file
        else:
            with _local_writer(Path(self.root) / name) as file:
                yield file

    def put_atomic(self, name: str, data: bytes) -> None:
        """Write `data` so that a reader sees the old bytes or all of the new ones."""
        with self.writer(name) as file:
            file.write(data)

    def read(self, name: str) -> bytes:
        """Return the bytes of one file. Raises FileNotFoundError."""
        if not self.protocol:
            return (Path(self.root) / name).read_bytes()
        data: bytes = self._files.cat_file(self._full(name))
        return data

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes [start, stop) of one file, fewer at its end: one range request."""
        if not self.protocol:
            with (Path(self.root) / name).open("rb") as file:
                file.seek(start)
                return file.read(stop - start)
        data: bytes = self._files.cat_file(self._full(name), start=start, end=stop)
        return data

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """Return the bytes of many files, at once where the store can. Raises FileNotFoundError."""
        if not self.protocol or len(names) < 2:
            return [self.read(name) for name in names]
        found = self._files.cat([self._full(name) for name in names])
        return [found[self._full(name)] for name in names]

    def size(self, name: str) -> int:
        """Return the bytes of one file. Raises FileNotFoundError."""
        if not self.protocol:
            return (Path(self.root) / name).stat().st_size
        return int(self._files.info(self._full(name))["size"])

    def exists(self, name: str = "") -> bool:
        """Whether there is such a file; without a name, whether the folder holds anything."""
        if not self.protocol:
            place = Path(self.root) / name
            return place.is_file() if name else place.is_dir()
        path = self._full(name)
        return bool(self._files.isfile(path) if name else self._files.exists(path))

    def files(self, folder: str = "", suffix: str = "") -> list[str]:
        """Names of the files directly in `folder` that end in `suffix`, sorted; none if missing."""
        return self._children(folder, "file", suffix)

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly in `folder`, sorted; none if it is missing."""
        return self._children(folder, "directory", "")

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        if not self.protocol:
            (Path(self.root) / name).unlink(missing_ok=True)
        elif self.exists(name):
            self._files.rm_file(self._full(name))

    def _children(self, folder: str, kind: str, suffix: str) -> list[str]:
        if self.protocol:
            try:
                entries = self._files.ls(self._full(folder), detail=True)
            except FileNotFoundError:
                return []
            found = [PurePosixPath(e["name"]).name for e in entries if e["type"] == kind]
        else:
            place = Path(self.root) / folder
            if not place.is_dir():
                return []
            with os.scandir(place) as entries:
                found = [e.name for e in entries if e.is_dir() == (kind == "directory")]
        return sorted(f"{folder}/{name}".lstrip("/") for name in found if name.endswith(suffix))

    @contextmanager
    def _remote_writer(self, name: str) -> Iterator[BinaryIO]:
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
            yield spool  # type: ignore[misc]
            size = spool.tell()
            spool.seek(0)
            if size <= SPOOL_BYTES:
                self._files.pipe_file(self._full(name), spool.read())
                return
            # A large object is uploaded in parts and appears with the request that joins them.
            with self._files.open(self._full(name), "wb", block_size=_COPY_BYTES) as target:
                while block := spool.read(_COPY_BYTES):
                    target.write(block)

    def _full(self, name: str) -> str:
        return str(PurePosixPath(self.root) / name)

    @property
    def _files(self) -> Any:
        return file_system(self.protocol)


@cache
def _file_system(protocol: str, process: int) -> Any:
    # By process: a client's event loop does not survive a fork.
    import fsspec

    # Listings are not kept: readers must see the commits and tombstones of other processes.
    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        raise ValueError(
            f"{protocol}:// needs a package: pip install 'avatarmill[cloud]'"
        ) from error


def file_system(protocol: str) -> Any:
    """Return fsspec's file system of a protocol, credentials from where its package looks."""
    return _file_system(protocol, os.getpid())


def store_and_name(path: str | Path) -> tuple[Store, str]:
    """Split the place of a file, local or remote, into its folder and its name."""
    protocol, rest = split_url(path)
    place = PurePosixPath(rest) if protocol else Path(rest)
    return Store(protocol, str(place.parent)), place.name


@contextmanager
def open_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file, local or a URL, for reading. Raises FileNotFoundError."""
    store, name = store_and_name(path)
    if store.local:
        with (store.local / name).open("rb") as file:
            yield file
    else:
        with file_system(store.protocol).open(f"{store.root}/{name}", "rb") as file:
            yield file


@contextmanager
def _local_writer(path: Path) -> Iterator[BinaryIO]:
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


def _sync_folder(folder: Path) -> None:
    # Without this a rename can be lost when the machine, not only the process, goes down.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
