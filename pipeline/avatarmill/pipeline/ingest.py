"""Listing of the inputs: a folder, a file, a text list or a Parquet table of video paths."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from avatarmill.pipeline.types import Source

MEDIA_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .3gp .3g2 .mkv .webm .avi .ts .mts .m2ts .mpg .mpeg .wmv .flv .ogv .mxf "
    ".m4a .mp3 .aac .wav .ogg .oga .opus .flac .mka".split()
)
"""Names taken from a folder. Wider than what probe accepts, sound included: a file that cannot
be used gets a row in the reject table, not silence."""
_BLOCK = 1 << 20


def list_sources(inputs: str | Path | Sequence[str | Path]) -> list[Source]:
    """Sources of a folder, a video file, a `.txt` list, a `.parquet` table, or several of these.

    A list has one path a line, relative to the list, `#` comments. A table has a column `uri` (or
    `path`), and optionally `licence` and `consent`, which travel with every clip. Folders are read
    recursively. The result is sorted by URI and names every file once; bytes are hashed here.
    Raises ValueError when an input does not exist or a table lacks its column.
    """
    paths = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    rows: dict[str, Source] = {}
    for path in paths:
        for uri, licence, consent in _rows(Path(path)):
            rows.setdefault(str(uri), _source(uri, licence, consent))
    return [rows[uri] for uri in sorted(rows)]


def _rows(path: Path) -> Iterator[tuple[Path, str, str]]:
    """Path, licence and consent of every video an input names."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in MEDIA_SUFFIXES)
        yield from ((p, "", "") for p in files if p.is_file())
    elif not path.is_file():
        raise ValueError(f"input {str(path)!r} does not exist; give a folder, a video, a list")
    elif path.suffix == ".txt":
        lines = (line.strip() for line in path.read_text().splitlines())
        names = [line for line in lines if line and not line.startswith("#")]
        yield from ((path.parent / name, "", "") for name in names)
    elif path.suffix == ".parquet":
        yield from _table_rows(path)
    else:
        yield path, "", ""


def _table_rows(path: Path) -> Iterable[tuple[Path, str, str]]:
    table = pq.read_table(path)
    column = next((name for name in ("uri", "path") if name in table.column_names), None)
    if column is None:
        raise ValueError(f"{path} has columns {table.column_names}; it needs 'uri' or 'path'")

    def values(name: str) -> list[str]:
        if name not in table.column_names:
            return [""] * table.num_rows
        return [str(value or "") for value in table[name].to_pylist()]

    paths = [path.parent / uri for uri in values(column)]
    return zip(paths, values("licence"), values("consent"), strict=True)


def _source(path: Path, licence: str, consent: str) -> Source:
    if not path.is_file():
        raise ValueError(f"listed file {str(path)!r} does not exist")
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return Source(str(path), str(path.resolve()), digest.hexdigest(), size, licence, consent)
