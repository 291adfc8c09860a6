"""Reads a shard without trusting it: what is sound is returned, what is not is named."""

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from avatarmill.records.clip import ARRAYS, clip_from_members, clip_row
from avatarmill.records.commit import PARTS
from avatarmill.records.fingerprint import sha256_bytes
from avatarmill.records.index import Row, entry_of, read_rows
from avatarmill.records.shot import shot_row
from avatarmill.records.tarshard import (
    BLOCK,
    ZERO_BLOCK,
    Entry,
    Members,
    ShardError,
    check_key,
    check_member,
    parse_header,
)
from avatarmill.records.token import FACE_MEMBER, MEMBERS, token_from_members, token_record

Kind = Literal["clip", "token", "shot", "other"]
"""By what the members are called: side-car shards and the like are `other`."""

_FRAME = re.compile(r"(?:ref|target)_\d\d(?:\.jpg|_mask\.png)")
_KNOWN = {
    "clip": frozenset({"json", *(f"{name}.npy" for name in ARRAYS)}),
    "token": MEMBERS | {FACE_MEMBER},
    "shot": frozenset({"json", "mp4"}),
}
_MOST_NAMED = 20
"""Problems and foreign members listed of one shard; the rest is counted."""


@dataclass(frozen=True, slots=True)
class _File:
    """A regular file of a tar."""

    key: str
    member: str
    offset: int
    """Of its header."""
    size: int

    @property
    def end(self) -> int:
        """Byte past its padding."""
        return self.offset + BLOCK + self.size + -self.size % BLOCK


@dataclass(slots=True)
class ShardFindings:
    """What one shard holds."""

    kind: Kind = "other"
    entries: dict[str, Entry] = field(default_factory=dict)
    """Where the sound samples lie, by key, in file order."""
    rows: dict[str, Row] = field(default_factory=dict)
    """Their index columns, less the location; empty for shards of the kind `other`."""
    members: int = 0
    problems: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    """Names of members that do not belong into a shard."""
    checked: int = 0
    """Samples whose bytes were held against the index of the folder."""

    def all_problems(self) -> list[str]:
        """Problems and foreign members, one line each, at most `_MOST_NAMED` of either."""
        foreign = [f"foreign member {name!r}" for name in self.foreign]
        return [*_shortened(self.problems), *_shortened(foreign)]


def inspect_shard(path: Path) -> ShardFindings:
    """Everything about a shard, whatever state it is in.

    Beside the index of its folder the bytes of every sample are held against their sha256; without
    one every sample is decoded. Damage costs the samples it touches: the walk goes on behind it.
    """
    found = ShardFindings()
    if path.stat().st_size == 0:
        found.problems.append("the file is empty")
        return found
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        samples = _samples(data, found)
        found.kind = _kind(samples)
        for files in samples:
            _take(data, files, found)
    index = path.parent / PARTS / f"{path.stem}.parquet"
    if index.is_file():
        _compare(found, {str(row["key"]): entry_of(row) for row in read_rows(index)})
    else:
        found.problems += _undecodable(path, found)
    return found


def read_sample(path: Path, entry: Entry) -> Members:
    """Members of one sound sample by name, straight from the file."""
    with path.open("rb") as file:
        file.seek(entry.offset)
        blob = file.read(entry.length)
    return {item.member: _content(blob, item) for item in _files(blob, ShardFindings())}


def _content(data: bytes | mmap.mmap, item: _File) -> bytes:
    begin = item.offset + BLOCK
    return bytes(data[begin : begin + item.size])


def _samples(data: mmap.mmap, found: ShardFindings) -> list[list[_File]]:
    """Files that stand together and share a key, in file order."""
    samples: list[list[_File]] = []
    for item in _files(data, found):
        if not samples or samples[-1][0].key != item.key:
            samples.append([])
        samples[-1].append(item)
        found.members += 1
    return samples


def _files(data: bytes | mmap.mmap, found: ShardFindings) -> Iterator[_File]:
    """Regular files whose names a shard may hold; everything else goes to `found`."""
    offset, size = 0, len(data)
    while offset + BLOCK <= size:
        block = bytes(data[offset : offset + BLOCK])
        if block == ZERO_BLOCK:
            if any(data[at : at + BLOCK].strip(b"\0") for at in range(offset, size, BLOCK)):
                found.problems.append(f"bytes after the end mark at byte {offset}")
            return
        try:
            name, length = parse_header(block)
            if length < 0:
                raise ValueError(f"{name!r} has size {length}")
        except ValueError as error:
            behind = _next_header(data, offset + BLOCK)
            found.problems.append(f"byte {offset}: {error}; {behind - offset} bytes skipped")
            offset = behind
            continue
        key, _, member = name.partition(".")
        item = _File(key, member, offset, length)
        if offset + BLOCK + length > size:
            found.problems.append(f"truncated inside {name!r}")
            return
        offset = item.end
        try:
            check_key(key)
            check_member(member)
        except ShardError:
            found.foreign.append(name)
        else:
            yield item
    if isinstance(data, mmap.mmap):
        found.problems.append(f"truncated: no end mark before byte {size}")


def _next_header(data: bytes | mmap.mmap, offset: int) -> int:
    """Byte of the next block that is a header or the end mark."""
    for at in range(offset, len(data), BLOCK):
        block = bytes(data[at : at + BLOCK])
        if block == ZERO_BLOCK and not data[at : at + 2 * BLOCK].strip(b"\0"):
            return at
        try:
            parse_header(block)
        except (ValueError, IndexError):
            continue
        return at
    return len(data)


def _kind(samples: Sequence[Sequence[_File]]) -> Kind:
    names = {item.member for sample in samples for item in sample}
    if "ref_00.jpg" in names:
        return "clip"
    if "mp4" in names:
        return "shot"
    return "token" if "latent.npy" in names else "other"


def _take(data: mmap.mmap, files: list[_File], found: ShardFindings) -> None:
    """Adds one sample to the findings, unless something is wrong with it."""
    key = files[0].key
    members = {item.member: _content(data, item) for item in files}
    begin, end = files[0].offset, files[-1].end
    if key in found.entries or len(members) != len(files):
        found.problems.append(f"sample {key}: the key or one of its members is there twice")
        return
    known = _KNOWN.get(found.kind)
    for name in members if known else ():
        if name not in (known or ()) and not (found.kind == "clip" and _FRAME.fullmatch(name)):
            found.foreign.append(f"{key}.{name}")
    try:
        if found.kind == "clip":
            found.rows[key] = clip_row(members)
        elif found.kind == "token":
            found.rows[key] = token_record(token_from_members(key, members)).row
        elif found.kind == "shot":
            found.rows[key] = shot_row(members)
    except (ShardError, KeyError) as error:
        found.problems.append(f"sample {key}: {_told(error)}")
        return
    found.entries[key] = Entry(key, begin, end - begin, sha256_bytes(data[begin:end]))


def _told(error: Exception) -> str:
    return f"no member {error}" if isinstance(error, KeyError) else str(error)


def _compare(found: ShardFindings, index: dict[str, Entry]) -> None:
    """Holds the samples against the folder's index."""
    for key, wanted in index.items():
        entry = found.entries.get(key)
        if entry is None:
            found.problems.append(f"sample {key} of the index is not there or damaged")
        elif entry.sha256 != wanted.sha256:
            found.problems.append(f"sample {key}: sha256 is not the index's")
            del found.entries[key], found.rows[key]
        else:
            found.checked += 1
    for key in found.entries.keys() - index.keys():
        found.problems.append(f"sample {key} is not in the index")


def _undecodable(path: Path, found: ShardFindings) -> Iterator[str]:
    """Decodes every clip; the row of a token sample has needed that already."""
    for key, entry in list(found.entries.items()) if found.kind == "clip" else ():
        try:
            clip_from_members(key, read_sample(path, entry))
        except ShardError as error:
            del found.entries[key], found.rows[key]
            yield str(error)


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST_NAMED
    return [*lines[:_MOST_NAMED], *([f"... and {more} more of these"] if more > 0 else [])]
