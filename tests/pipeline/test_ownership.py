"""Whose a pixel is: masks of a frame never overlap, and colours and bones decide."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from avatarmill.pipeline.appearance import Appearance, look_at
from avatarmill.pipeline.division import divide_pixels
from avatarmill.pipeline.figures import Figure
from avatarmill.pipeline.identities import Identity
from avatarmill.pipeline.ownership import hidden_share, own_pixels, share_pixels
from avatarmill.pipeline.types import Bytes, Landmarks

HEIGHT, WIDTH, HALF = 200, 320, 24
RED, BLUE, GROUND = (200, 30, 40), (30, 60, 200), (120, 120, 120)


def figure(x: float, mask: Bytes) -> Figure:
    """A body that stands at x."""
    body = np.ones((1, 33, 4), np.float32)
    body[0, :, 0], body[0, :, 1] = x, 30
    for left, height in ((11, 50), (13, 70), (15, 90), (23, 110), (25, 145), (27, 180), (31, 185)):
        body[0, left, :2], body[0, left + 1, :2] = (x + 12, height), (x - 12, height)
    hand = np.full((1, 21, 3), np.nan, np.float32)
    landmarks = Landmarks(body, body[..., :3], hand, hand, np.full((1, 478, 3), np.nan, np.float32))
    return Figure(landmarks, np.zeros(5), mask, (0, 0))


def scene(red: int, blue: int) -> tuple[Bytes, Bytes, Bytes]:
    """An image with red behind blue, and the mask of each where it is seen."""
    image = np.full((HEIGHT, WIDTH, 3), GROUND, np.uint8)
    for x, colour in ((red, RED), (blue, BLUE)):
        image[20:195, max(x - HALF, 0) : x + HALF] = colour
    masks = [np.uint8(255) * (image == colour).all(-1) for colour in (RED, BLUE)]
    return image, masks[0], masks[1]


def looks() -> list[Appearance]:
    image, red, blue = scene(80, 240)
    return [look_at(image, figure(80, red)), look_at(image, figure(240, blue))]


@settings(max_examples=20)
@given(st.integers(60, 250), st.integers(60, 250))
def test_shared_masks_never_overlap_and_lose_nothing(red: int, blue: int) -> None:
    image, mask, other = scene(red, blue)
    both = np.maximum(mask, other)
    before = [figure(red, both.copy()), figure(blue, both.copy())]
    after = share_pixels(image, before, looks())
    claims = np.stack([shared.mask > 25 for shared in after])
    assert claims.sum(0).max() <= 1
    np.testing.assert_array_equal(claims.any(0), both > 0)
    np.testing.assert_array_equal(before[0].mask, both)


def test_colours_decide_where_bones_do_not() -> None:
    image, mask, other = scene(150, 180)
    both = np.maximum(mask, other)
    shared = share_pixels(image, [figure(150, both), figure(180, both)], looks())
    for own, truth in zip(shared, (mask, other), strict=True):
        union = ((own.mask > 127) | (truth > 127)).sum()
        assert ((own.mask > 127) & (truth > 127)).sum() / union > 0.9


def test_what_is_hidden_is_counted_in_joints() -> None:
    _, _, blue = scene(150, 165)
    nothing = np.zeros_like(blue)
    front, behind, apart = figure(165, blue), figure(165, nothing), figure(40, nothing)
    assert hidden_share(behind, [front]) == 1
    assert hidden_share(apart, [front]) == 0
    assert hidden_share(behind, []) == 0


def test_a_mask_gives_up_what_looks_like_somebody_who_was_not_found() -> None:
    image, red, blue = scene(150, 190)
    flooded = figure(190, np.maximum(red, blue))
    mine, theirs = looks()[1], looks()[0]
    own = own_pixels(image, flooded, mine, theirs)
    assert own[blue > 0].mean() > 0.97
    assert own[red > 0].mean() < 0.3
    alike = own_pixels(image, flooded, mine, mine)
    assert alike[blue > 0].all() and alike[red > 0].all(), "nothing is given up for its place alone"
    empty = replace(flooded, mask=np.zeros_like(blue))
    assert not own_pixels(image, empty, mine, theirs).any()


def test_pixels_of_a_person_hidden_for_a_moment_are_left_alone() -> None:
    path = (110, 130, 150, 170, 230)
    frames = [scene(x, 190) for x in path]
    images = np.stack([image for image, _, _ in frames])
    behind, front = Identity(), Identity()
    for row, (_, red, blue) in enumerate(frames):
        if row == 2:
            front.figures[row] = figure(190, np.maximum(red, blue))
            continue
        behind.figures[row] = figure(path[row], red)
        front.figures[row] = figure(190, blue)
    hidden = divide_pixels([behind, front], images)
    assert [len(share) for share in hidden] == [4, 5]
    left = front.figures[2].mask[frames[2][1] > 0]
    assert (left > 127).mean() < 0.3
    assert (front.figures[2].mask[frames[2][2] > 0] > 127).mean() > 0.97
    alone = [Identity({0: figure(60, frames[0][1])})]
    assert divide_pixels(alone, images)[0].tolist() == [0.0]
