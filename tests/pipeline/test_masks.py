"""Masks: borders go to the edges of the image, unsure places follow colour and bones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.pipeline.guided import guided_filter
from avatarmill.pipeline.mask_border import local_ratio, walk_to_edges
from avatarmill.pipeline.mask_config import MaskConfig
from avatarmill.pipeline.mask_evidence import bars, lettering
from avatarmill.pipeline.mask_truth import boundary, boundary_f, score_mask
from avatarmill.pipeline.masks import RefinedSegmenter, create_segmenter
from avatarmill.pipeline.types import Bytes, Frames, Landmarks, Reject, Track

SIZE = 160


def figure(num_frames: int = 3) -> tuple[Frames, Track, Bytes]:
    """A red figure on a green ground: frames, track, and its exact mask 0/255."""
    truth = np.zeros((num_frames, SIZE, SIZE), np.uint8)
    for mask in truth:
        cv2.ellipse(mask, (80, 90), (22, 50), 0, 0, 360, 255, -1)
        cv2.circle(mask, (80, 32), 14, 255, -1)
    noise = np.random.default_rng(0).normal(0, 6, (num_frames, SIZE, SIZE, 3))
    colour = np.where(truth[..., None] > 0, (190, 60, 50), (60, 120, 70))
    body = np.zeros((num_frames, 33, 4), np.float32)
    body[:] = (80, 90, 0, 1)
    body[:, :11, 1] = 32
    none = np.full((num_frames, 21, 3), np.nan, np.float32)
    face = np.full((num_frames, 478, 3), np.nan, np.float32)
    landmarks = Landmarks(body, body[..., :3].copy(), none, none, face)
    boxes = np.tile(np.array([55, 15, 105, 145], np.float32), (num_frames, 1))
    frames = Frames(np.clip(colour + noise, 0, 255).astype(np.uint8), np.arange(num_frames) / 10)
    return frames, Track(0, np.arange(num_frames), boxes, landmarks), truth


def iou(a: Bytes, b: Bytes) -> float:
    return float(((a > 127) & (b > 127)).sum() / ((a > 127) | (b > 127)).sum())


def test_a_coarse_mask_is_laid_on_the_edges() -> None:
    frames, track, truth = figure()
    coarse = np.stack(
        [
            cv2.resize(cv2.resize(m, (20, 20), interpolation=cv2.INTER_AREA), (SIZE, SIZE))
            for m in truth
        ]
    )
    refined = create_segmenter(MaskConfig()).segment(frames, track, coarse)
    assert not isinstance(refined, Reject)
    assert iou(refined, truth) > 0.97 > iou(coarse, truth)
    assert (
        np.abs(refined.astype(int) - truth).mean() < 0.5 * np.abs(coarse.astype(int) - truth).mean()
    )


def test_furniture_the_mask_is_unsure_of_goes_and_the_person_comes_back() -> None:
    frames, track, truth = figure()
    raw = truth.copy()
    raw[:, 100:140, 105:118] = 140
    raw[:, 70:110, 90:103] = np.minimum(raw[:, 70:110, 90:103], 110)
    refined = RefinedSegmenter(MaskConfig()).segment(frames, track, raw)
    assert iou(refined, truth) > 0.97 > iou(raw, truth)


def test_far_islands_are_removed() -> None:
    frames, track, truth = figure()
    raw = truth.copy()
    raw[:, 18:24, 104:110] = 255
    refined = RefinedSegmenter(MaskConfig()).segment(frames, track, raw)
    assert refined[:, 18:24, 106:110].max() < 60


def test_masks_are_repeatable_and_empty_outside_the_box() -> None:
    frames, track, truth = figure()
    segmenter = RefinedSegmenter(MaskConfig())
    first, second = (segmenter.segment(frames, track, truth) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first[:, :, :40].max() == 0 and first[:, 155:].max() == 0


@given(st.floats(0, 1), st.integers(1, 6), st.sampled_from([1, 2]))
def test_the_guided_filter_keeps_constants(value: float, radius: int, subsample: int) -> None:
    image = np.random.default_rng(1).random((24, 32, 3)).astype(np.float32)
    flat = np.full((24, 32), value, np.float32)
    out = guided_filter(image, flat, radius=radius, epsilon=1e-3, subsample=subsample)
    np.testing.assert_allclose(out, value, atol=1e-4)


def test_the_guided_filter_reproduces_what_colour_explains() -> None:
    image = np.random.default_rng(2).random((40, 40, 3)).astype(np.float32)
    linear = (image @ np.array([0.2, 0.5, 0.3], np.float32)).astype(np.float32)
    out = guided_filter(image, linear, radius=4, epsilon=1e-6)
    np.testing.assert_allclose(out, linear, atol=2e-3)


def test_config_mistakes_name_the_field(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sam2_checkpoint .* does not exist"):
        MaskConfig(sam2_checkpoint=tmp_path / "none.pt")
    with pytest.raises(ValueError, match="working_side is 8, at least 64"):
        MaskConfig(working_side=8)
    with pytest.raises(ValueError, match=r"border_width is 0.5, must be in \(0, 0.1\]"):
        MaskConfig(border_width=0.5)
    with pytest.raises(ValueError, match="limb_weight is -1"):
        MaskConfig(limb_weight=-1)


def test_an_exact_mask_stays() -> None:
    frames, track, truth = figure()
    segmenter = RefinedSegmenter(MaskConfig())
    once = segmenter.segment(frames, track, truth)
    twice = segmenter.segment(frames, track, once)
    for first, second, true in zip(once, twice, truth, strict=True):
        assert iou(first, true) > 0.985 and iou(second, first) > 0.995
        assert boundary_f(true, first) == boundary_f(first, second) == 1.0


@pytest.mark.parametrize("shift", [-4, 3])
def test_a_mask_beside_the_person_is_pulled_back(shift: int) -> None:
    frames, track, truth = figure()
    raw = np.roll(truth, shift, axis=2)
    refined = RefinedSegmenter(MaskConfig(border_width=0.04)).segment(frames, track, raw)
    for coarse, fine, true in zip(raw, refined, truth, strict=True):
        assert boundary_f(true, fine) > boundary_f(true, coarse) + 0.2


def test_large_people_get_their_border_at_full_size() -> None:
    frames, track, truth = figure()
    config = MaskConfig(working_side=96)
    coarse = np.stack([cv2.GaussianBlur(mask, (0, 0), 2.5) for mask in truth])
    refined = RefinedSegmenter(config).segment(frames, track, coarse)
    assert refined.shape == truth.shape and iou(refined, truth) > 0.97


def test_what_reaches_out_of_the_box_is_kept_and_strangers_are_not() -> None:
    frames, track, truth = figure()
    boxes = track.boxes.copy()
    boxes[:, 3] = 50
    portrait = Track(0, track.frame_indices, boxes, track.landmarks)
    raw = truth.copy()
    raw[:, 60:90, 2:14] = 255
    refined = RefinedSegmenter(MaskConfig()).segment(frames, portrait, raw)
    assert iou(refined, truth) > 0.97, "the trunk under the box, not the stranger beside"


def test_bars_are_found_and_empty() -> None:
    frames, track, truth = figure(6)
    images, raw = frames.images.copy(), truth.copy()
    images[:, 120:] = 12
    masks = RefinedSegmenter(MaskConfig()).segment(Frames(images, frames.pts_seconds), track, raw)
    assert masks[:, 120:].max() == 0 and masks[:, 100:118, 70:90].min() == 255
    flat = bars(images.max(-1))
    assert flat[120:].all() and not flat[:120].any()


def test_letters_hide_what_is_behind_and_do_not_tear_the_mask() -> None:
    frames, track, truth = figure(6)
    images = frames.images.copy()
    for image in images:
        cv2.putText(image, "HELLO", (35, 92), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 3)
        cv2.putText(image, "HELLO", (35, 92), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 1)
    window = (slice(0, SIZE), slice(0, SIZE))
    found = lettering(images.max(-1), 2, window)
    assert found[72:92].any() and not found[:60].any() and not found[110:].any()
    written = Frames(images, frames.pts_seconds)
    masks = RefinedSegmenter(MaskConfig()).segment(written, track, truth)
    assert iou(masks, truth) > 0.96
    assert not lettering(frames.images.max(-1), 2, window).any(), "noise is no text"


@given(st.integers(0, 1000))
def test_the_walk_stays_between_what_it_starts_from(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lab = rng.uniform(0, 60, (12, 15, 3)).astype(np.float32)
    opacity = rng.uniform(0.2, 0.7, (12, 15)).astype(np.float32)
    unsure = rng.random((12, 15)) < 0.6
    smooth = walk_to_edges(lab, opacity, unsure)
    np.testing.assert_array_equal(smooth[~unsure], opacity[~unsure])
    assert opacity.min() - 0.01 <= smooth.min() and smooth.max() <= opacity.max() + 0.01
    raised = walk_to_edges(lab, opacity + np.float32(0.1), unsure)
    assert (raised >= smooth - 1e-4).all(), "more evidence never gives less person"


def test_colours_nearby_decide_and_unknown_ones_say_nothing() -> None:
    lab = np.zeros((40, 40, 3), np.float32)
    lab[:, :20, 0], lab[:, 20:, 0] = 20, 70
    lab[5, 5, 0] = 150
    person, background = np.zeros((2, 40, 40), np.bool_)
    person[:, :15], background[:, 25:] = True, True
    unsure = ~(person | background)
    unsure[5, 5] = True
    ratio = local_ratio(lab, person, background, unsure, reach=30, stride=2)
    assert ratio[20, 18] > 2 > -2 > ratio[20, 22]
    assert abs(ratio[5, 5]) < 0.1 and not ratio[~unsure].any()


def test_scores_of_masks() -> None:
    truth = np.zeros((60, 60), np.uint8)
    truth[20:, 20:40] = 255
    same = score_mask(truth, truth)
    assert (same.iou, same.boundary, same.alpha_error) == (1, 1, 0)
    assert not boundary(truth)[-1, 25:35].any(), "the picture's border is no boundary"
    near, far = (np.roll(truth, shift, axis=1) for shift in (2, 5))
    assert boundary_f(truth, near) == 1.0 > boundary_f(truth, far) > 0
    assert score_mask(truth, near).iou == pytest.approx(18 / 22)
    nothing = np.zeros_like(truth)
    assert (boundary_f(truth, nothing), boundary_f(nothing, nothing)) == (0.0, 1.0)
