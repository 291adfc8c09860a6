"""Listing of the inputs: folders, globs, videos and lists of them, on disk or behind a URL."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avatarmill.pipeline.fetch import FetchConfig, LocalSource, fetch, local_path
from avatarmill.pipeline.listing import READERS, Columns
from avatarmill.pipeline.source_table import SourceTable, concat
from avatarmill.pipeline.types import Reject, Source
from avatarmill.pipeline.uris import WEB, can_fetch, is_remote, protocol_of, public_uri
from avatarmill.records.store import file_system

MEDIA_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .3gp .3g2 .mkv .webm .avi .ts .mts .m2ts .mpg .mpeg .wmv .flv .ogv .mxf "
    ".m4a .mp3 .aac .wav .ogg .oga .opus .flac .mka".split()
)
"""Names taken from a folder. Wider than what probe accepts, sound included: a file that cannot
be used gets a row in the reject table, not silence."""

_SINGLE_SLASH = re.compile(r"([a-z][a-z0-9+]+):/(?!/)")

Inputs = str | Path | Sequence[str | Path]


def read_list(inputs: Inputs, config: FetchConfig | None = None) -> SourceTable:
    """Sources of folders, globs, videos and lists, without a look at their bytes.

    A list is `.txt` (a place a line, `#` comments), `.csv`, `.jsonl` or `.parquet` with a column
    `uri` (or `url`, `path`). Its other columns travel with every clip: `licence` and `consent`
    under their own names, the rest as `listed`. Places are local, http(s), s3 or gs, and
    relative to the list. Folders are read recursively. The result is in order of URI and names
    every URI once, its first row; URIs are written without passwords, signatures and tokens.

    Raises ValueError when an input does not exist or a list cannot be read.
    """
    # Arrow's own pool keeps what it has freed; the system's gives it back.
    pa.set_memory_pool(pa.system_memory_pool())
    places = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    found = [_listed(as_place(place), config or FetchConfig()) for place in places]
    return concat(found).first_of_each().sorted_by_uri()


def list_sources(inputs: Inputs) -> list[Source]:
    """Sources as `read_list`, local files hashed here: for a few of them.

    Raises ValueError when an input or a listed file does not exist.
    """
    return [_hashed(source) for source in read_list(inputs)]


def as_place(place: str | Path) -> str:
    """A path or URL as text; a URL that went through `pathlib` gets its slash back."""
    return _SINGLE_SLASH.sub(r"\1://", str(place), count=1)


def check_input(place: str | Path) -> None:
    """Raise ValueError unless a local input exists; what is remote is seen when it is read."""
    text = as_place(place)
    if is_remote(text):
        if not can_fetch(protocol_of(text)):
            raise ValueError(f"{public_uri(text)} is on {protocol_of(text)!r}; use http, s3 or gs")
    elif not Path(text).exists() and not glob.has_magic(text):
        raise ValueError(f"{text} does not exist")


def _listed(place: str, config: FetchConfig) -> SourceTable:
    check_input(place)
    suffix = PurePosixPath(place.partition("?")[0]).suffix.lower()
    if suffix in READERS and not glob.has_magic(place):
        try:
            columns = READERS[suffix](_list_bytes(place, config))
            return _located(columns, place)
        except ValueError as error:
            raise ValueError(f"{public_uri(place)}: {error}") from error
    return _places(list(_found(place)))


def _list_bytes(place: str, config: FetchConfig) -> bytes:
    with TemporaryDirectory() as folder:
        local = fetch(place, config, Path(folder))
        if isinstance(local, Reject):
            raise ValueError(f"{local.reason}: {local.evidence}")
        return local.path.read_bytes()


def _found(place: str) -> Iterator[str]:
    """Files of a folder or glob, or the one place itself."""
    protocol = protocol_of(place)
    if protocol in WEB:
        yield place
    elif protocol:
        files, inner = file_system(protocol), place.partition("://")[2]
        if glob.has_magic(inner):
            yield from (f"{protocol}://{name}" for name in files.glob(inner))
        elif PurePosixPath(inner).suffix.lower() in MEDIA_SUFFIXES:
            yield place
        else:
            yield from (f"{protocol}://{n}" for n in files.find(inner) if _is_media(n))
    elif Path(place).is_dir():
        for folder, _, names in os.walk(place):
            yield from (str(Path(folder, name)) for name in names if _is_media(name))
    elif glob.has_magic(place) and not Path(place).exists():
        found = [name for name in glob.iglob(place, recursive=True) if os.path.isfile(name)]
        if not found:
            raise ValueError(f"no file matches {place}")
        yield from found
    else:
        yield place


def _is_media(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in MEDIA_SUFFIXES


def _places(places: list[str]) -> SourceTable:
    return _located({"uri": pa.array(places, pa.string())}, "")


def _located(columns: Columns, origin: str) -> SourceTable:
    """Sources whose places are relative to the list `origin`."""
    listed = columns.pop("uri")
    listed = listed.combine_chunks() if isinstance(listed, pa.ChunkedArray) else listed
    base = origin.partition("?")[0].rpartition("/")[0]
    inside = pc.match_substring_regex(listed, r"^[A-Za-z][A-Za-z0-9+.:-]*://")
    relative = pc.invert(pc.or_(inside, pc.starts_with(listed, "/")))
    joined = pc.binary_join_element_wise(base, listed, "/") if base else listed
    full = pc.if_else(relative, joined, listed)
    # Most rows are plain; only the others pay for a look at their parts.
    plain = pc.invert(pc.match_substring_regex(full, r"^file:|[?#@]|[^:]//|(^|/)\.\.?(/|$)|/$"))
    odd = np.flatnonzero(~np.asarray(plain))
    uris, paths = full, _absolute(full)
    if len(odd):
        rows = full.take(pa.array(odd))
        where = pa.array(~np.asarray(plain))
        uris = pc.replace_with_mask(full, where, pa.array([_tidy(u) for u in rows.to_pylist()]))
        there = [u if is_remote(u) else os.path.abspath(local_path(u)) for u in rows.to_pylist()]
        paths = pc.replace_with_mask(paths, where, pa.array(there))
    return SourceTable.listing({"uri": uris, "path": paths, **columns})


def _absolute(places: Any) -> Any:
    """Local places as absolute paths; workers may run in another folder."""
    away = pc.match_substring_regex(places, r"^(/|[A-Za-z][A-Za-z0-9+.:-]*://)")
    return pc.if_else(away, places, pc.binary_join_element_wise(os.getcwd(), places, "/"))


def _tidy(place: str) -> str:
    if is_remote(place) or place.startswith("file:"):
        return public_uri(place)
    return str(Path(place))


def _hashed(source: Source) -> Source:
    if is_remote(source.path):
        return source
    local = fetch(source.path, FetchConfig(max_bytes=1 << 62), Path(os.devnull))
    if not isinstance(local, LocalSource):
        raise ValueError(f"listed file {source.uri!r}: {local.evidence}")
    changed = os.stat(source.path).st_mtime_ns
    size = local.size_bytes
    return replace(source, sha256=local.sha256, size_bytes=size, modified_ns=changed)
