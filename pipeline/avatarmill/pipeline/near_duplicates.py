"""Near duplicates over a whole run: who may be a copy of whom, and who stays.

Candidates come from a table of hashes, so that the work grows with the list and not with its
square: the signs of 24 of the lowest frequencies of a picture (a perceptual hash) make a key, and a
film asks for its own keys and for those that differ in their least certain signs. Candidates are
then compared as films (`likeness`). A film is a duplicate when nearly all of it is found in an
earlier film that stays: the first of the list wins, whatever the order in which the signatures
were made.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import chain, combinations
from tempfile import TemporaryFile
from typing import IO

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from avatarmill.pipeline.children.strip import SIDE
from avatarmill.pipeline.likeness import CROP, Likeness, Signature, averages, likeness

_BANDS, _BITS = 2, 24
_UNCERTAIN = 6
"""Signs of a key that are tried both ways, the smallest coefficients."""
_FEW_PICTURES = 64
"""Longer films have every second picture in the table, others all."""
_MAX_ASKED = 32
"""Pictures of a film that ask, evenly spread."""
_CORNER_UNCERTAIN, _CORNER_MAX_ASKED = 4, 8
"""As above, for the film as it would be cropped or was cropped in a corner: 5 % there turn more
signs than are uncertain."""
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
    threshold: float = 0.66
    """Likeness of a copy: correlation of pictures times correlation of motion times the share of
    the source that is found. Copies have 0.7 to 1, other takes of one person in one place, moving
    in the same manner before the same camera, at most 0.7 and as a rule below 0.6."""
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
    with TemporaryFile() as scratch:
        table = _Table.of((_film_keys(signature(film)) for film in range(count)), scratch)
        return _found_copies(count, signature, config, table)


def _found_copies(
    count: int,
    signature: Callable[[int], Signature | None],
    config: NearDuplicateConfig,
    table: "_Table",
) -> dict[int, Copy]:
    """Films in order of precedence, each compared with its candidates until one is its original."""
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
    """Keys of all films, each joined with the film's position in the list, sorted."""

    entries: NDArray[np.int64]
    """key << 32 | film, in a file: half a gigabyte for a million films."""

    @classmethod
    def of(cls, keys: Iterable[Keys], scratch: IO[bytes]) -> "_Table":
        """The table of films in the order of the list, kept in `scratch`."""
        for film, own in enumerate(keys):
            scratch.write((own << 32 | film).tobytes())
        if not scratch.tell():
            return cls(np.zeros(0, np.int64))
        scratch.flush()
        entries = np.memmap(scratch, np.int64, "r+")
        entries.sort()
        return cls(entries)

    def candidates(self, film: int, signature: Signature | None) -> list[int]:
        """Earlier films with enough keys in common, the first of the list first."""
        if signature is None or not len(signature.pictures):
            return []
        asked, askers = _asked_keys(signature)
        keys = asked << 32
        low = np.searchsorted(self.entries, keys)
        size = np.minimum(np.searchsorted(self.entries, keys | film) - low, _MAX_BUCKET)
        hit = np.flatnonzero(size)
        places = chain.from_iterable(range(low[k], low[k] + size[k]) for k in hit)
        films = self.entries[np.fromiter(places, np.int64)] & 0xFFFFFFFF
        # A picture answers once for each film, whatever the number of its keys that agree.
        pairs = np.unique(np.stack([films, np.repeat(askers[hit], size[hit])]), axis=1)
        found, answers = np.unique(pairs[0], return_counts=True)
        enough = answers >= min(_MIN_HITS, len(signature.pictures))
        found, answers = found[enough], answers[enough]
        best = np.argsort(-answers, kind="stable")[:_MAX_CANDIDATES]
        return sorted(found[best].tolist())


def _film_keys(signature: Signature | None) -> Keys:
    """Distinct keys of a film."""
    if signature is None or not len(signature.pictures):
        return np.zeros(0, np.int64)
    step = 1 if len(signature.pictures) <= _FEW_PICTURES else 2
    return np.unique(_packed(_coefficients(signature.pictures[::step]) > 0))


def _asked_keys(signature: Signature) -> tuple[Keys, NDArray[np.int64]]:
    """Keys of both bands with every choice of the uncertain signs, and the picture that asks each.

    The film asks as it is, then as it would look cropped in a corner, and as it may have looked
    before it was.
    """
    flat = signature.pictures.reshape(len(signature.pictures), -1)
    keys, askers = [], []
    for operator in (None, *_corners()):
        most, uncertain = (
            (_MAX_ASKED, _UNCERTAIN) if operator is None else (_CORNER_MAX_ASKED, _CORNER_UNCERTAIN)
        )
        chosen = np.linspace(0, len(flat) - 1, min(len(flat), most)).round().astype(np.int64)
        seen = flat[chosen] if operator is None else flat[chosen] @ operator.T
        own = _tried_keys(seen.reshape(-1, SIDE, SIDE), uncertain)
        keys.append(own.ravel())
        askers.append(np.repeat(chosen, own.shape[1]))
    return np.concatenate(keys), np.concatenate(askers)


def _tried_keys(pictures: NDArray[np.generic], uncertain: int) -> Keys:
    """[pictures, keys]."""
    values = _coefficients(pictures)
    base = _packed(values > 0)
    weak = np.argsort(np.abs(values), axis=2, kind="stable")[:, :, :uncertain]
    flips = [sum(choice, np.zeros_like(base)) for choice in _choices(1 << weak)]
    return np.concatenate([base ^ flip for flip in flips], axis=1)


@cache
def _corners() -> list[NDArray[np.float64]]:
    """Operators [SIDE * SIDE, SIDE * SIDE]: crops in four corners, and their reverses."""
    shrunk = [(0.0, CROP), (1 - CROP, 1.0)]
    grown = [(0.0, 1 / CROP), (1 - 1 / CROP, 1.0)]
    return [
        np.kron(averages(*down, SIDE), averages(*across, SIDE)).astype(np.float64)
        for spans in (shrunk, grown)
        for down in spans
        for across in spans
    ]


def _choices(bits: NDArray[np.int64]) -> list[list[NDArray[np.int64]]]:
    """Every subset of the last axis of `bits`, each as a list of its columns."""
    columns = [bits[..., k] for k in range(bits.shape[-1])]
    return [list(c) for size in range(len(columns) + 1) for c in combinations(columns, size)]


def _packed(signs: NDArray[np.bool_]) -> Keys:
    """[n, bands] keys of signs [n, bands, bits]; the band is part of the key."""
    weights = 1 << np.arange(_BITS, dtype=np.int64)
    keys: Keys = (signs @ weights) + (np.arange(_BANDS, dtype=np.int64) << _BITS)
    return keys


def _coefficients(pictures: NDArray[np.generic]) -> NDArray[np.float64]:
    """[n, bands, bits] lowest cosine coefficients of pictures, less the mean; bands interleaved."""
    # In double precision: a sign must not depend on the kind of machine.
    cosines = dctn(pictures.astype(np.float64), axes=(1, 2), norm="ortho")
    flat = cosines.reshape(len(pictures), -1)
    down, across = np.divmod(np.arange(SIDE * SIDE), SIDE)
    order = np.lexsort((across, down, down + across))[1 : _BANDS * _BITS + 1]
    values: NDArray[np.float64] = flat[:, order].reshape(-1, _BITS, _BANDS).transpose(0, 2, 1)
    return values
