"""The tokenizer's round trip, its weights file, and what it refuses."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from avatarmill.avatar.anchors import load_anchors
from avatarmill.avatar.body import Body, BodyParams
from avatarmill.avatar.camera import Cameras
from avatarmill.avatar.rasterize import rasterize
from avatarmill.records.clip import Clip
from avatarmill.tokenize.config import TINY
from avatarmill.tokenize.frames import ReferenceFrames, crop_faces, face_thumbnail
from avatarmill.tokenize.losses import psnr
from avatarmill.tokenize.tokenizer import NANO_WEIGHTS, Tokenizer, read_metadata


@pytest.fixture(scope="module")
def saved(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    tokenizer.save(path, {"wild.seed": "7"})
    return path


def test_encode_gives_what_token_shards_hold(tokenizer: Tokenizer, frames: ReferenceFrames) -> None:
    found = tokenizer.encode(frames)
    assert found.latent.shape == (128, 8) and found.latent.dtype == torch.float16
    assert found.visibility.shape == (128,) and found.visibility.dtype == torch.uint8
    assert 0.1 < (found.visibility > 32).float().mean() < 0.95
    torch.testing.assert_close(found.shape, frames.params.shape[0])


def test_encoding_twice_gives_the_same_bytes(tokenizer: Tokenizer, frames: ReferenceFrames) -> None:
    first, second = tokenizer.encode(frames), tokenizer.encode(frames)
    assert torch.equal(first.latent, second.latent)
    assert torch.equal(first.visibility, second.visibility)


def test_pose_offsets_can_be_left_out(tokenizer: Tokenizer) -> None:
    avatar = tokenizer.decode(torch.randn(128, 8))
    params = BodyParams.rest(1)[0]
    plain = avatar.pose(params, with_offsets=False)
    torch.testing.assert_close(plain.means, avatar.rest().means, atol=1e-5, rtol=0)
    corrected = avatar.pose(params)
    assert torch.equal(corrected.opacities, plain.opacities)
    assert not torch.equal(corrected.means, plain.means)


def test_the_avatar_keeps_its_own_shape(tokenizer: Tokenizer) -> None:
    shape = torch.zeros(20)
    shape[0] = 2.0
    avatar = tokenizer.decode(torch.zeros(128, 8), shape)
    other = dataclasses.replace(BodyParams.rest(1)[0], shape=-shape)
    torch.testing.assert_close(
        avatar.pose(other).means, avatar.pose(dataclasses.replace(other, shape=shape)).means
    )


def test_weights_come_back(tokenizer: Tokenizer, saved: Path, frames: ReferenceFrames) -> None:
    again = Tokenizer.load(saved)
    assert again.metadata["wild.seed"] == "7"
    assert again.config == TINY
    assert again.fingerprint == Tokenizer.load(saved).fingerprint != tokenizer.fingerprint
    torch.testing.assert_close(
        again.encode(frames).latent, tokenizer.encode(frames).latent, atol=0.05, rtol=0.05
    )


def test_another_body_is_refused(saved: Path, body: Body, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file(load_file(saved), other, {**read_metadata(saved), "body": "0" * 64})
    with pytest.raises(ValueError, match="trained with body 000000000000.*make weights"):
        Tokenizer.load(other, body=body)


def test_other_anchors_are_refused(saved: Path, body: Body, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file(load_file(saved), other, {**read_metadata(saved), "anchors": "0" * 64})
    with pytest.raises(ValueError, match="trained with anchors 000000000000.*make weights"):
        Tokenizer.load(other, body=body)


def test_incomplete_weights_are_refused(saved: Path, body: Body, tmp_path: Path) -> None:
    state = load_file(saved)
    state.pop("reconstructor.canonical.norm.weight")
    other = tmp_path / "other.safetensors"
    save_file(state, other, read_metadata(saved))
    with pytest.raises(ValueError, match="lack .*canonical.norm.weight.*make weights"):
        Tokenizer.load(other, body=body)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tokenizer weights.*make weights"):
        Tokenizer.load(tmp_path / "none.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(ValueError, match="foreign.safetensors has format None"):
        Tokenizer.load(foreign)


def test_latents_of_another_size_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"latent is \[1024, 8\].*decodes \[128, 8\]"):
        tokenizer.decode(torch.zeros(1024, 8))


def test_frames_must_be_square_and_of_one_number(frames: ReferenceFrames) -> None:
    with pytest.raises(ValueError, match="must be square crops"):
        dataclasses.replace(frames, masks=frames.masks[:, :10])
    with pytest.raises(ValueError, match="confidence has 1 rows for 2 images"):
        dataclasses.replace(frames, confidence=frames.confidence[:1])


def test_resizing_keeps_projections(frames: ReferenceFrames) -> None:
    half = frames.resized(64)
    assert half.images.shape[-1] == 64
    torch.testing.assert_close(half.intrinsics[:, :2] * 2, frames.intrinsics[:, :2])
    torch.testing.assert_close(half.face_boxes * 2, frames.face_boxes)
    assert frames.resized(128) is frames


def test_face_crops(frames: ReferenceFrames, clip: Clip) -> None:
    x, y = 60.0, 20.0
    boxes = torch.tensor([[x - 8, y - 8, x + 8, y + 8], [0.0, 0.0, 0.0, 0.0]])
    crops = crop_faces(frames.images, boxes, 16)
    torch.testing.assert_close(crops[0], frames.images[0, :, 12:28, 52:68], atol=1e-5, rtol=0)
    assert crops[1].abs().max() == 0.0
    thumbnail = face_thumbnail(clip)
    assert thumbnail is not None and thumbnail.shape == (128, 128, 3)
    nobody = dataclasses.replace(clip, face_boxes=0.0 * clip.face_boxes)
    assert face_thumbnail(nobody) is None


@pytest.fixture(scope="module")
def nano() -> Tokenizer:
    return Tokenizer.load()


def test_the_shipped_weights_are_small_and_encode(nano: Tokenizer, frames: ReferenceFrames) -> None:
    assert NANO_WEIGHTS.stat().st_size <= 4 * 2**20
    found = nano.encode(frames)
    assert found.latent.shape == (1024, 8)
    assert 0.3 < found.latent.float().std() < 3.0
    assert len(nano.decode(found.latent, found.shape).rest()) == 8192


def test_the_shipped_weights_rebuild_the_person(nano: Tokenizer, frames: ReferenceFrames) -> None:
    found = nano.encode(frames)
    avatar = nano.decode(found.latent, found.shape)
    size = frames.images.shape[-1]
    for row in range(len(frames)):
        camera = Cameras.identity(frames.intrinsics[row][None], size, size)
        rendering = rasterize(avatar.pose(frames.params[row]), camera)
        alpha, mask = rendering.alpha[0] > 0.5, frames.masks[row] > 0.5
        assert (alpha & mask).sum() / (alpha | mask).sum() > 0.7
        person = frames.images[row].permute(1, 2, 0)
        assert psnr(rendering.color, person[None], mask[None].float()) > 16.0


def test_nested_anchors_are_a_prefix(body: Body) -> None:
    few, more = load_anchors(body, count=128), load_anchors(body, count=1024)
    assert torch.equal(few.face, more.face[:128])
