"""The one place that prints: lines, tables, errors and progress bars."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def say(text: str = "") -> None:
    """Print one line to standard output, at once, also into a pipe."""
    print(text, flush=True)


def complain(text: str) -> None:
    """Print one line to standard error."""
    print(text, file=sys.stderr, flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in aligned columns under a header; columns of numbers are right-aligned.

    Cells are made `printable`: file names of strangers may hold line breaks or terminal commands.
    """
    for line in table_lines(header, rows):
        say(line)


def table_lines(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of `table`. Raises ValueError for a row of another length."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    for row in cells:
        if len(row) != len(header):
            raise ValueError(f"row {row} has {len(row)} cells, the header {len(header)}")
    columns = list(zip(header, *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [bool(cells) and all(map(_is_number, column[1:])) for column in columns]
    for row in [list(header), ["-" * width for width in widths], *cells]:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        yield "  ".join(parts).rstrip()


def printable(text: str) -> str:
    r"""The text with everything that is no visible character as an escape.

    >>> printable("a\x1b[2Jb\n")
    'a\\x1b[2Jb\\n'
    """
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("-", "", 1).rstrip("%s").isdigit()


def progress(items: Iterable[T], *, label: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` behind a progress bar on standard error; quiet when that is no terminal."""
    with tqdm(items, desc=label, total=total, disable=None, leave=False) as bar:
        yield from bar
