"""What somebody wears: alike for the same clothes, unlike for others, unknown where unseen."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from avatarmill.pipeline.appearance import NOTHING, Appearance, difference, look_at, total
from avatarmill.pipeline.figures import Figure
from avatarmill.pipeline.types import Bytes, Landmarks

SIZE = 120
colours = st.tuples(*[st.integers(0, 255)] * 3)


def person(x: float = 60, scale: float = 1.0) -> Figure:
    body = np.ones((1, 33, 4), np.float32)
    body[0, :, 0], body[0, :, 1] = x, 15
    for left, height in ((11, 30), (23, 60), (25, 85), (27, 110)):
        body[0, left, :2], body[0, left + 1, :2] = (x + 8, height), (x - 8, height)
    body[..., :2] *= scale
    part = np.full((1, 21, 3), np.nan, np.float32)
    face = np.full((1, 478, 3), np.nan, np.float32)
    mask = np.full((round(SIZE * scale), round(SIZE * scale)), 255, np.uint8)
    return Figure(Landmarks(body, body[..., :3], part, part, face), np.zeros(5), mask, (0, 0))


def picture(shirt: tuple[int, ...], trousers: tuple[int, ...], scale: int = 1) -> Bytes:
    image = np.full((SIZE, SIZE, 3), shirt, np.uint8)
    image[60:] = trousers
    return image.repeat(scale, 0).repeat(scale, 1)


def look(shirt: tuple[int, ...], trousers: tuple[int, ...], scale: int = 1) -> Appearance:
    return look_at(picture(shirt, trousers, scale), person(scale=scale))


@settings(max_examples=30)
@given(colours, colours, colours, colours)
def test_difference_is_a_symmetric_distance_up_to_one(
    one: tuple[int, ...], two: tuple[int, ...], three: tuple[int, ...], four: tuple[int, ...]
) -> None:
    first, second = look(one, two), look(three, four)
    there, back = difference(first, second), difference(second, first)
    assert there is not None and there == back and 0 <= there <= 1 + 1e-9
    itself = difference(first, first)
    assert itself is not None and itself < 1e-6


def test_other_clothes_are_far_and_the_same_clothes_of_another_size_are_near() -> None:
    red, blue = (200, 30, 40), (30, 60, 200)
    far = difference(look(red, blue), look(blue, red))
    near = difference(look(red, blue), look(red, blue, scale=3))
    darker = difference(look(red, blue), look((185, 25, 35), (25, 52, 184)))
    assert far is not None and near is not None and darker is not None
    assert far > 0.8 and near < 0.15 and darker < 0.5


def test_the_total_is_the_mean_over_frames_in_any_order() -> None:
    looks = [look((200, 30, 40), (30, 60, 200)), look((10, 90, 40), (30, 60, 200))]
    forth, back = total(looks), total(looks[::-1])
    np.testing.assert_allclose(forth.colours, back.colours)
    np.testing.assert_allclose(forth.colours.sum(1), 1)
    assert forth.weights.tolist() == [2, 2, 2]
    np.testing.assert_allclose(total([*looks, NOTHING]).colours, forth.colours)


def test_what_is_not_seen_is_unknown() -> None:
    image = picture((200, 30, 40), (30, 60, 200))
    hidden = person()
    hidden.landmarks.body[..., 3] = 0.1
    assert difference(look_at(image, hidden), look_at(image, person())) is None
    nobody = replace(person(), mask=np.zeros((SIZE, SIZE), np.uint8))
    assert look_at(image, nobody).weights.sum() == 0
    above = person()
    above.landmarks.body[:, 23:, 3] = 0.1
    seen = look_at(image, above)
    assert seen.weights.tolist() == [1, 0, 1]
    other = look((200, 30, 40), (250, 250, 250))
    unseen, shown = difference(seen, other), difference(look_at(image, person()), other)
    assert unseen is not None and shown is not None and unseen < 0.6 * shown


def test_landmarks_far_outside_the_picture_do_no_harm() -> None:
    stray = person()
    stray.landmarks.body[0, 25:, :2] = 1e6
    assert np.isfinite(look_at(picture((1, 2, 3), (4, 5, 6)), stray).colours).all()
