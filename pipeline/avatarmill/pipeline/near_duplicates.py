"""Near duplicates over a whole run: who may be a copy of whom, and who stays.

Candidates come from a table of hashes, so that the work grows with the list and not with its
square: the signs of 24 of the lowest frequencies of a picture (a perceptual hash) make a key, and a
film asks for its own keys and for those that differ in their least certain signs. Candidates are
then compared as films (`likeness`). A film is a duplicate when nearly all of it is found in an
earlier film that stays: the first of the list wins, whatever the order in which the signatures
were made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from avatarmill.pipeline.children.strip import SIDE
from avatarmill.pipeline.likeness import Likeness, Signature, likeness

_BANDS, _BITS = 2, 24
_UNCERTAIN = 6
"""Signs of a key that are tried both ways, the smallest coefficients."""
_FEW_PICTURES = 64
"""Longer films have every second picture in the table, others all."""
_MAX_ASKED = 32
"""Pictures of a film that ask, evenly spread."""
_MIN_HITS = 2
"""Answers a candidate needs; one is enough for films of a few pictures."""
_MAX_BUCKET = 32
"""Entries of one key that answer, the first of the list: a logo or a grey card has too many."""
_MAX_CANDIDATES = 32
"""Compared with one film, those with the most answers."""

Keys = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NearDuplicateConfig:
    """When a source counts as a copy of another one of the list."""

    enabled: bool = True
    """Exact copies are found in any case."""
    threshold: float = 0.56
    """Likeness of a copy: correlation of pictures times correlation of motion. Copies have 0.6 to
    1, other takes of one person in one place below 0.5."""
    overlap: float = 0.6
    """Share of a source that must be found in the earlier one."""

    def __post_init__(self) -> None:
        for name in ("threshold", "overlap"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"NearDuplicateConfig.{name} is {getattr(self, name)}, limit 0 to 1"
                )


@dataclass(frozen=True, slots=True)
class Copy:
    """A film found in an earlier one."""

    of: int
    """Position of the earlier film, which is no copy itself."""
    likeness: Likeness


def find_copies(
    count: int, signature: Callable[[int], Signature | None], config: NearDuplicateConfig
) -> dict[int, Copy]:
    """Which of `count` films in order of precedence are copies of earlier ones.

    Args:
        count: number of films.
        signature: of a film by its position; None where it has none. Called again when a pair is
            compared, so that not all signatures need to be held.
        config: limits.
    """
    table = _Table.of([_film_keys(signature(film)) for film in range(count)])
    copies: dict[int, Copy] = {}
    for film in range(count):
        mine = signature(film)
        for earlier in table.candidates(film, mine):
            theirs = None if earlier in copies else signature(earlier)
            if mine is None or theirs is None:
                continue
            found = likeness(mine, theirs, config.threshold, config.overlap)
            if found.value >= config.threshold and found.coverage >= config.overlap:
                copies[film] = Copy(earlier, found)
                break
    return copies


@dataclass(frozen=True, slots=True)
class _Table:
    """Keys of all films, sorted by key, then by position in the list."""

    keys: Keys
    films: NDArray[np.int32]

    @classmethod
    def of(cls, keys: Sequence[Keys]) -> "_Table":
        films = np.repeat(np.arange(len(keys), dtype=np.int32), [len(k) for k in keys])
        flat = np.concatenate([np.zeros(0, np.int64), *keys])
        order = np.argsort(flat, kind="stable")
        return cls(flat[order], films[order])

    def candidates(self, film: int, signature: Signature | None) -> list[int]:
        """Earlier films with enough keys in common, the first of the list first."""
        if signature is None or not len(signature.pictures):
            return []
        asked = _asked_keys(signature)
        low = np.searchsorted(self.keys, asked.ravel())
        size = np.minimum(np.searchsorted(self.keys, asked.ravel(), "right") - low, _MAX_BUCKET)
        hit = np.flatnonzero(size)
        places = chain.from_iterable(range(low[k], low[k] + size[k]) for k in hit)
        films = self.films[np.fromiter(places, np.int64)]
        # A picture answers once for each film, whatever the number of its keys that agree.
        asker = np.repeat(hit // asked.shape[1], size[hit])
        pairs = np.unique(np.stack([films, asker]), axis=1)
        found, answers = np.unique(pairs[0][pairs[0] < film], return_counts=True)
        enough = answers >= min(_MIN_HITS, len(asked))
        found, answers = found[enough], answers[enough]
        best = np.argsort(-answers, kind="stable")[:_MAX_CANDIDATES]
        return sorted(found[best].tolist())


def _film_keys(signature: Signature | None) -> Keys:
    """Distinct keys of a film."""
    if signature is None or not len(signature.pictures):
        return np.zeros(0, np.int64)
    step = 1 if len(signature.pictures) <= _FEW_PICTURES else 2
    return np.unique(_packed(_coefficients(signature.pictures[::step]) > 0))


def _asked_keys(signature: Signature) -> Keys:
    """[pictures, keys]: of both bands, with every choice of the uncertain signs."""
    count = len(signature.pictures)
    chosen = np.linspace(0, count - 1, min(count, _MAX_ASKED)).round().astype(int)
    values = _coefficients(signature.pictures[chosen])
    base = _packed(values > 0)
    weak = np.argsort(np.abs(values), axis=2, kind="stable")[:, :, :_UNCERTAIN]
    flips = [sum(choice, np.zeros_like(base)) for choice in _choices(1 << weak)]
    return np.concatenate([base ^ flip for flip in flips], axis=1)


def _choices(bits: NDArray[np.int64]) -> list[list[NDArray[np.int64]]]:
    """Every subset of the last axis of `bits`, each as a list of its columns."""
    columns = [bits[..., k] for k in range(bits.shape[-1])]
    return [list(c) for size in range(len(columns) + 1) for c in combinations(columns, size)]


def _packed(signs: NDArray[np.bool_]) -> Keys:
    """[n, bands] keys of signs [n, bands, bits]; the band is part of the key."""
    weights = 1 << np.arange(_BITS, dtype=np.int64)
    keys: Keys = (signs @ weights) + (np.arange(_BANDS, dtype=np.int64) << _BITS)
    return keys


def _coefficients(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[n, bands, bits] lowest cosine coefficients of pictures, less the mean; bands interleaved."""
    # In double precision: a sign must not depend on the kind of machine.
    cosines = dctn(pictures.astype(np.float64), axes=(1, 2), norm="ortho")
    flat = cosines.reshape(len(pictures), -1)
    down, across = np.divmod(np.arange(SIDE * SIDE), SIDE)
    order = np.lexsort((across, down, down + across))[1 : _BANDS * _BITS + 1]
    values: NDArray[np.float64] = flat[:, order].reshape(-1, _BITS, _BANDS).transpose(0, 2, 1)
    return values
