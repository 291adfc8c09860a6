"""Who is who, from made-up trails: crossings, hidden people, re-entry, two trackers on one."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.appearance import NOTHING, Appearance
from avatarmill.pipeline.figures import Figure, similarity
from avatarmill.pipeline.identities import Identity, identify
from avatarmill.pipeline.track_truth import track_errors
from avatarmill.pipeline.trails import Trail
from avatarmill.pipeline.types import Landmarks

SIZE = 60.0
TIMES: NDArray[np.float64] = np.arange(60) / 10


def look(colour: int) -> Appearance:
    colours = np.zeros_like(NOTHING.colours)
    colours[:, colour] = 1
    return Appearance(colours, np.ones(3))


def figure(x: float) -> Figure:
    body = np.ones((1, 33, 4), np.float32)
    body[0, :, 0] = x
    body[0, :, 1] = 100
    body[0, [23, 24], 1] += SIZE
    body[0, [25, 26], 1] += 1.7 * SIZE
    body[0, [27, 28], 1] += 2.4 * SIZE
    hand = np.full((1, 21, 3), np.nan, np.float32)
    face = np.full((1, 478, 3), np.nan, np.float32)
    landmarks = Landmarks(body, body[..., :3], hand, hand, face)
    return Figure(landmarks, np.zeros(5), np.full((4, 4), 255, np.uint8), (int(x), 100))


def trail(slot: int, rows: range, path: list[tuple[float, int]]) -> Trail:
    """A trail along (x, colour of what is really there)."""
    made = Trail(slot)
    for row, (x, colour) in zip(rows, path, strict=True):
        made.add(row, figure(x), look(colour))
    return made


def walk(start: float, speed: float, rows: range, colour: int) -> list[tuple[float, int]]:
    return [(start + speed * row, colour) for row in rows]


def people(*trails: Trail) -> list[Identity]:
    return identify(list(trails), TIMES, same_figure=0.5)


def x_at(person: Identity, row: int) -> float:
    return float(person.figures[row].body[0, 0])


def test_similarity_is_one_for_the_same_and_none_apart() -> None:
    assert similarity(figure(10).body, figure(10).body) > 0.999
    assert similarity(figure(10).body, figure(10 + SIZE).body) < 0.1


def test_trackers_that_bounce_off_each_other_are_exchanged_back() -> None:
    rows = range(40)
    right, left = walk(100, 10, rows, 0), walk(490, -10, rows, 1)
    # At row 20 both trackers go over to the other person.
    first = trail(0, rows, right[:20] + left[20:])
    second = trail(1, rows, left[:20] + right[20:])
    one, other = people(first, second)
    assert (x_at(one, 0), x_at(one, 39)) == (100, 490)
    assert (x_at(other, 0), x_at(other, 39)) == (490, 100)


def test_a_person_hidden_behind_another_goes_on_as_before() -> None:
    rows = range(40)
    front = trail(0, rows, walk(100, 10, rows, 0))
    before = trail(1, range(18), walk(490, -10, range(18), 1))
    after = trail(1, range(23, 40), walk(490, -10, range(23, 40), 1))
    found = people(front, before, after)
    assert len(found) == 2
    hidden = found[1]
    assert {*range(15), *range(26, 40)} <= set(hidden.figures)
    assert x_at(hidden, 39) == 100


def test_people_in_the_same_clothes_are_told_apart_by_their_motion() -> None:
    rows = range(40)
    one, other = people(
        trail(0, rows, walk(100, 10, rows, 0)), trail(1, rows, walk(490, -10, rows, 0))
    )
    assert (x_at(one, 39), x_at(other, 39)) == (490, 100)


def test_somebody_who_comes_back_is_known_by_their_clothes_and_a_stranger_is_not() -> None:
    before = trail(0, range(20), walk(300, 0, range(20), 0))
    same = trail(0, range(40, 60), walk(320, 0, range(20), 0))
    stranger = trail(0, range(40, 60), walk(320, 0, range(20), 1))
    assert len(people(before, same)) == 1
    assert len(people(before, stranger)) == 2


def test_two_trackers_on_one_person_do_not_make_two_figures_a_frame() -> None:
    rows = range(30)
    front = walk(100, 10, rows, 0)
    slid = walk(490, -10, range(15), 1) + front[15:]
    found = people(trail(0, rows, front), trail(1, range(30), slid))
    for row in range(20, 30):
        places = [x_at(person, row) for person in found if row in person.figures]
        assert len(places) == len(set(places)), "one figure, one person"


def test_the_same_trails_give_the_same_people() -> None:
    rows = range(40)
    trails = [trail(0, rows, walk(100, 10, rows, 0)), trail(1, rows, walk(490, -10, rows, 1))]
    first, second = people(*trails), people(*trails)
    assert [p.rows().tolist() for p in first] == [p.rows().tolist() for p in second]


def test_swaps_are_counted_per_person_and_missing_people_are_not_swaps() -> None:
    straight = np.tile(np.eye(2), (4, 1, 1))
    present = np.ones((4, 2), np.bool_)
    assert track_errors(straight, present, least=0.5).swaps == 0
    swapped = straight.copy()
    swapped[2:] = swapped[2:, ::-1]
    assert track_errors(swapped, present, least=0.5).swaps == 2
    broken = np.concatenate([straight, np.zeros((4, 2, 1))], axis=2)
    broken[2:, 1] = (0, 0, 1)
    errors = track_errors(broken, present, least=0.5)
    assert (errors.swaps, errors.breaks, errors.tracks) == (0, 1, (1, 2))
    gone = straight.copy()
    gone[1] = 0
    errors = track_errors(gone, present, least=0.5)
    assert (errors.swaps, errors.missed) == (0, 2)
    assert replace(errors, swaps=1).found == 6
