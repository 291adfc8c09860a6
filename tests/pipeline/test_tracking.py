"""Trackers on people of flat colours: crossings, late comers, figures that change.

The detector of these tests takes people who touch for one, as the real one does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from avatarmill.pipeline.figures import Array, Detection, Figure
from avatarmill.pipeline.identities import Identity, identify
from avatarmill.pipeline.missing import looks_like, missing_people, painted
from avatarmill.pipeline.sight import Window
from avatarmill.pipeline.tracking import follow_people
from avatarmill.pipeline.tracking_config import TrackingConfig
from avatarmill.pipeline.trails import Trail
from avatarmill.pipeline.types import Bytes, Landmarks

HEIGHT, WIDTH = 240, 640
TOP, BOTTOM, HALF = 40, 220, 24
SIZE = 60.0
_GROUND = (90, 110, 90)
_ENOUGH = 0.3
_TOUCH = 70


@dataclass(frozen=True, slots=True)
class Person:
    """A rectangle that walks; later ones of a list stand in front."""

    colour: tuple[int, int, int]
    place: Callable[[int], float]
    """Middle, pixels, of every row."""


def film(people: Sequence[Person], num_frames: int) -> Bytes:
    """[F, H, W, 3]"""
    images = np.full((num_frames, HEIGHT, WIDTH, 3), _GROUND, np.uint8)
    for row, image in enumerate(images):
        for person in people:
            x = round(person.place(row))
            image[TOP:BOTTOM, max(x - HALF, 0) : max(x + HALF, 0)] = person.colour
    return images


def figure(x: float, mask: Bytes | None = None) -> Figure:
    """A body that stands at x, with a mask [H, W] of the whole frame."""
    body = np.ones((1, 33, 4), np.float32)
    body[0, :, 0] = x
    body[0, :, 1] = TOP + 20
    for left, height in ((11, 40), (13, 60), (15, 80), (23, 100), (25, 140), (27, 170), (31, 175)):
        body[0, left, :2] = x + 12, TOP + height
        body[0, left + 1, :2] = x - 12, TOP + height
    hand = np.full((1, 21, 3), np.nan, np.float32)
    landmarks = Landmarks(body, body[..., :3], hand, hand, np.full((1, 478, 3), np.nan, np.float32))
    if mask is None:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[TOP:BOTTOM, max(round(x) - HALF, 0) : max(round(x) + HALF, 0)] = 255
    return Figure(landmarks, region(x), mask, (0, 0))


def region(x: float) -> Array:
    """Where to look for somebody at x."""
    return np.array([x, 0.5 * (TOP + BOTTOM), 200.0, 200.0, 0.0])


class FlatSight:
    """Sees the people of a film by their colours, and keeps count of pictures it was shown."""

    def __init__(self, people: Sequence[Person], images: Bytes) -> None:
        self._people, self._images = people, images
        self.pictures = 0

    def detect(self, row: int, window: Window, picture: Bytes | None = None) -> list[Detection]:
        """Of people who touch only the one in front."""
        x0, y0, x1, y1 = window
        frame = self._images[row].copy()
        if picture is not None:
            frame[y0:y1, x0:x1] = picture
        seen = [x for x, _ in self._seen(frame, row) if x0 <= x < x1]
        alone = [x for at, x in enumerate(seen) if all(abs(x - y) > _TOUCH for y in seen[at + 1 :])]
        return [Detection(0.9, region(x), figure(x).torso) for x in alone]

    def follow(
        self, slot: int, row: int, region: Array, *, fresh: bool, picture: Bytes | None = None
    ) -> Figure | None:
        """Whoever is in front near a region."""
        self.pictures += picture is not None
        frame = self._images[row] if picture is None else picture
        near = [found for found in self._seen(frame, row) if abs(found[0] - region[0]) < _TOUCH]
        return figure(*near[-1]) if near else None

    def _seen(self, frame: Bytes, row: int) -> list[tuple[float, Bytes]]:
        """Places and masks of people who show enough, those in front last."""
        area = _ENOUGH * 2 * HALF * (BOTTOM - TOP)
        masks = [(frame == person.colour).all(-1) for person in self._people]
        return [
            (person.place(row), np.uint8(255) * mask)
            for person, mask in zip(self._people, masks, strict=True)
            if mask.sum() > area
        ]


RED, BLUE, YELLOW = (200, 30, 40), (30, 60, 200), (210, 190, 30)
TIMES: NDArray[np.float64] = np.arange(40) / 10


def line(start: float, speed: float) -> Callable[[int], float]:
    return lambda row: start + speed * row


def trails_of(people: Sequence[Person]) -> tuple[list[Trail], FlatSight]:
    images = film(people, len(TIMES))
    sight = FlatSight(people, images)
    return follow_people(sight, images, TIMES, TrackingConfig()), sight


def persons_of(people: Sequence[Person]) -> list[Identity]:
    return identify(trails_of(people)[0], TIMES, same_figure=0.5)


def test_people_apart_are_followed_through_every_frame() -> None:
    trails, sight = trails_of([Person(RED, line(100, 1)), Person(BLUE, line(400, -1))])
    assert [trail.rows for trail in trails] == [list(range(40))] * 2
    assert sight.pictures == 0, "nobody is painted out where nobody is hidden"


def test_somebody_hidden_is_found_as_soon_as_enough_of_them_shows() -> None:
    behind, front = Person(RED, line(120, 10)), Person(BLUE, line(510, -10))
    persons = persons_of([behind, front])
    assert len(persons) == 2
    for person, truth in zip(
        sorted(persons, key=lambda p: p.figures[0].body[11, 0]), (behind, front), strict=True
    ):
        for row, seen in person.figures.items():
            assert abs(float(seen.torso[0, 0]) - truth.place(row)) < 2 * HALF, "somebody else"
    hidden = [row for row in range(40) if abs(behind.place(row) - front.place(row)) < 0.7 * HALF]
    missed = {row for row in range(40) for p in persons if row not in p.figures}
    assert len(missed) <= len(hidden) + 6, (missed, hidden)


def test_the_order_of_depth_does_not_matter() -> None:
    for order in (1, -1):
        people = [Person(RED, line(120, 10)), Person(BLUE, line(510, -10))][::order]
        persons = persons_of(people)
        ends = sorted(
            (float(p.figures[0].torso[0, 0]), float(p.figures[39].torso[0, 0])) for p in persons
        )
        assert ends == [(120, 510), (510, 120)]


def test_somebody_who_comes_back_into_the_image_is_the_same_person() -> None:
    def round_trip(row: int) -> float:
        return float(np.interp(row, [0, 12, 20, 39], [300, -80, -80, 330]))

    persons = persons_of([Person(RED, line(480, 0)), Person(BLUE, round_trip)])
    assert len(persons) == 2
    (walker,) = [p for p in persons if p.figures[0].torso[0, 0] < 400]
    assert {0, 39} <= set(walker.figures)
    assert not set(walker.figures) & {14, 15, 16, 17, 18}


def test_a_tracker_whose_figure_changes_clothes_ends_there() -> None:
    people = [Person(RED, line(300, 0)), Person(YELLOW, line(300, 0))]
    images = film(people[:1], len(TIMES))
    images[20:] = film(people[1:], 20)
    trails = follow_people(FlatSight(people, images), images, TIMES, TrackingConfig())
    assert [(t.rows[0], t.rows[-1]) for t in trails] == [(0, 19), (20, 39)]
    assert len(identify(trails, TIMES, same_figure=0.5)) == 2


def test_a_fade_is_no_change_of_clothes() -> None:
    people = [Person(RED, line(300, 0))]
    images = film(people, len(TIMES))
    images[30:] = images[30:] // 3 + 160
    faded = Person((RED[0] // 3 + 160, RED[1] // 3 + 160, RED[2] // 3 + 160), line(300, 0))
    trails = follow_people(FlatSight([*people, faded], images), images, TIMES, TrackingConfig())
    assert [(t.rows[0], t.rows[-1]) for t in trails] == [(0, 39)]


def test_whoever_was_found_again_is_not_missing() -> None:
    people = [Person(RED, line(300, 0))]
    (trail,), _ = trails_of(people)
    first, again = trail.part(0, 10), trail.part(15, 30)
    (missing,) = missing_people([], [first], TIMES, 1.4, 2.5)
    assert missing.place[:, 0] == pytest.approx(300)
    assert missing_people([again], [first], TIMES, 3.0, 2.5) == []
    assert missing_people([], [first], TIMES, 3.9, 2.5) == [], "long ago"
    images = film(people, 2)
    assert looks_like(missing, images[0], figure(300))
    assert not looks_like(missing, film([Person(BLUE, line(300, 0))], 1)[0], figure(300))


def test_painting_takes_the_others_out_and_leaves_the_wanted() -> None:
    people = [Person(RED, line(300, 0)), Person(BLUE, line(320, 0))]
    red, blue = (trails_of([person])[0][0] for person in people)
    image = film(people, 1)[0]
    picture = painted(image, [(figure(320), blue.look())], red.look())
    left = [(picture == c).all(-1).sum() / (image == c).all(-1).sum() for c in (BLUE, RED)]
    assert left[0] < 0.1 and left[1] > 0.95, left


def test_mistakes_in_the_configuration_are_named() -> None:
    with pytest.raises(ValueError, match="max_change is 0"):
        TrackingConfig(max_change=0)
    with pytest.raises(ValueError, match="max_people is 17, must be 1..16"):
        TrackingConfig(max_people=17)
