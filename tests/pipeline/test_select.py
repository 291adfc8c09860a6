"""Selection of frames: diverse, sharp, and refused with the measured reason."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from avatarmill.avatar.body import Body, load_body
from avatarmill.pipeline.overlay import fit_vertices, silhouette
from avatarmill.pipeline.select import SelectConfig, pick_diverse, select, sharpness
from avatarmill.pipeline.types import Fit, Frames, Landmarks, Reason, Reject, Selection, Track

FRAMES, SIDE = 12, 200


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def turning_fit() -> Fit:
    """Upright people, each a step further around, in the middle of the image."""
    pose = np.zeros((FRAMES, 55, 3), np.float32)
    for row, yaw in enumerate(np.linspace(0, 1.5, FRAMES)):
        # Half a turn about x, then yaw about the body's own y: a half turn about a tilted axis.
        pose[row, 0] = np.pi * np.array((np.cos(yaw / 2), 0, -np.sin(yaw / 2)))
    return Fit(
        pose=pose,
        shape=np.zeros(20, np.float32),
        expression=np.zeros((FRAMES, 52), np.float32),
        translation=np.tile(np.array((0, -0.5, 2.6), np.float32), (FRAMES, 1)),
        intrinsics=np.array([[240, 0, 100], [0, 240, 100], [0, 0, 1]], np.float32),
        confidence=np.ones((FRAMES, 55), np.float32),
        residual_px=np.full(FRAMES, 1.0, np.float32),
    )


def scene(body: Body, fit: Fit) -> tuple[Frames, Track, NDArray[np.uint8]]:
    """Noise where the body projects, grey elsewhere."""
    rng = np.random.default_rng(0)
    images = np.full((FRAMES, SIDE, SIDE, 3), 90, np.uint8)
    masks = np.zeros((FRAMES, SIDE, SIDE), np.uint8)
    for row, vertices in enumerate(fit_vertices(body, fit, list(range(FRAMES)))):
        seen = silhouette(body, vertices, fit.intrinsics, width=SIDE, height=SIDE, side=SIDE)
        masks[row][seen.covered] = 255
        texture = rng.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
        images[row][seen.covered] = texture[seen.covered]
    track = Track(0, np.arange(FRAMES), np.zeros((FRAMES, 4), np.float32), no_landmarks())
    return Frames(images, np.arange(FRAMES) / 10), track, masks


def no_landmarks() -> Landmarks:
    def nothing(*shape: int) -> NDArray[np.float32]:
        return np.full((FRAMES, *shape), np.nan, np.float32)

    return Landmarks(
        nothing(33, 4), nothing(33, 3), nothing(21, 3), nothing(21, 3), nothing(478, 3)
    )


def test_references_and_targets_are_apart_and_span_the_turn(body: Body) -> None:
    fit = turning_fit()
    selection = select(*scene(body, fit), fit, body)
    assert isinstance(selection, Selection)
    rows = [*selection.references, *selection.targets]
    assert len(selection.references) == 4 and len(selection.targets) == 2
    assert len(set(rows)) == 6
    assert {0, FRAMES - 1} & set(selection.references)
    assert max(selection.references) - min(selection.references) >= 8
    assert selection.scores["agreement"] > 0.95


def test_a_blurred_frame_is_not_picked(body: Body) -> None:
    fit = turning_fit()
    frames, track, masks = scene(body, fit)
    frames.images[5] = 128  # no detail at all
    selection = select(frames, track, masks, fit, body)
    assert isinstance(selection, Selection)
    assert 5 not in (*selection.references, *selection.targets)


def test_masks_elsewhere_are_refused(body: Body) -> None:
    fit = turning_fit()
    frames, track, masks = scene(body, fit)
    reject = select(frames, track, np.roll(masks, 90, axis=2), fit, body)
    assert isinstance(reject, Reject) and reject.reason is Reason.MASK_DISAGREES
    assert "< 0.7" in reject.evidence


def test_small_people_are_refused(body: Body) -> None:
    fit = turning_fit()
    reject = select(*scene(body, fit), fit, body, SelectConfig(min_person_px=500))
    assert isinstance(reject, Reject) and reject.reason is Reason.PERSON_TOO_SMALL
    assert "< 500 px" in reject.evidence


def test_flat_pictures_are_refused_as_blurred(body: Body) -> None:
    fit = turning_fit()
    frames, track, masks = scene(body, fit)
    flat = replace(frames, images=np.full_like(frames.images, 100))
    reject = select(flat, track, masks, fit, body)
    assert isinstance(reject, Reject) and reject.reason is Reason.BLURRED


def test_short_tracks_are_refused(body: Body) -> None:
    fit = turning_fit()
    config = SelectConfig(num_references=10, num_targets=5)
    reject = select(*scene(body, fit), fit, body, config)
    assert isinstance(reject, Reject) and reject.reason is Reason.TRACK_TOO_SHORT
    assert reject.evidence == "12 frames < 15"


def test_frames_that_do_not_fit_leave_too_few(body: Body) -> None:
    fit = turning_fit()
    residual = fit.residual_px.copy()
    residual[5:] = 80
    reject = select(*scene(body, fit), replace(fit, residual_px=residual), body)
    assert isinstance(reject, Reject) and reject.reason is Reason.TRACK_TOO_SHORT
    assert "5 of 12 frames usable" in reject.evidence


def test_pick_diverse_goes_far_first_and_never_twice() -> None:
    looks = np.array([[0.0], [0.1], [1.0], [0.5], [0.5]])
    quality = np.array([1.0, 0.9, 0.8, 0.7, 0.9])
    assert pick_diverse(looks, quality, 3) == [0, 2, 4]
    assert sorted(pick_diverse(looks, quality, 5)) == [0, 1, 2, 3, 4]


def test_sharpness_ranks_blur_and_survives_empty_boxes() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    soft = np.repeat(np.repeat(sharp[::8, ::8], 8, axis=0), 8, axis=1)
    box = (0, 0, 64, 64)
    assert sharpness(sharp, box) > 2 * sharpness(soft, box)
    assert sharpness(sharp, (5, 5, 5, 5)) == 0


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="num_references 0 must be at least 1"):
        SelectConfig(num_references=0)
    with pytest.raises(ValueError, match="candidates 3 must cover the 6 frames"):
        SelectConfig(candidates=3)
