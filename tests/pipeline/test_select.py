"""Selection of frames: diverse, sharp, and refused with the measured reason."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from avatarmill.avatar.body import Body, load_body
from avatarmill.pipeline.frame_scores import SCORE_NAMES, FrameScores
from avatarmill.pipeline.measure import measure
from avatarmill.pipeline.overlay import fit_vertices, silhouette
from avatarmill.pipeline.picture_scores import sharpness
from avatarmill.pipeline.select import (
    LIMITS,
    SelectConfig,
    candidate_rows,
    choose,
    pick_diverse,
    select,
)
from avatarmill.pipeline.types import Fit, Frames, Landmarks, Reason, Reject, Selection, Track
from avatarmill.records.clip import CLIP_SCORES

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
    assert "0 of 12 frames usable < 6" in reject.evidence and "spill 1 > 0.35" in reject.evidence


def test_small_people_are_refused(body: Body) -> None:
    fit = turning_fit()
    reject = select(*scene(body, fit), fit, body, SelectConfig(min_person_px=500))
    assert isinstance(reject, Reject) and reject.reason is Reason.PERSON_TOO_SMALL
    assert "12 with extent 114 < 500" in reject.evidence


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
    assert isinstance(reject, Reject) and reject.reason is Reason.FIT_DIVERGED
    assert "5 of 12 frames usable < 6; 7 with residual" in reject.evidence


def scored(scores: dict[str, float] | None = None, *, count: int = 8) -> FrameScores:
    """Good frames that differ in view; named scores are set in the first half."""
    good = {
        **{"extent": 300.0, "sharpness": 0.2, "brightness": 0.9, "clipped": 0.0, "inside": 1.0},
        **{"agreement": 0.95, "spill": 0.0, "occluded": 0.0, "landmarks": 1.0, "residual": 0.01},
        **{"confidence": 0.9, "face": 0.9, "lettering": 0.0, "motion": 0.1},
    }
    columns = {name: np.full(count, value) for name, value in good.items()}
    for name, value in (scores or {}).items():
        columns[name][: count // 2] = value
    looks = np.zeros((count, 24))
    looks[:, 0] = np.arange(count)
    return FrameScores(
        rows=np.arange(count), pts_seconds=np.arange(count) / 10, looks=looks, **columns
    )


BROKEN = [
    ("extent", 40.0, Reason.PERSON_TOO_SMALL),
    ("inside", 0.1, Reason.TRUNCATED_PERSON),
    ("brightness", 0.1, Reason.BADLY_EXPOSED),
    ("clipped", 0.7, Reason.BADLY_EXPOSED),
    ("sharpness", 0.001, Reason.BLURRED),
    ("spill", 0.5, Reason.MASK_DISAGREES),
    ("agreement", 0.4, Reason.MASK_DISAGREES),
    ("occluded", 0.6, Reason.OCCLUDED),
    ("landmarks", 0.3, Reason.LANDMARKS_DISAGREE),
    ("residual", 0.2, Reason.FIT_DIVERGED),
    ("lettering", 0.3, Reason.OVERLAID),
]
"""Score, a value beyond its limit, and what that is called."""


@pytest.mark.parametrize(("score", "value", "reason"), BROKEN)
def test_each_score_has_a_limit_and_a_reason(score: str, value: float, reason: Reason) -> None:
    scores = scored({score: value})
    reject = choose(scores, SelectConfig())
    assert isinstance(reject, Reject) and reject.reason is reason
    assert f"4 of 8 frames usable < 6; 4 with {score} {value:.3g}" in reject.evidence
    assert (reject.start_seconds, reject.stop_seconds) == (0.0, 0.7)
    chosen = choose(scores, SelectConfig(num_references=3, num_targets=1))
    assert isinstance(chosen, Selection)
    assert min(*chosen.references, *chosen.targets) >= 4


def test_every_limit_is_tested_above() -> None:
    assert {(case[0], case[2]) for case in BROKEN} == {(one.score, one.reason) for one in LIMITS}


def test_choosing_needs_nothing_but_recorded_scores() -> None:
    scores = scored(count=12)
    recorded = {name: getattr(scores, name).tolist() for name in scores.__dataclass_fields__}
    again = FrameScores(**{name: np.array(column) for name, column in recorded.items()})
    config = SelectConfig(num_references=5, num_targets=3, min_sharpness=0.1)
    assert choose(again, config) == choose(scores, config)
    stricter = choose(again, replace(config, min_sharpness=0.3))
    assert isinstance(stricter, Reject) and stricter.reason is Reason.BLURRED


def test_scores_of_the_chosen_frames_are_kept() -> None:
    selection = choose(scored({"motion": 0.5}), SelectConfig(num_references=2, num_targets=0))
    assert isinstance(selection, Selection)
    assert set(selection.scores) == {*SCORE_NAMES, "view_spread", "usable"} == set(CLIP_SCORES)
    assert selection.scores["view_spread"] == 7 and selection.scores["usable"] == 1


def test_the_first_reference_shows_the_face() -> None:
    scores = scored({"face": 0.0})
    selection = choose(scores, SelectConfig(num_references=2, num_targets=0))
    assert isinstance(selection, Selection) and selection.references[0] >= 4


def test_a_face_turned_away_is_no_reason_to_refuse() -> None:
    assert isinstance(choose(replace(scored(), face=np.zeros(8)), SelectConfig()), Selection)


def test_scores_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="motion has 3 frames, rows 8"):
        replace(scored(), motion=np.zeros(3))


def test_candidates_are_spread_over_the_track_with_both_ends() -> None:
    assert candidate_rows(5, 40).tolist() == [0, 1, 2, 3, 4]
    rows = candidate_rows(1000, 40)
    assert len(rows) == 40 and (rows[0], rows[-1]) == (0, 999)
    assert np.ptp(np.diff(rows)) <= 1
    assert len(candidate_rows(0, 40)) == 0


def measured(body: Body, change: str) -> tuple[FrameScores, FrameScores]:
    """Scores of a scene before and after something was done to it."""
    fit = turning_fit()
    fit.translation[:, 1] += 0.8
    frames, track, masks = scene(body, fit)
    rows = np.arange(0, FRAMES, 4)
    images, changed = frames.images.copy(), masks.copy()
    if change == "hidden legs":
        changed[:, 130:] = 0
    elif change == "text":
        images = np.stack([_written(image) for image in images])
    elif change == "dark":
        images = (images * 0.1).astype(np.uint8)
    elif change == "burnt out":
        images[masks > 0] = 255
    elif change == "blur":
        images = np.stack([cv2.GaussianBlur(image, (0, 0), 3) for image in images])
    moved = replace(frames, images=images)
    return (
        measure(frames, track, masks, fit, body, rows),
        measure(moved, track, changed, fit, body, rows),
    )


def _written(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = image.copy()
    image[88:118, 20:180] = 10
    cv2.putText(image, "NEW SHOES", (24, 112), cv2.FONT_HERSHEY_DUPLEX, 0.9, (255, 255, 255), 2)
    return image


@pytest.mark.parametrize(
    ("change", "score", "rises"),
    [
        ("hidden legs", "occluded", True),
        ("text", "lettering", True),
        ("dark", "brightness", False),
        ("burnt out", "clipped", True),
        ("blur", "sharpness", False),
    ],
)
def test_scores_tell_what_was_done_to_a_scene(
    body: Body, change: str, score: str, rises: bool
) -> None:
    before, after = (getattr(scores, score) for scores in measured(body, change))
    if not rises:
        before, after = after, before
    assert (after > before + 0.05).all(), (before, after)


def test_half_a_body_in_the_image_is_half_inside(body: Body) -> None:
    fit = turning_fit()
    cut = measure(*scene(body, fit), fit, body, np.arange(2))
    assert (cut.inside < 0.5).all() and (cut.occluded < 0.05).all()
    fit.translation[:, 1] += 0.8
    assert (measure(*scene(body, fit), fit, body, np.arange(2)).inside > 0.99).all()


def test_motion_is_measured_in_extents_a_second(body: Body) -> None:
    fit = turning_fit()
    frames, track, masks = scene(body, fit)
    track.landmarks.body[...] = 1.0
    track.landmarks.body[:, :, 0] = 100 + 10.0 * np.arange(FRAMES)[:, None]
    scores = measure(frames, track, masks, fit, body, np.arange(3))
    assert scores.motion == pytest.approx(100 / scores.extent)


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
    with pytest.raises(ValueError, match="max_spill 2 must be 0..1"):
        SelectConfig(max_spill=2)
