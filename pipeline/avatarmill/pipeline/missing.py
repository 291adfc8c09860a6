"""Looking for somebody who is hidden, or was taken for another: where they ought to be by now, in a
picture from which the people who are followed have been painted out.

The detector takes two people who touch for one. Once the one that is known is gone from the picture
it finds the other as soon as enough of them shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.appearance import Appearance, difference, look_at
from avatarmill.pipeline.figures import Array, Figure
from avatarmill.pipeline.ownership import own_pixels
from avatarmill.pipeline.trails import Trail, misfit, place_at
from avatarmill.pipeline.types import Bytes

_SAME_PERSON = 2.0
"""Misfit below which a later trail is the missing person, found again."""
_LOOK_LIMIT = 0.6
"""Difference of appearance above which a figure is not the missing person."""
_MIN_ROWS = 3
"""Rows of a trail that is missed; shorter ones are mistakes of the detector."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Somebody who was followed and is not any more."""

    place: Array
    """[2, 2] torso where they ought to be."""
    size: float
    """Body size, pixels."""
    look: Appearance


def missing_people(
    live: Sequence[Trail],
    done: Sequence[Trail],
    times: NDArray[np.float64],
    now: float,
    within: float,
) -> list[Missing]:
    """Whoever was lost `within` so many seconds before `now`, and has not been found again.

    `times` [F] are the seconds of the shot's frames.
    """
    found = []
    for trail in done:
        ended = float(times[trail.rows[-1]])
        if len(trail.rows) < _MIN_ROWS or now - ended > within:
            continue
        look = trail.look()
        later = [other for other in (*live, *done) if other.rows[0] > trail.rows[-1]]
        if not any(_is_again(trail, look, other, times) for other in later):
            place = place_at(trail, times, now, end=-1)
            found.append(Missing(place, trail.size, look))
    return found


def looks_like(missing: Missing, image: Bytes, figure: Figure) -> bool:
    """Whether a figure of an image may be the missing person, rather than what painting left over
    of others."""
    changed = difference(missing.look, look_at(image, figure))
    return changed is not None and changed < _LOOK_LIMIT


def painted(image: Bytes, others: Sequence[tuple[Figure, Appearance]], wanted: Appearance) -> Bytes:
    """[H, W, 3] an image without the people who are followed, except what looks like the wanted.

    The pixels of each take the mean colour of what is around them.
    """
    picture = image.copy()
    for figure, look in others:
        rows, columns = figure.window()
        hidden = own_pixels(image, figure, look, wanted)
        if hidden.any() and not hidden.all():
            own = picture[rows, columns]
            own[hidden] = cv2.mean(own, (~hidden).astype(np.uint8))[:3]
    return picture


def _is_again(trail: Trail, look: Appearance, later: Trail, times: NDArray[np.float64]) -> bool:
    when = float(times[later.rows[0]])
    place = place_at(trail, times, when, end=-1)
    strayed = float(np.linalg.norm(place - later.figures[0].torso, axis=-1).mean()) / trail.size
    gap = when - float(times[trail.rows[-1]])
    return misfit(strayed, gap, difference(look, later.look())) < _SAME_PERSON
