"""Captioners: a tiny vision-language model made here, its failures, and its words cleaned."""

import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils.logging import disable_progress_bar

from avatarmill.avatar.body import load_body
from avatarmill.pipeline.caption import caption
from avatarmill.pipeline.captioner import (
    LENGTHS,
    CaptionConfig,
    caption_fingerprint,
    create_captioner,
    measured,
)
from avatarmill.pipeline.crops import Crops
from avatarmill.pipeline.vlm import VlmCaptioner, clean

WORDS = (
    *("<pad>", "<s>", "</s>", "<unk>", "<image>", "user", "assistant", ":", "describe"),
    *("a", "person", "in", "red", "shirt", ".", "short", "long"),
)
CHAT = (
    "{% for m in messages %}{{ m['role'] }} : {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}assistant : "
)


def processor(chat: str | None) -> LlavaProcessor:
    letters = Tokenizer(
        models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    letters.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=letters,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )
    side = {"height": 32, "width": 32}
    return LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side),
        tokens,
        patch_size=16,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=chat,
    )


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA of random weights, a few thousand of them."""
    disable_progress_bar()
    folder = tmp_path_factory.mktemp("vlm")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**sizes, image_size=32, patch_size=16),
        text_config=LlamaConfig(
            **sizes, vocab_size=len(WORDS), pad_token_id=0, bos_token_id=1, eos_token_id=2
        ),
        image_token_index=4,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor(CHAT).save_pretrained(folder)
    return folder


def crops() -> Crops:
    """Two grey frames of a standing person."""
    pose = np.zeros((2, 55, 3), np.float32)
    pose[:, 0, 0] = np.pi
    masks = np.zeros((2, 64, 64), np.uint8)
    masks[:, 8:60, 24:40] = 255
    return Crops(
        images=np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3)).astype(np.uint8),
        masks=masks,
        intrinsics=np.tile(np.array([[60, 0, 32], [0, 60, 32], [0, 0, 1]], np.float32), (2, 1, 1)),
        pose=pose,
        shape=np.zeros(20, np.float32),
        expression=np.zeros((2, 52), np.float32),
        translation=np.tile(np.array((0, -0.5, 2.5), np.float32), (2, 1)),
        confidence=np.ones((2, 55), np.float32),
        face_boxes=np.zeros((2, 4), np.float32),
        hand_boxes=np.zeros((2, 2, 4), np.float32),
        pts_seconds=(0.0, 0.1),
        squares=((0, 0, 64),) * 2,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_captions_in_all_lengths_and_the_same_each_time(
    model_folder: Path, dtype: str
) -> None:
    config = CaptionConfig(model=model_folder, max_new_tokens=8, dtype=dtype)  # type: ignore[arg-type]
    captioner = create_captioner(config)
    words = captioner(crops(), load_body())
    assert isinstance(captioner, VlmCaptioner)
    assert set(words.captions) == set(LENGTHS) and all(words.captions.values())
    assert words.attributes == measured(crops(), load_body()).attributes
    assert captioner(crops(), load_body()) == words


def test_without_a_model_words_are_measured() -> None:
    captioner = create_captioner(CaptionConfig())
    assert tuple(captioner(crops(), load_body())) == caption(crops(), load_body())


def test_an_empty_answer_falls_back_to_the_measured_caption(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = VlmCaptioner(CaptionConfig(model=model_folder, max_new_tokens=2))
    monkeypatch.setattr(VlmCaptioner, "_ask", lambda *_: "")
    assert captioner(crops(), load_body()).captions == caption(crops(), load_body())[1]


def test_folders_without_a_model_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="captions.model .*nowhere is not a folder"):
        CaptionConfig(model=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="cannot be loaded as an image-text-to-text model"):
        create_captioner(CaptionConfig(model=tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    processor(CHAT).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="cannot be loaded as an image-text-to-text model"):
        create_captioner(CaptionConfig(model=tmp_path))


def test_another_model_is_another_fingerprint(model_folder: Path, tmp_path: Path) -> None:
    config = CaptionConfig(model=tmp_path)
    empty, other = (
        caption_fingerprint(config),
        caption_fingerprint(CaptionConfig(model=model_folder)),
    )
    (tmp_path / "model.safetensors").write_bytes(b"12")
    assert len({empty, other, caption_fingerprint(config)}) == 3
    assert caption_fingerprint(config) == caption_fingerprint(config)


@pytest.mark.parametrize("name", ["frames", "max_new_tokens"])
def test_impossible_settings_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} 0 must be at least 1"):
        CaptionConfig(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_characters 3 must be at least 20"):
        CaptionConfig(max_characters=3)


def test_answers_are_cut_after_a_sentence_or_a_word() -> None:
    assert clean("A man.  He walks\nfast. And on", 27) == "A man. He walks fast."
    assert clean("a very long phrase without an end", 20) == "a very long phrase"
    assert clean("x" * 50, 20) == "x" * 20
    assert clean("\u202ea <b>red</b>\x00 shirt\u200b\x1b[31m", 100) == "a bred/b shirt[31m"


@given(st.text(max_size=400), st.integers(20, 120))
def test_cleaned_answers_are_short_printable_lines(answer: str, limit: int) -> None:
    text = clean(answer, limit)
    assert len(text) <= limit
    assert text.isprintable() or not text.isascii()
    assert not set(text) & set("<>`\n\t\r\x00" + string.whitespace.replace(" ", ""))
    assert clean(text, limit) == text
