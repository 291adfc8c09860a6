"""The network: shapes, what it must not depend on, and a body before any training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avatarmill.avatar.anchors import load_anchors
from avatarmill.avatar.body import Body, BodyParams
from avatarmill.tokenize.config import BASE, TINY, ReconstructorConfig
from avatarmill.tokenize.decoders import POSE_OFFSET_LIMIT, pose_features
from avatarmill.tokenize.features import ReconstructorInput, prepare
from avatarmill.tokenize.frames import ReferenceFrames
from avatarmill.tokenize.image_encoder import FrozenEncoder
from avatarmill.tokenize.local import apply_offsets
from avatarmill.tokenize.reconstructor import Reconstructor
from avatarmill.tokenize.tokenizer import Tokenizer

SIZES = TINY.reconstructor


@pytest.fixture(scope="module")
def inputs(tokenizer: Tokenizer, frames: ReferenceFrames) -> ReconstructorInput:
    return prepare(
        frames,
        tokenizer.body,
        tokenizer.anchors,
        tokenizer.sites,
        image_size=SIZES.image_size,
        face_size=SIZES.face_size,
    )


def test_any_number_of_images(tokenizer: Tokenizer, inputs: ReconstructorInput) -> None:
    for count in (1, 2):
        tokens = tokenizer.reconstructor(inputs.first(count))
        assert tokens.shape == (1, SIZES.num_tokens, SIZES.width)


def test_the_order_of_images_does_not_matter(
    tokenizer: Tokenizer, inputs: ReconstructorInput
) -> None:
    swapped = inputs.select(torch.tensor([1, 0]))
    torch.testing.assert_close(
        tokenizer.reconstructor(swapped), tokenizer.reconstructor(inputs), atol=1e-4, rtol=1e-3
    )


def test_background_does_not_matter(
    tokenizer: Tokenizer, frames: ReferenceFrames, inputs: ReconstructorInput
) -> None:
    noise = torch.rand(frames.images.shape)
    keep = frames.masks[:, None]
    other = replace(frames, images=frames.images * keep + noise * (1.0 - keep))
    tokens, _ = tokenizer.tokens(other)
    torch.testing.assert_close(tokens, tokenizer.reconstructor(inputs)[0], atol=0.05, rtol=0.05)


def test_untrained_gaussians_sit_on_the_body(tokenizer: Tokenizer) -> None:
    tokens = torch.randn(1, SIZES.num_tokens, SIZES.width)
    local = tokenizer.reconstructor.decode(tokens)[0]
    assert local.offsets.norm(dim=-1).max() < 0.01
    assert (local.opacities > 0.8).all()
    assert (local.log_scales[:, 2] < local.log_scales[:, 0]).all()


def test_pose_offsets_keep_opacity_and_stay_small(tokenizer: Tokenizer) -> None:
    tokens = 100.0 * torch.randn(1, SIZES.num_tokens, SIZES.width)
    params = BodyParams.rest(1)
    change = tokenizer.reconstructor.pose_offsets(tokens, params)[0]
    local = tokenizer.reconstructor.decode(tokens)[0]
    corrected = apply_offsets(local, change)
    assert torch.equal(corrected.opacities, local.opacities)
    assert (change.offsets.abs() <= POSE_OFFSET_LIMIT).all()
    norms = corrected.rotations.norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms), atol=1e-4, rtol=0)


def test_the_camera_does_not_drive_the_avatar() -> None:
    params = BodyParams.rest(2)
    turned = params.pose.clone()
    turned[1, 0] = torch.tensor([0.3, 2.0, -1.0])
    features = pose_features(replace(params, pose=turned))
    torch.testing.assert_close(features[0], features[1])


def test_gradients_reach_every_parameter(tokenizer: Tokenizer, inputs: ReconstructorInput) -> None:
    model = tokenizer.reconstructor
    tokens = model(inputs)
    local = model.decode(tokens)
    bent = replace(BodyParams.rest(1), pose=torch.randn(1, 55, 3), expression=torch.rand(1, 52))
    change = model.pose_offsets(tokens, bent)
    parts = (local.colors, local.offsets, local.opacities, local.log_scales, local.rotations)
    moved = (change.colors, change.offsets, change.log_scales, change.rotations)
    sums = [(part * torch.rand_like(part)).sum() for part in parts + moved]
    torch.stack(sums).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    model.zero_grad()


def test_base_is_the_same_network_on_a_frozen_backbone(
    body: Body, tokenizer: Tokenizer, frames: ReferenceFrames, tmp_path: Path
) -> None:
    encoder = _tiny_backbone(tmp_path)
    sizes = replace(SIZES, image_encoder="frozen", feature_channels=24)
    assert BASE.reconstructor.image_encoder == "frozen"
    assert BASE.reconstructor.num_gaussians == 65_536
    model = Reconstructor(sizes, tokenizer.anchors, tokenizer.sites, encoder)
    assert not any(p.requires_grad for p in model.image_encoder.parameters())
    inputs = prepare(frames, body, tokenizer.anchors, tokenizer.sites, image_size=64, face_size=32)
    assert model(inputs).shape == (1, sizes.num_tokens, sizes.width)


def test_a_backbone_of_another_width_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    encoder = _tiny_backbone(tmp_path)
    sizes = replace(SIZES, image_encoder="frozen", feature_channels=32)
    with pytest.raises(ValueError, match="has 24 channels.*set it to 24"):
        Reconstructor(sizes, tokenizer.anchors, tokenizer.sites, encoder)


def test_a_missing_backbone_names_what_is_expected(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected config.json"):
        FrozenEncoder(tmp_path / "nothing")
    sizes = replace(SIZES, image_encoder="frozen")
    with pytest.raises(ValueError, match="needs a backbone"):
        Reconstructor(sizes, tokenizer.anchors, tokenizer.sites)


def test_the_wrong_number_of_anchors_is_refused(body: Body, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"load_anchors\(body, count=config.num_tokens\)"):
        Reconstructor(SIZES, load_anchors(body, count=64), tokenizer.sites)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="width 100 must be heads"):
        ReconstructorConfig(width=100, heads=3)
    with pytest.raises(ValueError, match="multiples of 32"):
        ReconstructorConfig(image_size=100)


def _tiny_backbone(folder: Path) -> FrozenEncoder:
    from transformers import Dinov2Config, Dinov2Model

    sizes = Dinov2Config(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        mlp_ratio=2,
    )
    Dinov2Model(sizes).save_pretrained(folder)
    return FrozenEncoder(folder)
