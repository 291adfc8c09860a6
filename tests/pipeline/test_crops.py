"""Crops: the camera moves with the crop, so the body still projects onto the person."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.avatar.body import Body, load_body
from avatarmill.pipeline.crops import PADDING, Square, crop_clip, cut_square, person_square
from avatarmill.pipeline.overlay import draw_overlay, fit_vertices, silhouette
from avatarmill.pipeline.types import Fit, Frames, Landmarks, Selection, Track

WIDTH, HEIGHT = 160, 120


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def standing(x: float = 0.0) -> Fit:
    """Three frames of an upright person facing the camera, moved sideways by `x` metres."""
    pose = np.zeros((3, 55, 3), np.float32)
    pose[:, 0, 0] = np.pi
    return Fit(
        pose=pose,
        shape=np.zeros(20, np.float32),
        expression=np.zeros((3, 52), np.float32),
        translation=np.tile(np.array((x, -0.5, 3.5), np.float32), (3, 1)),
        intrinsics=np.array([[150, 0, 80], [0, 150, 60], [0, 0, 1]], np.float32),
        confidence=np.ones((3, 55), np.float32),
        residual_px=np.zeros(3, np.float32),
    )


def filmed(body: Body, fit: Fit) -> tuple[Frames, Track, np.ndarray]:
    masks = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    for row, vertices in enumerate(fit_vertices(body, fit, [0, 1, 2])):
        seen = silhouette(body, vertices, fit.intrinsics, width=WIDTH, height=HEIGHT, side=WIDTH)
        masks[row][seen.covered] = 255
    images = np.repeat(masks[..., None], 3, axis=-1)
    face = np.full((3, 478, 3), np.nan, np.float32)
    face[0] = (80, 20, 0)
    face[0, 0] = (90, 30, 0)
    hand = np.full((3, 21, 3), np.nan, np.float32)
    points = np.zeros((3, 33, 4), np.float32)
    landmarks = Landmarks(points, points[..., :3], hand, hand, face)
    track = Track(0, np.array([0, 2, 4]), np.zeros((3, 4), np.float32), landmarks)
    spread = np.zeros((5, HEIGHT, WIDTH, 3), np.uint8)
    spread[[0, 2, 4]] = images
    return Frames(spread, np.arange(5) / 10), track, masks


@pytest.mark.parametrize("x", [0.0, 1.6])
def test_body_projects_onto_the_person_of_the_crop(body: Body, x: float) -> None:
    fit = standing(x)
    frames, track, masks = filmed(body, fit)
    crops = crop_clip(frames, track, masks, fit, Selection((2, 0), (1,)), body, size=96)
    for index, row in enumerate((2, 0, 1)):
        vertices = fit_vertices(body, fit, [row])[0]
        seen = silhouette(body, vertices, crops.intrinsics[index], width=96, height=96, side=96)
        mask = crops.masks[index] > 127
        both = (mask & seen.covered).sum()
        # Outside the frame the mask is empty though the body goes on.
        assert both / mask.sum() > 0.93
    assert crops.pts_seconds == (0.4, 0.0, 0.2)


def test_crops_hold_what_a_clip_needs(body: Body) -> None:
    fit = standing()
    crops = crop_clip(*filmed(body, fit), fit, Selection((0, 1), (2,)), body, size=64)
    assert crops.images.shape == (3, 64, 64, 3) and crops.images.dtype == np.uint8
    assert crops.masks.shape == (3, 64, 64)
    assert crops.intrinsics.shape == (3, 3, 3) and crops.intrinsics.dtype == np.float32
    assert crops.hand_boxes.shape == (3, 2, 4) and not crops.hand_boxes.any()
    x0, y0, x1, y1 = crops.face_boxes[0]
    assert 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 64
    assert not crops.face_boxes[1:].any()


def test_an_unsure_face_has_no_box(body: Body) -> None:
    fit = standing()
    fit.confidence[:, 22] = 0.1
    crops = crop_clip(*filmed(body, fit), fit, Selection((0,), ()), body, size=64)
    assert not crops.face_boxes.any()


@given(x0=st.integers(-30, 60), y0=st.integers(-30, 60), side=st.integers(8, 90), size=st.just(24))
def test_cut_is_padded_exactly_where_the_frame_ends(x0: int, y0: int, side: int, size: int) -> None:
    image = np.full((40, 50, 3), 200, np.uint8)
    cut = cut_square(image, Square(x0, y0, side), size)
    centers = (np.arange(size) + 0.5) * side / size
    inside_x = (centers + x0 > 1.5 * side / size) & (centers + x0 < 50 - 1.5 * side / size)
    inside_y = (centers + y0 > 1.5 * side / size) & (centers + y0 < 40 - 1.5 * side / size)
    if side >= size:
        assert (cut[np.ix_(inside_y, inside_x)] == 200).all()
    outside = centers + x0 > 50 + 1.5 * max(side / size, 1)
    assert (cut[:, outside] == PADDING).all()


def test_a_person_outside_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="neither the mask nor the fitted body"):
        person_square(np.zeros((10, 10), np.uint8), np.full((3, 2), -5, np.float32), 0.1)


def test_overlay_paints_the_body_and_nothing_else(body: Body) -> None:
    fit = standing()
    vertices = fit_vertices(body, fit, [0])[0]
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    drawn = draw_overlay(image, vertices, body, fit.intrinsics)
    seen = silhouette(body, vertices, fit.intrinsics, width=WIDTH, height=HEIGHT, side=WIDTH)
    assert (drawn[~seen.covered] == 255).all()
    assert (drawn[seen.covered][:, 0] < 250).all()
