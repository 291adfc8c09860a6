"""Who is who: trails cut where people met, and put together again by motion and appearance.

Where two bodies lie on each other, either tracker may hold either person. So every trail is cut
there, the clean pieces before and after are matched all at once, and only then are the frames of
the meeting given to whom they fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from avatarmill.pipeline.appearance import Appearance, difference
from avatarmill.pipeline.figures import Array, Figure, similarity
from avatarmill.pipeline.trails import UNKNOWN_LOOK, Trail, close_rows, misfit, place_at

_LIMIT = 3.0
"""Misfit above which two pieces are two people."""
_UNCERTAIN_LIMIT = 1.3
"""Misfit above which a figure of a meeting is nobody's."""
_DISTINCT = 0.6
"""Misfit by which such a figure must fit its person better than anybody else: trackers also draw
figures that are half the one and half the other."""
_LOOK_LIMIT = 0.6
"""Difference of appearance that no motion can make up for."""
_STRANGER_LOOK = 0.4
"""The same after an absence in which anybody could have come."""
_ABSENCE_SECONDS = 1.0
_SAME_TRAIL = 0.4
"""Misfit that is forgiven because one tracker led from one piece to the other."""
_SIZE_SCALE = 0.5
"""Logarithm of the ratio of sizes that counts as much as a stray of its scale."""
_CERTAIN = 0.5
"""Misfit by which an exchange of two people must be worse to be out of the question."""
_MIN_CLEAN = 2
"""Rows of a piece that can be matched."""


@dataclass(slots=True)
class Identity:
    """One person through a shot, with the frames in which they are seen."""

    figures: dict[int, Figure] = field(default_factory=dict)
    """By row of the shot."""
    swaps_suspected: int = 0
    """Meetings after which another matching would have been nearly as good."""

    def rows(self) -> NDArray[np.int64]:
        """[T] rising."""
        return np.array(sorted(self.figures), np.int64)


@dataclass(frozen=True, slots=True)
class Link:
    """A piece that continues another, and by how much an exchange would have been worse."""

    earlier: int
    later: int
    margin: float


def identify(
    trails: Sequence[Trail], times: NDArray[np.float64], *, same_figure: float
) -> list[Identity]:
    """The people that trails are of, in the order they were first seen.

    Args:
        trails: of one shot.
        times: [F] seconds of the shot's frames.
        same_figure: similarity above which two figures of one frame are one.
    """
    pieces, uncertain = _cut(trails, times)
    links = link_pieces([piece for _, piece in pieces], [t for t, _ in pieces], times)
    chains = _chains(len(pieces), links)
    people = [Identity() for _ in chains]
    of_piece = {number: person for person, chain in enumerate(chains) for number in chain}
    for number, (_, piece) in enumerate(pieces):
        person = people[of_piece[number]]
        for row, figure in zip(piece.rows, piece.figures, strict=True):
            person.figures.setdefault(row, figure)
    for link in links:
        people[of_piece[link.earlier]].swaps_suspected += link.margin < _CERTAIN
    members = [_Member.of([pieces[number][1] for number in chain]) for chain in chains]
    for row in sorted(uncertain):
        _share_out(row, uncertain[row], people, members, times, same_figure)
    return sorted((p for p in people if p.figures), key=lambda p: min(p.figures))


@dataclass(frozen=True, slots=True)
class _Uncertain:
    """A figure of a frame in which it may be somebody else's."""

    trail: int
    figure: Figure
    look: Appearance


def _cut(
    trails: Sequence[Trail], times: NDArray[np.float64]
) -> tuple[list[tuple[int, Trail]], dict[int, list[_Uncertain]]]:
    """Clean pieces with the number of their trail, and the rest by row."""
    pieces: list[tuple[int, Trail]] = []
    uncertain: dict[int, list[_Uncertain]] = {}
    for number, (trail, close) in enumerate(zip(trails, close_rows(trails, times), strict=True)):
        edges = np.flatnonzero(np.diff(close)) + 1
        for start, stop in zip([0, *edges], [*edges, len(close)], strict=True):
            part = trail.part(int(start), int(stop))
            # A trail that was never free of others is taken as it is: there is nothing else.
            if (not close[start] and len(part.rows) >= _MIN_CLEAN) or close.all():
                pieces.append((number, part))
                continue
            for row, figure, look in zip(part.rows, part.figures, part.looks, strict=True):
                uncertain.setdefault(row, []).append(_Uncertain(number, figure, look))
    return pieces, uncertain


def link_pieces(
    pieces: Sequence[Trail], trail_numbers: Sequence[int], times: NDArray[np.float64]
) -> list[Link]:
    """The matching of ends to beginnings with the least misfit in all.

    Args:
        pieces: clean pieces.
        trail_numbers: which trail each was cut from.
        times: [F] seconds.
    """
    count = len(pieces)
    if count < 2:
        return []
    cost = np.full((count, count), np.inf)
    looks = [piece.look() for piece in pieces]
    for i, earlier in enumerate(pieces):
        for j, later in enumerate(pieces):
            if earlier.rows[-1] < later.rows[0]:
                cost[i, j] = _continues(earlier, later, looks[i], looks[j], times)
                cost[i, j] -= _SAME_TRAIL * (trail_numbers[i] == trail_numbers[j])
    # Leaving an end open costs the limit; the block on the right holds these choices.
    alone = np.where(np.eye(count, dtype=bool), _LIMIT, 1e6)
    rows, columns = linear_sum_assignment(np.hstack([np.minimum(cost, 1e6), alone]))
    chosen = {int(i): int(j) for i, j in zip(rows, columns, strict=True) if j < count}
    return [Link(i, j, _margin(i, j, chosen, cost)) for i, j in chosen.items()]


def _margin(i: int, j: int, chosen: dict[int, int], cost: Array) -> float:
    """By how much exchanging the continuation of `i` with that of any other would be worse."""
    others = [
        cost[i, other_j] + cost[other_i, j] - cost[other_i, other_j]
        for other_i, other_j in chosen.items()
        if other_i != i
    ]
    return float(min(others, default=np.inf) - cost[i, j])


def _continues(
    earlier: Trail,
    later: Trail,
    earlier_look: Appearance,
    later_look: Appearance,
    times: NDArray[np.float64],
) -> float:
    """How badly one piece continues another; infinite when it cannot."""
    start, stop = float(times[earlier.rows[-1]]), float(times[later.rows[0]])
    size = max(earlier.size, later.size)
    forward = place_at(earlier, times, stop, end=-1) - later.figures[0].torso
    backward = place_at(later, times, start, end=0) - earlier.figures[-1].torso
    strayed = 0.5 * sum(float(np.linalg.norm(v, axis=-1).mean()) for v in (forward, backward))
    changed = difference(earlier_look, later_look)
    look = UNKNOWN_LOOK if changed is None else changed
    if look > (_STRANGER_LOOK if stop - start > _ABSENCE_SECONDS else _LOOK_LIMIT):
        return np.inf
    grown = abs(float(np.log(earlier.size / later.size))) / _SIZE_SCALE
    cost = misfit(strayed / size, stop - start, changed) + grown
    return cost if cost < 2 * _LIMIT else np.inf


def _chains(count: int, links: Sequence[Link]) -> list[list[int]]:
    """Numbers of the pieces of each person."""
    following = {link.earlier: link.later for link in links}
    starts = sorted(set(range(count)) - set(following.values()))
    chains = []
    for start in starts:
        chain = [start]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        chains.append(chain)
    return chains


@dataclass(frozen=True, slots=True)
class _Member:
    """The clean pieces of one person, for asking where they were in between."""

    pieces: list[Trail]
    look: Appearance
    size: float

    @classmethod
    def of(cls, pieces: list[Trail]) -> "_Member":
        every = Trail(0)
        for piece in pieces:
            for row, figure, look in zip(piece.rows, piece.figures, piece.looks, strict=True):
                every.add(row, figure, look)
        return cls(pieces, every.look(), every.size)

    def expected(self, row: int, times: NDArray[np.float64]) -> tuple[Array, float]:
        """[2, 2] torso in a row of no clean piece, and seconds to the nearest row of one."""
        now = float(times[row])
        before = [piece for piece in self.pieces if piece.rows[-1] < row]
        after = [piece for piece in self.pieces if piece.rows[0] > row]
        guesses = []
        if before:
            gap = now - float(times[before[-1].rows[-1]])
            guesses.append((gap, place_at(before[-1], times, now, end=-1)))
        if after:
            gap = float(times[after[0].rows[0]]) - now
            guesses.append((gap, place_at(after[0], times, now, end=0)))
        weights = np.array([1 / max(gap, 1e-6) for gap, _ in guesses])
        place = np.tensordot(weights / weights.sum(), np.stack([g for _, g in guesses]), 1)
        return place, min(gap for gap, _ in guesses)


def _share_out(
    row: int,
    figures: Sequence[_Uncertain],
    people: Sequence[Identity],
    members: Sequence[_Member],
    times: NDArray[np.float64],
    same_figure: float,
) -> None:
    """Gives the uncertain figures of one row to the people they fit, each to one at most."""
    cost = np.full((len(figures), len(people)), 1e6)
    for i, uncertain in enumerate(figures):
        for j, member in enumerate(members):
            if row in people[j].figures:
                continue
            place, gap = member.expected(row, times)
            away = float(np.linalg.norm(place - uncertain.figure.torso, axis=-1).mean())
            changed = difference(member.look, uncertain.look)
            cost[i, j] = misfit(away / member.size, gap, changed)
    taken: list[Figure] = []
    pairs = [(int(at), int(to)) for at, to in zip(*linear_sum_assignment(cost), strict=True)]
    for at, to in sorted(pairs, key=lambda pair: float(cost[pair])):
        figure = figures[at].figure
        # The better of two claims to one figure has been heard first.
        doubled = any(similarity(figure.body, other.body) > same_figure for other in taken)
        others = np.delete(cost[at], to)
        distinct = cost[at, to] + _DISTINCT < others.min(initial=np.inf)
        if cost[at, to] < _UNCERTAIN_LIMIT and distinct and not doubled:
            people[to].figures[row] = figure
            taken.append(figure)
