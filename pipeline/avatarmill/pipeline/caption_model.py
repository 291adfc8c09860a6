"""The small network that reads garments and colours from the evidence of a clip."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from avatarmill.avatar.attributes import (
    COLOR_TERMS,
    HAIR_COLORS,
    VOCABULARY,
    color_exemplars,
    hair_exemplars,
    srgb_to_lab,
)
from avatarmill.pipeline.caption_features import WORN, Features

PACKAGED = Path(__file__).parent / "data" / "captions.safetensors"
KINDS = ("top", "bottom", "top_pattern", "hair", "hat")
COLORS = tuple(WORN)
_HIDDEN = 32
_UNSEEN = -30.0
"""Logit of a region that was not seen."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Features of clips as tensors; see `Features`."""

    contrasts: Tensor
    colors: Tensor
    seen: Tensor
    light: Tensor

    def __len__(self) -> int:
        return len(self.contrasts)

    def take(self, rows: Tensor) -> "Batch":
        """Some of the clips."""
        return Batch(self.contrasts[rows], self.colors[rows], self.seen[rows], self.light[rows])


def batch_of(clips: Sequence[Features]) -> Batch:
    """Stack the features of clips."""

    def stack(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(clip, name) for clip in clips]))

    return Batch(stack("contrasts"), stack("colors"), stack("seen"), stack("light"))


def values_of(name: str) -> tuple[str, ...]:
    """The words an output chooses between."""
    return VOCABULARY[name]


class _Trunk(nn.Module):
    """Contrasts to hidden units."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, _HIDDEN)
        self.thin = nn.Dropout(0.1)
        self.drop = nn.Dropout(0.3)

    def forward(self, contrasts: Tensor) -> Tensor:
        hidden: Tensor = self.drop(F.gelu(self.linear(self.thin(contrasts))))
        return hidden


class _ColorHead(nn.Module):
    """A colour term: which regions show the garment, what light did to it, which word is near.

    hidden -> attention over regions -> CIELAB -> + shift by the light -> nearest exemplar
    """

    exemplars: Tensor
    """[terms, n, 3] CIELAB, padded with far colours."""
    regions: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.register_buffer("regions", torch.tensor(WORN[name]), persistent=False)
        self.register_buffer("exemplars", _exemplars(name), persistent=False)
        self.attention = nn.Linear(_HIDDEN, len(WORN[name]))
        self.shift = nn.Sequential(nn.Linear(17, 24), nn.Tanh(), nn.Dropout(0.1), nn.Linear(24, 3))
        self.lit = nn.Parameter(torch.zeros(()))
        self.axes = nn.Parameter(torch.zeros(3))
        self.sharp = nn.Parameter(torch.tensor(-3.5))
        self.bias = nn.Parameter(torch.zeros(len(self.exemplars)))
        nn.init.zeros_(self.attention.weight)
        last = self.shift[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        seen = batch.seen[:, self.regions]
        share = self.attention(hidden).masked_fill(~seen, _UNSEEN).softmax(-1)[..., None]
        lit, mean = (share * colors for colors in batch.colors[:, self.regions].split(3, dim=-1))
        lit, mean = lit.sum(1), mean.sum(1)
        blend = torch.sigmoid(self.lit)
        raw = blend * lit + (1 - blend) * mean
        apart = batch.colors[:, self.regions, 3:] - mean[:, None]
        spread = (share * apart.square()).sum(1).clamp_min(1e-6).sqrt()
        scaled = raw / 30 - raw.new_tensor([2.0, 0.0, 0.0])
        context = torch.cat([scaled, batch.light, (lit - mean) / 10, spread / 10], dim=-1)
        lab = raw + 20 * self.shift(context)
        far = ((lab[:, None, None] - self.exemplars).square() * self.axes.exp()).sum(-1)
        return torch.logsumexp(-far * self.sharp.exp() / 2, dim=-1) + self.bias


def _exemplars(name: str) -> Tensor:
    terms = HAIR_COLORS if name == "hair_color" else COLOR_TERMS
    find = hair_exemplars if name == "hair_color" else color_exemplars
    labs = [srgb_to_lab(find(term)) for term in terms]
    padded = np.full((len(labs), max(map(len, labs)), 3), 1e3)
    for row, lab in zip(padded, labs, strict=True):
        row[: len(lab)] = lab
    return torch.from_numpy(padded).float()


class CaptionNet(nn.Module):
    """Logits of every output, from the features of clips."""

    center: Tensor
    scale: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.trunks = nn.ModuleDict({name: _Trunk(inputs) for name in (*KINDS, "color")})
        self.kinds = nn.ModuleDict(
            {name: nn.Linear(_HIDDEN, len(values_of(name))) for name in KINDS}
        )
        self.colors = nn.ModuleDict({name: _ColorHead(name) for name in COLORS})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Logits [B, values] by output name."""
        scaled = ((batch.contrasts - self.center) / self.scale).clamp(-4, 4)
        if self.training:
            scaled = scaled + 0.05 * torch.randn_like(scaled)
        logits = {name: self.kinds[name](self.trunks[name](scaled)) for name in KINDS}
        hidden = self.trunks["color"](scaled)
        return logits | {name: self.colors[name](hidden, batch) for name in COLORS}


@dataclass(frozen=True, slots=True)
class CaptionModel:
    """Networks that vote."""

    members: tuple[CaptionNet, ...]

    def __call__(self, clips: Sequence[Features]) -> dict[str, NDArray[np.float32]]:
        """Probabilities [clips, values] by output name, the mean of the members."""
        batch = batch_of(clips)
        with torch.no_grad():
            votes = [member(batch) for member in self.members]
        return {
            name: torch.stack([vote[name].softmax(-1) for vote in votes]).mean(0).numpy()
            for name in votes[0]
        }


def save_model(path: Path, model: CaptionModel, card: Mapping[str, object]) -> None:
    """Write weights in half precision, with what made them."""
    tensors = {
        f"{k}.{name}": tensor.half().contiguous()
        for k, member in enumerate(model.members)
        for name, tensor in member.state_dict().items()
    }
    save_file(tensors, path, metadata={"card": json.dumps(dict(card), sort_keys=True)})


@lru_cache(maxsize=2)
def load_model(path: Path = PACKAGED) -> CaptionModel:
    """Read a model that `save_model` wrote.

    Raises:
        ValueError: the file holds no caption model of this code.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}
    members: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        members.setdefault(number, {})[key] = tensor
    try:
        return CaptionModel(tuple(_member(members[number]) for number in sorted(members)))
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"{path} holds no caption model of this version ({error}); make it again with "
            "scripts/caption_model/train_captions.py"
        ) from error


def _member(state: Mapping[str, Tensor]) -> CaptionNet:
    net = CaptionNet(len(state["center"]))
    net.load_state_dict(dict(state))
    return net.eval()
