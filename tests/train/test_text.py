"""The text model is the published one, works offline, and its features do not depend on batches."""

import shutil
from pathlib import Path

import pytest
import torch

from avatarmill.train.text import (
    MAX_TEXT_TOKENS,
    TEXT_WIDTH,
    TextEncoder,
    TextFeatures,
    packaged_text_model,
    verify_text_model,
)


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder()


def test_features_are_padded_and_masked(encoder: TextEncoder) -> None:
    features = encoder(["red", "a person in a red t-shirt and blue jeans"])
    assert features.tokens.shape[::2] == (2, TEXT_WIDTH)
    assert features.mask.sum(dim=1).tolist()[0] == 3, "[CLS] red [SEP]"
    assert (features.tokens[~features.mask] == 0).all()


def test_a_caption_has_the_same_features_in_any_batch(encoder: TextEncoder) -> None:
    alone = encoder(["green trousers"])
    fresh = TextEncoder()(["a tall person with long black hair", "green trousers"])
    length = alone.tokens.shape[1]
    assert torch.equal(alone.tokens[0], fresh.tokens[1, :length])
    assert torch.equal(alone.pooled()[0], fresh.pooled()[1])


def test_long_captions_are_cut(encoder: TextEncoder) -> None:
    assert encoder(["blue " * 200]).tokens.shape[1] == MAX_TEXT_TOKENS


def test_similar_sentences_are_near(encoder: TextEncoder) -> None:
    pooled = encoder(["a red shirt", "a crimson shirt", "stock market news"]).pooled()
    near, far = torch.cosine_similarity(pooled[:1], pooled[1:]).tolist()
    assert near > far + 0.3


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(packaged_text_model() / "model.safetensors", folder)
    verify_text_model(folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00\x01")
    with pytest.raises(ValueError, match=r"sha256 .* expected 53aa5117.* reinstall"):
        TextEncoder(folder)


def test_a_missing_model_says_how_to_install(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pip install 'avatarmill\[train\]'"):
        TextEncoder(tmp_path)


def test_features_check_their_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 384\) features, \(2, 4\) mask"):
        TextFeatures(torch.zeros(2, 3, TEXT_WIDTH), torch.ones(2, 4, dtype=torch.bool))
