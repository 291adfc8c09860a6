"""Masks: borders go to the edges of the image, unsure places follow colour and bones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.pipeline.guided import guided_filter
from avatarmill.pipeline.mask_config import MaskConfig
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
