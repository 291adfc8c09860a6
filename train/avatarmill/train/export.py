"""Trained diffusion weights as one safetensors file, tied to the body, anchors and tokenizer."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from avatarmill.avatar.anchors import Anchors
from avatarmill.tokenize.tokenizer import anchors_fingerprint
from avatarmill.train.mmdit import MMDiT, MMDiTConfig

PACKAGED_WEIGHTS = Path(__file__).parent / "weights" / "diffusion.safetensors"
FORMAT = "avatarmill-diffusion-1"
FIX = "run `make weights` to retrain everything on the present body, anchors and tokenizer"


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """What the weights were made for; with anything else their numbers mean nothing."""

    body: str
    anchors: str
    tokenizer: str

    def check(self, found: "Fingerprints", path: Path) -> None:
        """Raise ValueError naming each part of `found` that is not the one trained for."""
        for field in dataclasses.fields(self):
            wanted, have = getattr(self, field.name), getattr(found, field.name)
            if wanted != have:
                raise ValueError(
                    f"{path} was trained for {field.name} {wanted[:12]}, found {have[:12]}: {FIX}"
                )


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The metadata of a weights file."""

    model: MMDiTConfig
    fingerprints: Fingerprints
    recipe: str
    """The training configuration as canonical JSON."""
    seed: int
    steps: int
    samples: int
    """Samples drawn over the whole training."""
    seconds: float
    """Wall-clock training time."""


def save_model(path: Path, state: dict[str, Tensor], info: ModelInfo) -> None:
    """Write weights (matrices as float16, prior and vectors as float32) and their metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().to(_storage_type(name, value)).contiguous().cpu()
        for name, value in state.items()
    }
    temporary = path.with_suffix(".tmp")
    save_file(tensors, str(temporary), metadata=_metadata(info))
    temporary.replace(path)


def read_info(path: Path) -> ModelInfo:
    """The metadata of a weights file.

    Raises:
        ValueError: there is no such file, or it is not one of ours.
    """
    if not path.is_file():
        raise ValueError(f"no diffusion weights at {path}: {FIX}")
    with safe_open(str(path), framework="pt") as file:
        fields = file.metadata() or {}
    if fields.get("format") != FORMAT:
        raise ValueError(f"{path} has format {fields.get('format')!r}, expected {FORMAT!r}")
    return ModelInfo(
        model=MMDiTConfig(**json.loads(fields["model"])),
        fingerprints=Fingerprints(**json.loads(fields["fingerprints"])),
        recipe=fields["recipe"],
        seed=int(fields["seed"]),
        steps=int(fields["steps"]),
        samples=int(fields["samples"]),
        seconds=float(fields["seconds"]),
    )


def load_model(
    path: Path | None, anchors: Anchors, *, body: str, tokenizer: str
) -> tuple[MMDiT, ModelInfo]:
    """The network with its weights in float32, ready to sample; None is the packaged nano model.

    `body` and `tokenizer` are the fingerprints of what the caller will decode with.

    Raises:
        ValueError: the weights were trained for another body, other anchors or another tokenizer.
    """
    source = PACKAGED_WEIGHTS if path is None else path
    info = read_info(source)
    info.fingerprints.check(Fingerprints(body, anchors_fingerprint(anchors), tokenizer), source)
    model = MMDiT(info.model, anchors.position, anchors.normal)
    load_weights(model, source)
    return model.eval(), info


def load_weights(model: MMDiT, path: Path) -> None:
    """Copy the tensors of a weights file into a network of the same sizes."""
    with safe_open(str(path), framework="pt") as file:
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    model.load_state_dict(state)


def _storage_type(name: str, value: Tensor) -> torch.dtype:
    precise = value.ndim < 2 or name.endswith(("_mean", "_deviation"))
    return torch.float32 if precise else torch.float16


def _metadata(info: ModelInfo) -> dict[str, str]:
    return {
        "format": FORMAT,
        "model": json.dumps(dataclasses.asdict(info.model), sort_keys=True),
        "fingerprints": json.dumps(dataclasses.asdict(info.fingerprints), sort_keys=True),
        "recipe": info.recipe,
        "seed": str(info.seed),
        "steps": str(info.steps),
        "samples": str(info.samples),
        "seconds": f"{info.seconds:.0f}",
    }
