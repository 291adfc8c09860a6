"""Deterministic WebDataset tars: one fixed byte layout, written atomically, read at any place."""

import hashlib
import mmap
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from avatarmill.records.atomic import atomic_writer
from avatarmill.records.store import Store, store_and_name

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)
MAX_NAME = 100
"""Longest member name of a ustar header without a prefix field."""

KEY_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
MEMBER_PATTERN = re.compile(r"(?:[a-z0-9_]+\.)?(?:jpg|png|npy|json|mp4)")

Members = dict[str, bytes]
"""Member name without the key (`latent.npy`, `json`) to its bytes."""


class ShardError(ValueError):
    """A shard is truncated, damaged or holds what a shard may not hold."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one sample lies in its shard."""

    key: str
    offset: int
    """Byte of the sample's first tar header."""
    length: int
    """Bytes from there to the end of its last padded member."""
    sha256: str
    """Of those bytes."""


@dataclass(frozen=True, slots=True)
class WrittenTar:
    """What `write_tar` wrote."""

    entries: tuple[Entry, ...]
    sha256: str
    num_bytes: int


def write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> WrittenTar:
    """Write samples to `path` as plain ustar and return where each lies.

    Samples keep the given order, members are sorted by name; mtime, uid, gid are 0, so the same
    samples give the same bytes anywhere. The file appears under its name only when complete.
    Raises ShardError for a key or member name that is not allowed, or a key given twice.
    """
    entries: list[Entry] = []
    digest = hashlib.sha256()
    seen: set[str] = set()
    offset = 0
    with atomic_writer(path) as file:
        for key, members in samples:
            if key in seen:
                raise ShardError(f"{path.name}: key {key!r} is given twice")
            seen.add(key)
            blob = sample_bytes(key, members)
            _append(file, digest, blob)
            entries.append(Entry(key, offset, len(blob), hashlib.sha256(blob).hexdigest()))
            offset += len(blob)
        # Two zero blocks end a tar; records of 10,240 bytes are what tar itself writes.
        end = -(offset + 2 * BLOCK) % tarfile.RECORDSIZE + 2 * BLOCK
        _append(file, digest, bytes(end))
    return WrittenTar(tuple(entries), digest.hexdigest(), offset + end)


def _append(file: BinaryIO, digest: "hashlib._Hash", data: bytes) -> None:
    file.write(data)
    digest.update(data)


def sample_bytes(key: str, members: Mapping[str, bytes]) -> bytes:
    """Return the tar bytes of one sample. Raises ShardError for names that are not allowed."""
    check_key(key)
    if not members:
        raise ShardError(f"sample {key!r} has no members")
    parts: list[bytes] = []
    for name in sorted(members):
        check_member(name)
        data = members[name]
        parts += [_header(f"{key}.{name}", len(data)), data, bytes(-len(data) % BLOCK)]
    return b"".join(parts)


def check_key(key: str) -> None:
    """Raise ShardError unless `key` is letters, digits, `_` and `-`: no dots, no path."""
    if not KEY_PATTERN.fullmatch(key):
        raise ShardError(f"key {key!r} is refused: letters, digits, '_' and '-' only, no dots")


def check_member(name: str) -> None:
    """Raise ShardError unless `name` is `NAME.EXT` or `EXT` with jpg, png, npy, json or mp4."""
    if not MEMBER_PATTERN.fullmatch(name):
        raise ShardError(f"member {name!r} is refused: NAME.jpg, .png, .npy, .json or .mp4 only")


def _header(name: str, size: int) -> bytes:
    if len(name) > MAX_NAME:
        raise ShardError(f"member name {name!r} has {len(name)} characters, limit {MAX_NAME}")
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def read_tar(path: Path) -> Iterator[tuple[str, Members]]:
    """Yield (key, members) in file order. Raises ShardError on damage or unknown members.

    Nothing is decoded or unpickled. A truncated file raises once its whole samples are out.
    """
    with ShardReader(path) as reader:
        end = 0
        while end < len(reader):
            key, members, end = reader.sample_at(end)
            if key:
                yield key, members


class RemoteBytes:
    """The bytes of an object, sliced like a memory map; each miss is one range request."""

    WINDOW = 4 << 20
    """Fetched at least, so that headers and small members do not cost a request each."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._size = store.size(name)
        self._start, self._window = 0, b""

    def __len__(self) -> int:
        """Return the size of the object."""
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        """Return the bytes of a slice with a start, a stop and no step."""
        start, stop = part.start, min(part.stop, self._size)
        if start < self._start or stop > self._start + len(self._window):
            self.fetch(start, max(stop, start + self.WINDOW))
        return self._window[start - self._start : stop - self._start]

    def fetch(self, start: int, stop: int) -> None:
        """Hold bytes [start, stop), by one request unless they are held."""
        stop = min(stop, self._size)
        if start < self._start or stop > self._start + len(self._window):
            self._window = self._store.read_range(self._name, start, stop)
            self._start = start

    def close(self) -> None:
        """Drop what is held."""
        self._window = b""


class ShardReader:
    """Random access to the samples of one shard: a memory map, or range requests to a store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | RemoteBytes
        store, name = store_and_name(path)
        if store.size(name) == 0:
            raise ShardError(f"{path.name} is empty")
        if store.local is None:
            self._map = RemoteBytes(store, name)
        else:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the size of the shard in bytes."""
        return len(self._map)

    def close(self) -> None:
        """Drop the memory map."""
        self._map.close()

    def read(self, entry: Entry, *, verify: bool = False) -> Members:
        """Return the members of one indexed sample, optionally checking its sha256.

        Raises ShardError when the bytes there are not that sample.
        """
        if isinstance(self._map, RemoteBytes):
            # The next header is looked at too, to see where the sample ends.
            self._map.fetch(entry.offset, entry.offset + entry.length + BLOCK)
        if verify:
            blob = self.raw(entry)
            if hashlib.sha256(blob).hexdigest() != entry.sha256:
                raise ShardError(f"{self.path.name}: sha256 of {entry.key} is not the index's")
        key, members, end = self.sample_at(entry.offset)
        if key != entry.key or end - entry.offset != entry.length:
            raise ShardError(
                f"{self.path.name}: the index expects {entry.key} ({entry.length} bytes) at "
                f"{entry.offset}, found {key or 'nothing'} ({end - entry.offset} bytes)"
            )
        return members

    def raw(self, entry: Entry) -> bytes:
        """Return the tar bytes of one indexed sample, unchecked."""
        return self._map[entry.offset : entry.offset + entry.length]

    def sample_at(self, offset: int) -> tuple[str, Members, int]:
        """Return (key, members, end offset) of the sample at `offset`; key "" at the end."""
        key, members = "", Members()
        while True:
            header = self._header_at(offset)
            if header is None:
                # After a last sample the caller comes back here once more and gets "".
                return key, members, offset if key else len(self)
            name, size = header
            found, _, member = name.partition(".")
            if key and found != key:
                return key, members, offset
            check_key(found)
            check_member(member)
            if member in members:
                raise ShardError(f"{self.path.name}: member {name!r} is there twice")
            key = found
            members[member] = self._map[offset + BLOCK : offset + BLOCK + size]
            offset += BLOCK + size + -size % BLOCK

    def _header_at(self, offset: int) -> tuple[str, int] | None:
        block = self._map[offset : offset + BLOCK]
        if len(block) < BLOCK:
            raise ShardError(f"{self.path.name} is truncated at byte {offset + len(block)}")
        if block == ZERO_BLOCK:
            return None
        try:
            name, size = parse_header(block)
        except ValueError as error:
            raise ShardError(f"{self.path.name}: bad header at byte {offset}: {error}") from error
        if offset + BLOCK + size > len(self):
            raise ShardError(f"{self.path.name} is truncated inside {name!r}")
        return name, size


def parse_header(block: bytes) -> tuple[str, int]:
    """Return (name, size) of a plain ustar header of a regular file; ValueError for any other.

    Three times as fast as `tarfile`, and stricter: no prefix, links, devices or extensions.
    """
    if block[257:263] != b"ustar\0" or block[345]:
        raise ValueError("not a plain ustar header")
    # The checksum counts its own eight bytes as spaces.
    if int(block[148:154], 8) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise ValueError("bad checksum")
    name = block[:MAX_NAME].rstrip(b"\0").decode("ascii")
    if block[156] not in b"0\0":
        raise ValueError(f"{name!r} is not a regular file")
    return name, int(block[124:135], 8)
