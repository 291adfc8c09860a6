"""What writes the words of a clip: our own measurements, or a vision-language model on top."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from avatarmill.avatar.body import Body
from avatarmill.pipeline.caption import caption
from avatarmill.pipeline.caption_model import PACKAGED
from avatarmill.pipeline.crops import Crops
from avatarmill.records.fingerprint import fingerprint, sha256_file

LENGTHS = ("short", "medium", "long")


class Words(NamedTuple):
    """What is known and said of a clip."""

    attributes: dict[str, str]
    """Measured, in the vocabulary of `avatar.attributes`."""
    captions: dict[str, str]
    """By length: short, medium, long."""


class Captioner(Protocol):
    """Crops to words."""

    def __call__(self, crops: Crops, body: Body) -> Words:
        """Attributes and captions of one clip."""


@dataclass(frozen=True, slots=True)
class CaptionConfig:
    """Who writes captions."""

    model: Path | None = None
    """Folder of a vision-language model, as transformers' `save_pretrained` writes it with its
    processor; nothing is downloaded. None: captions from measured attributes."""
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    frames: int = 2
    """Crops the model is shown, references first."""
    max_new_tokens: int = 120
    short: str = "Describe the clothes of the person in one short phrase."
    medium: str = "Describe the person's hair and clothes in one sentence."
    long: str = "Describe the person's build, hair, clothes, patterns and shoes in two sentences."
    """What the model is asked for, by length."""
    max_characters: int = 600
    """Longer answers are cut after their last whole sentence or word."""

    def __post_init__(self) -> None:
        for name in ("frames", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if self.max_characters < 20:
            raise ValueError(f"max_characters {self.max_characters} must be at least 20")
        if self.model is not None and not self.model.is_dir():
            raise ValueError(
                f"captions.model {self.model} is not a folder; it must hold a model and its "
                "processor as transformers' save_pretrained writes them"
            )


def create_captioner(config: CaptionConfig) -> Captioner:
    """The captioner of a configuration."""
    if config.model is None:
        return measured
    # transformers takes seconds to import: only those who use a model pay for it.
    from avatarmill.pipeline.vlm import VlmCaptioner

    return VlmCaptioner(config)


def caption_fingerprint(config: CaptionConfig) -> str:
    """What decides captions beside settings: our weights, and the files of a model if there is one.

    A model's files count by name and size alone: hashing tens of gigabytes at each start would
    cost more than it tells.
    """
    files = [] if config.model is None else sorted(config.model.glob("*"))
    listed = [(path.name, path.stat().st_size) for path in files if path.is_file()]
    return fingerprint([sha256_file(PACKAGED), listed])


def measured(crops: Crops, body: Body) -> Words:
    """Captions from measured attributes."""
    return Words(*caption(crops, body))
