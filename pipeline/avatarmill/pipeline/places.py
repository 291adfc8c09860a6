"""Where the row of a source lies, by sha256 of its bytes: 40 bytes of memory a source."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Digests = NDArray[np.bytes_]
"""[n] binary sha256. Compared whole: numpy ignores zeros at the end, but all have 32 bytes."""

_BYTES = 32
_BATCH = 1 << 16


def digests(column: pa.Array) -> Digests:
    """The binary form of an Arrow column of sha256 in hexadecimal letters, none of them empty.

    Raises ValueError when one does not have 64 letters.
    """
    made = [np.zeros(0, f"S{_BYTES}")]
    for start in range(0, len(column), _BATCH):
        texts = column.slice(start, _BATCH).to_pylist()
        data = bytes.fromhex("".join(texts))
        if len(data) != _BYTES * len(texts):
            wrong = next(text for text in texts if len(text) != 2 * _BYTES)
            raise ValueError(f"sha256 {wrong!r} has {len(wrong)} letters, 64 are needed")
        made.append(np.frombuffer(data, f"S{_BYTES}"))
    return np.concatenate(made)


class Places:
    """Numbers by digest, added in batches; of one digest's numbers the last added counts."""

    def __init__(self) -> None:
        self._segments: list[tuple[Digests, NDArray[np.int64]]] = []
        """Sorted by digest, each more than twice as long as the next: few, whatever the number of
        batches."""
        self._count = 0

    def add(self, keys: Digests, numbers: NDArray[np.int64]) -> None:
        """Take the numbers [n] >= 0 of some digests [n]."""
        found = self.find(keys) >= 0
        self._count += len(np.unique(keys[~found]))
        keys, numbers = _sorted(keys, numbers)
        while self._segments and len(self._segments[-1][0]) <= 2 * len(keys):
            older, their = self._segments.pop()
            keys, numbers = _sorted(np.concatenate([older, keys]), np.concatenate([their, numbers]))
        self._segments.append((keys, numbers))

    def find(self, keys: Digests) -> NDArray[np.int64]:
        """[n] numbers of some digests, -1 where there is none."""
        numbers = np.full(len(keys), -1, np.int64)
        for held, theirs in self._segments:  # oldest first: a later number replaces an earlier
            if len(held):
                at = np.minimum(np.searchsorted(held, keys), len(held) - 1)
                numbers = np.where(held[at] == keys, theirs[at], numbers)
        return numbers

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        """Every digest once, in hexadecimal letters."""
        held = [keys for keys, _ in self._segments]
        for key in np.unique(np.concatenate(held)) if held else ():
            yield bytes(key).ljust(_BYTES, b"\0").hex()


def _sorted(keys: Digests, numbers: NDArray[np.int64]) -> tuple[Digests, NDArray[np.int64]]:
    """Rising digests, of equal ones the last."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    last = np.ones(len(keys), bool)
    last[:-1] = keys[1:] != keys[:-1]
    return keys[last], numbers[order][last]
