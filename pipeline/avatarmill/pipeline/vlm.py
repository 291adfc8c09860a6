"""Captions by a vision-language model of `transformers`, read from a local folder."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from avatarmill.avatar.body import Body
from avatarmill.pipeline.caption import caption
from avatarmill.pipeline.captioner import LENGTHS, CaptionConfig, Words
from avatarmill.pipeline.crops import Crops

_ENDS = re.compile(r"[.!?](?=\s|$)")


class VlmCaptioner:
    """Asks a model for each length; attributes stay the measured ones.

    An answer that is empty once cleaned is replaced by the caption of the measured attributes, so
    that every clip has its three captions.

    Args:
        config: `model` is set.

    Raises:
        ValueError: the folder holds no model and processor that transformers can load.
    """

    def __init__(self, config: CaptionConfig) -> None:
        assert config.model is not None
        self._config = config
        self._processor, self._model = _load(config.model, config)

    def __call__(self, crops: Crops, body: Body) -> Words:
        """Attributes as measured, captions as the model words them.

        The same crops give the same words: the model is never sampled from.
        """
        attributes, plain = caption(crops, body)
        pictures = _pictures(crops, self._config.frames)
        said = {length: self._ask(pictures, getattr(self._config, length)) for length in LENGTHS}
        return Words(attributes, {length: said[length] or plain[length] for length in LENGTHS})

    def _ask(self, pictures: list[Image.Image], question: str) -> str:
        inputs = self._inputs(pictures, question).to(self._model.device)
        if self._model.dtype != torch.float32:
            inputs = inputs.to(self._model.dtype)
        with torch.inference_mode():
            tokens = self._model.generate(
                **inputs, max_new_tokens=self._config.max_new_tokens, do_sample=False
            )
        if not self._model.config.is_encoder_decoder:
            tokens = tokens[:, inputs["input_ids"].shape[1] :]
        (answer,) = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return clean(str(answer), self._config.max_characters)

    def _inputs(self, pictures: list[Image.Image], question: str) -> Any:
        """What the model takes: a conversation where it knows them, else pictures and a prompt."""
        if getattr(self._processor, "chat_template", None) is None:
            return self._processor(images=pictures[:1], text=question, return_tensors="pt")
        content: list[dict[str, object]] = [{"type": "image", "image": one} for one in pictures]
        content.append({"type": "text", "text": question})
        return self._processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )


def clean(answer: str, max_characters: int) -> str:
    """One line of printable text, cut after its last whole sentence (else word) that fits.

    A model repeats whatever it reads in a picture, so nothing but plain characters is kept: no
    control characters, no invisible or direction marks, no markup brackets.
    """
    spaced = re.sub(r"\s+", " ", answer)
    kept = "".join(c for c in spaced if unicodedata.category(c)[0] != "C" and c not in "<>`")
    text = re.sub(r" +", " ", kept).strip()
    if len(text) <= max_characters:
        return text
    head = text[:max_characters]
    ends = [match.end() for match in _ENDS.finditer(head)]
    if ends:
        return head[: ends[-1]]
    # A single endless word has no better place to be cut.
    return head.rsplit(" ", 1)[0] if " " in head else head


def _pictures(crops: Crops, count: int) -> list[Image.Image]:
    """The first crops with what is not the person dimmed, so that it is the one described."""
    pictures = []
    for image, mask in zip(crops.images[:count], crops.masks[:count], strict=True):
        share = 0.35 + 0.65 * mask[..., None].astype(np.float32) / 255
        pictures.append(Image.fromarray((image * share).astype(np.uint8)))
    return pictures


def _load(folder: Path, config: CaptionConfig) -> tuple[Any, Any]:
    """Processor and model of a folder.

    Raises:
        ValueError: naming the folder and what transformers said.
    """
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, dtype=getattr(torch, config.dtype)
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ValueError(
            f"captions.model {folder} cannot be loaded as an image-text-to-text model with its "
            f"processor: {str(error).strip().splitlines()[0]}"
        ) from error
    placed: Any = model.eval()
    return processor, placed.to(config.device)
