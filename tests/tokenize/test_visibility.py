"""Each condition of the visibility rule, and how frames add up."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.avatar.body import BodyParams
from avatarmill.avatar.camera import Cameras
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.tokenize.frames import ReferenceFrames
from avatarmill.tokenize.tokenizer import Tokenizer
from avatarmill.tokenize.visibility import (
    accumulate,
    contribution_visibility,
    frame_visibility,
    per_token,
    visibility_scores,
)

SIZE = 96


def standing(turn: float = 0.0) -> ReferenceFrames:
    """The average body in T-pose, 3 m in front of the camera, all pixels in the mask."""
    pose = torch.zeros(1, 55, 3)
    # A half turn about x puts y up into OpenCV's y down; the body then shows its front.
    upright = torch.tensor([torch.pi, 0.0, 0.0])
    pose[0, 0] = upright if turn == 0.0 else torch.tensor([0.0, 0.0, torch.pi])
    focal = 1.2 * SIZE
    return ReferenceFrames(
        images=torch.zeros(1, 3, SIZE, SIZE),
        masks=torch.ones(1, SIZE, SIZE),
        intrinsics=torch.tensor([[[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1.0]]]),
        params=replace(BodyParams.rest(1), pose=pose, translation=torch.tensor([[0.0, 0.0, 3.0]])),
        confidence=torch.ones(1, 55),
        face_boxes=torch.zeros(1, 4),
    )


def test_the_front_is_seen_and_the_back_is_not(tokenizer: Tokenizer) -> None:
    scores = frame_visibility(standing(), tokenizer.body, tokenizer.anchors)[0]
    forward = tokenizer.anchors.normal[:, 2]
    assert scores[forward < -0.3].max() == 0.0
    assert (scores[forward > 0.6] > 0.3).float().mean() > 0.8


def test_turning_round_swaps_what_is_seen(tokenizer: Tokenizer) -> None:
    front = frame_visibility(standing(), tokenizer.body, tokenizer.anchors)[0]
    back = frame_visibility(standing(turn=1.0), tokenizer.body, tokenizer.anchors)[0]
    assert ((front > 0) & (back > 0)).float().mean() < 0.1


def test_an_arm_hides_what_is_behind_it(tokenizer: Tokenizer) -> None:
    frames = standing()
    pose = frames.params.pose.clone()
    # The left arm swings forward and across, in front of the chest.
    pose[0, 16] = torch.tensor([0.0, -1.9, 0.0])
    crossed = replace(frames, params=replace(frames.params, pose=pose))
    before = frame_visibility(frames, tokenizer.body, tokenizer.anchors)[0]
    after = frame_visibility(crossed, tokenizer.body, tokenizer.anchors)[0]
    assert ((before > 0.3) & (after == 0.0)).sum() >= 2


def test_nothing_is_seen_outside_mask_or_image(tokenizer: Tokenizer) -> None:
    frames = standing()
    no_mask = replace(frames, masks=torch.zeros_like(frames.masks))
    assert frame_visibility(no_mask, tokenizer.body, tokenizer.anchors).max() == 0.0
    aside = replace(frames.params, translation=torch.tensor([[9.0, 0.0, 3.0]]))
    away = replace(frames, params=aside)
    assert frame_visibility(away, tokenizer.body, tokenizer.anchors).max() == 0.0


def test_the_border_of_the_mask_is_not_trusted(tokenizer: Tokenizer) -> None:
    frames = standing()
    half = frames.masks.clone()
    half[:, :, : SIZE // 2] = 0.0
    full = frame_visibility(frames, tokenizer.body, tokenizer.anchors)
    cut = frame_visibility(replace(frames, masks=half), tokenizer.body, tokenizer.anchors)
    assert (cut <= full).all()
    assert 0.2 < (cut > 0).sum() / (full > 0).sum() < 0.6


def test_confidence_scales_the_score(tokenizer: Tokenizer) -> None:
    frames = standing()
    doubtful = replace(frames, confidence=0.5 * frames.confidence)
    full = frame_visibility(frames, tokenizer.body, tokenizer.anchors)
    half = frame_visibility(doubtful, tokenizer.body, tokenizer.anchors)
    torch.testing.assert_close(half, 0.5 * full, atol=1e-5, rtol=1e-4)


def test_the_rule_from_its_parts_is_the_same(tokenizer: Tokenizer) -> None:
    frames = standing()
    parts = visibility_scores(
        tokenizer.body,
        tokenizer.anchors,
        frames.params,
        frames.intrinsics,
        frames.masks,
        frames.confidence,
    )
    assert torch.equal(parts, frame_visibility(frames, tokenizer.body, tokenizer.anchors))


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5))
def test_more_frames_never_lower_the_score(scores: list[float]) -> None:
    frames = torch.tensor(scores)[:, None]
    joined = accumulate(frames)
    assert joined.dtype == torch.uint8
    assert int(joined) >= int(accumulate(frames[:1]))
    assert int(joined) >= round(255 * max(scores)) - 1


def test_contributions_tell_hidden_gaussians_from_visible_ones() -> None:
    gaussians = Gaussians(
        means=torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 3.0]]),
        rotations=torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 2),
        scales=torch.tensor([[0.3, 0.3, 0.01], [0.1, 0.1, 0.01]]),
        opacities=torch.tensor([0.999, 0.9]),
        colors=torch.ones(2, 3),
    )
    lens = torch.tensor([[[32.0, 0, 16], [0, 32.0, 16], [0, 0, 1]]])
    seen = contribution_visibility(gaussians, Cameras.identity(lens, 32, 32), torch.ones(1, 32, 32))
    assert seen[0] > 10 * seen[1]
    assert per_token(seen, 2) == pytest.approx(float(seen[0]))
