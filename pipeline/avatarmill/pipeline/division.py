"""Every pixel of the people of a shot to one of them, also to those who are hidden at the time."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.appearance import Appearance, look_at, total
from avatarmill.pipeline.figures import Array
from avatarmill.pipeline.identities import Identity
from avatarmill.pipeline.ownership import hidden_share, own_pixels, share_pixels
from avatarmill.pipeline.types import Bytes

_LOOKS = 16
"""Frames in which a person's appearance is counted."""
_NEAR = 1.3
"""Distance of trunks, in body sizes, within which a mask may hold somebody who was not found."""


def divide_pixels(persons: Sequence[Identity], images: Bytes) -> list[NDArray[np.float64]]:
    """Takes from the masks of the persons what belongs to others, in place.

    Args:
        persons: of one shot.
        images: [F, H, W, 3] its frames.

    Returns:
        The hidden share of each figure: for every person, [T] over `Identity.rows`.
    """
    hidden = [np.zeros(len(person.figures)) for person in persons]
    if len(persons) < 2:
        return hidden
    looks = [_look(person, images) for person in persons]
    gone = [_places_of_absence(person) for person in persons]
    for row, image in enumerate(images):
        present = [number for number, person in enumerate(persons) if row in person.figures]
        for number, places in enumerate(gone):
            if row in places:
                mine = [persons[other] for other in present]
                _leave(image, row, mine, [looks[o] for o in present], places[row], looks[number])
        if len(present) > 1:
            own = [persons[number].figures[row] for number in present]
            shared = share_pixels(image, own, [looks[number] for number in present])
            for at, number in enumerate(present):
                persons[number].figures[row] = shared[at]
                position = int(np.searchsorted(persons[number].rows(), row))
                hidden[number][position] = hidden_share(shared[at], shared[:at] + shared[at + 1 :])
    return hidden


def _look(person: Identity, images: Bytes) -> Appearance:
    """The appearance of a person over rows spread over all."""
    rows = person.rows()
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(_LOOKS, len(rows))).round().astype(int))
    return total([look_at(images[row], person.figures[int(row)]) for row in rows[chosen]])


def _places_of_absence(person: Identity) -> dict[int, Array]:
    """[2, 2] torso in every row between those in which the person was found."""
    rows = person.rows()
    places = {}
    for before, after in zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True):
        start, stop = (person.figures[row].torso for row in (before, after))
        for row in range(before + 1, after):
            share = (row - before) / (after - before)
            places[row] = (1 - share) * start + share * stop
    return places


def _leave(
    image: Bytes,
    row: int,
    present: Sequence[Identity],
    looks: Sequence[Appearance],
    place: Array,
    absent: Appearance,
) -> None:
    """Takes from the figures of a row what looks like somebody who ought to be at a place."""
    for person, look in zip(present, looks, strict=True):
        figure = person.figures[row]
        if np.linalg.norm(figure.torso.mean(0) - place.mean(0)) < _NEAR * figure.size:
            own = own_pixels(image, figure, look, absent)
            person.figures[row] = replace(figure, mask=figure.mask * own)
