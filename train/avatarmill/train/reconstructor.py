"""Trainer of the reconstructor: LCA's two phases on rendered actors, on one machine.

Wild pretraining learns from one moving camera (references and targets are other moments of one
shot); studio post-training from many cameras at one instant, with the learning rate falling by
0.65 a layer from the decoders down. A run continues where it stopped: the weights, optimizer
and averages are in the checkpoint, and all random choices are functions of seed and step.
"""

import csv
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from avatarmill.avatar.anchors import load_anchors
from avatarmill.avatar.body import load_body
from avatarmill.records.fingerprint import fingerprint
from avatarmill.records.runs import write_config
from avatarmill.tokenize.config import NANO, PRESETS, TokenizerConfig
from avatarmill.tokenize.losses import LossWeights, PerceptualLoss, PyramidLoss
from avatarmill.tokenize.lpips import Lpips
from avatarmill.tokenize.reconstructor import Reconstructor
from avatarmill.tokenize.tokenizer import Tokenizer
from avatarmill.train.actor_set import ActorSet
from avatarmill.train.avatar_losses import AvatarLosses, avatar_losses, zoom

logger = logging.getLogger(__name__)

WEIGHTS = "tokenizer.safetensors"
CHECKPOINT = "checkpoint.pt"

Tensors = tuple[Tensor, ...] | list[Tensor]
Average = Callable[[Tensors, Tensors, Tensor | int], None]

Phase = Literal[
    "wild",  # pretraining, every layer at the full rate
    "studio",  # post-training, the rate decays layer by layer below the decoders
]


@dataclass(frozen=True, slots=True)
class ReconstructorTrainConfig:
    """Settings of one phase."""

    actors: Path
    """Folder of an actor set (avatarmill.train.synth_data)."""
    out: Path
    """Run folder: configuration, losses.csv, checkpoint.pt, tokenizer.safetensors."""
    phase: Phase = "wild"
    start: Path | None = None
    """Weights to start from; the studio phase starts from the wild phase's."""
    preset: str = NANO.name
    steps: int = 2500
    minutes: float = 17.0
    """Time budget: the schedule ends with whichever of steps and minutes ends first."""
    learning_rate: float = 7e-4
    layer_decay: float = 0.65
    """Factor on the learning rate per layer below the decoders, studio phase only."""
    warmup_steps: int = 60
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    ema_decay: float = 0.995
    max_references: int = 4
    """References are between one and this many, drawn anew each step."""
    targets: int = 2
    """Views rendered a step, each with and without pose-dependent offsets."""
    render_size: int = 144
    """Side of the renders in pixels."""
    face_share: float = 0.3
    """Share of target views that are cut to the head and shoulders."""
    lpips: Path | None = None
    """LPIPS weights (avatarmill.tokenize.lpips); without them the gradient pyramid stands in."""
    losses: LossWeights = field(default_factory=LossWeights)
    seed: int = 0
    threads: int = 2
    bf16: bool = False
    """Run the network in bfloat16: only faster on CPUs with AMX or AVX512-BF16."""
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}, choose one of {sorted(PRESETS)}")
        if self.phase == "studio" and self.start is None:
            raise ValueError("start: the studio phase needs the weights of the wild phase")
        if self.steps < 1 or self.minutes <= 0:
            raise ValueError(f"steps {self.steps} and minutes {self.minutes} must be positive")
        if not 0.0 < self.layer_decay <= 1.0:
            raise ValueError(f"layer_decay is {self.layer_decay}, limit 0 < layer_decay <= 1")


def run(config: ReconstructorTrainConfig) -> int:
    """Train one phase to its budget and export the averaged weights; exit status."""
    torch.set_num_threads(config.threads)
    config.out.mkdir(parents=True, exist_ok=True)
    write_config(config.out, "train-reconstructor", config)
    Trainer(config).train()
    return 0


class Trainer:
    """One phase of training, read top to bottom in `train` and `step`."""

    def __init__(self, config: ReconstructorTrainConfig) -> None:
        self.config = config
        self.actors = ActorSet.open(config.actors)
        if self.actors.num_frames < 2:
            raise ValueError(f"{config.actors} has one frame an actor; a target needs a second")
        torch.manual_seed(config.seed)
        self.tokenizer = _tokenizer(config)
        self.model: Reconstructor = self.tokenizer.reconstructor.train()
        self.perceptual: PerceptualLoss = (
            PyramidLoss() if config.lpips is None else Lpips(config.lpips)
        )
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, config),
            betas=(0.9, 0.98),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.average = AveragedModel(self.model, multi_avg_fn=_young_average(config.ema_decay))
        self.done = 0
        self.seconds = 0.0

    def train(self) -> None:
        """Step until steps or minutes are used up, then export."""
        self.config.out.mkdir(parents=True, exist_ok=True)
        self._resume()
        saved = self.seconds
        log = LossLog(self.config.out / "losses.csv", self.done)
        while self.done < self.config.steps and self.seconds < 60.0 * self.config.minutes:
            started = time.perf_counter()
            losses = self.step()
            self.done += 1
            self.seconds += time.perf_counter() - started
            log.add(self.done, self.seconds, losses.row())
            if self.seconds - saved >= self.config.checkpoint_seconds:
                self._checkpoint()
                saved = self.seconds
        self._checkpoint()
        self.export()

    def step(self) -> AvatarLosses:
        """One identity: encode some of its frames, render it into others, descend."""
        config = self.config
        rng = np.random.default_rng([config.seed, self.done])
        actor = int(rng.integers(len(self.actors)))
        frames = rng.permutation(self.actors.num_frames)
        most = min(config.max_references, self.actors.num_frames - 1)
        count = int(rng.integers(1, most + 1))
        inputs = self.actors.inputs(actor, frames[:count])
        views = zoom(
            # Mostly frames that the network has not been given; sometimes it has.
            self.actors.targets(actor, frames[-config.targets :]),
            config.render_size,
            rng,
            config.face_share,
        )
        self._set_rate()
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            tokens = self.model(inputs)
        losses = avatar_losses(
            self.model,
            self.tokenizer.sites,
            self.tokenizer.body,
            tokens.float(),
            views,
            self.perceptual,
        )
        self.optimizer.zero_grad()
        torch.autograd.backward(losses.total(config.losses))
        nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return losses

    def export(self) -> None:
        """Write the averaged weights with the facts of this run."""
        self.tokenizer.reconstructor = cast(Reconstructor, self.average.module)
        self.tokenizer.save(self.config.out / WEIGHTS, self._facts())
        self.tokenizer.reconstructor = self.model

    def _facts(self) -> dict[str, str]:
        phase = self.config.phase
        earlier = {
            name: value
            for name, value in self.tokenizer.metadata.items()
            if name.startswith("wild")
        }
        return {
            **earlier,
            f"{phase}.seed": str(self.config.seed),
            f"{phase}.steps": str(self.done),
            f"{phase}.seconds": f"{self.seconds:.0f}",
            f"{phase}.recipe": recipe(self.config),
            f"{phase}.actors": str(len(self.actors)),
        }

    def _set_rate(self) -> None:
        """Linear warm-up, then a cosine to a fiftieth over whichever budget runs out first."""
        config = self.config
        used = max(self.done / config.steps, self.seconds / (60.0 * config.minutes))
        cosine = 0.51 + 0.49 * math.cos(math.pi * min(used, 1.0))
        rate = config.learning_rate * cosine * min(1.0, (self.done + 1) / config.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]

    def _checkpoint(self) -> None:
        state = {
            "recipe": recipe(self.config),
            "step": self.done,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        path = self.config.out / CHECKPOINT
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.rename(path)

    def _resume(self) -> None:
        path = self.config.out / CHECKPOINT
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True)
        if state["recipe"] != recipe(self.config):
            raise ValueError(
                f"{self.config.out} holds a run with other settings: choose another out, "
                "or delete that folder to start over"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done, self.seconds = state["step"], state["seconds"]
        self.average.load_state_dict(state["average"])
        logger.info("continuing after step %d", self.done)


def _young_average(decay: float) -> Average:
    """An exponential average that forgets the random start: it follows faster while young."""

    @torch.no_grad()
    def average(kept: Tensors, current: Tensors, count: Tensor | int) -> None:
        young = min(decay, (1.0 + int(count)) / (10.0 + int(count)))
        torch._foreach_lerp_(kept, current, 1.0 - young)

    return average


def recipe(config: ReconstructorTrainConfig) -> str:
    """Fingerprint of what decides the result: settings without places and threads."""
    ignored = ("actors", "out", "start", "threads", "checkpoint_seconds")
    names = (name for name in config.__slots__ if name not in ignored)
    return fingerprint({name: getattr(config, name) for name in names})


def _tokenizer(config: ReconstructorTrainConfig) -> Tokenizer:
    if config.start is not None:
        return Tokenizer.load(config.start)
    body = load_body()
    preset: TokenizerConfig = PRESETS[config.preset]
    return Tokenizer(preset, body, load_anchors(body, count=preset.reconstructor.num_tokens))


def parameter_groups(
    model: Reconstructor, config: ReconstructorTrainConfig
) -> list[dict[str, object]]:
    """Groups for AdamW: a `factor` on the rate by depth, no decay on vectors and embeddings."""
    decay = config.layer_decay if config.phase == "studio" else 1.0
    top = len(model.layers)
    groups: dict[tuple[int, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            below = _depth(name, top)
            plain = parameter.ndim < 2 or "embedding" in name
            groups.setdefault((below, plain), []).append(parameter)
    return [
        {
            "params": parameters,
            "factor": decay**below,
            **({"weight_decay": 0.0} if plain else {}),
        }
        for (below, plain), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def _depth(name: str, layers: int) -> int:
    """Layers between a parameter and the decoders: 0 for these, layers + 1 for the inputs."""
    if name.startswith(("canonical.", "posed.")):
        return 0
    if name.startswith("layers."):
        return layers - int(name.split(".")[1])
    return layers + 1


class LossLog:
    """losses.csv, a row a step, and a log line of the running means now and then."""

    def __init__(self, path: Path, done: int, every: int = 50) -> None:
        self.path = path
        self.every = every
        self.recent: list[dict[str, float]] = []
        # A resumed run goes on after its checkpoint: rows of lost steps are written again.
        self._keep_rows(done)

    def add(self, step: int, seconds: float, row: dict[str, float]) -> None:
        """Append a step's losses."""
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "seconds", *row])
            writer.writerow([step, f"{seconds:.2f}", *(f"{value:.6f}" for value in row.values())])
        self.recent.append(row)
        if step % self.every == 0:
            logger.info("step %d  %.0f s  %s", step, seconds, _means(self.recent))
            self.recent.clear()

    def _keep_rows(self, done: int) -> None:
        if self.path.exists():
            lines = self.path.read_text().splitlines(keepends=True)
            self.path.write_text("".join(lines[: done + 1]))


def _means(rows: Iterable[dict[str, float]]) -> str:
    rows = list(rows)
    return "  ".join(f"{name} {np.mean([row[name] for row in rows]):.4f}" for name in rows[0])
