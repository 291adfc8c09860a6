"""The diffusion trainer: visibility-aware flow matching on token shards, on DeepSpeed.

Runs alone, on K ranks of this machine (--ranks K), or wherever torchrun or deepspeed starts it:
torchrun --nnodes N --nproc_per_node K -m avatarmill.train.diffusion --tokens ...
"""

import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from avatarmill.avatar.anchors import Anchors, load_anchors
from avatarmill.avatar.body import load_body
from avatarmill.records.canonical import json_bytes
from avatarmill.records.fingerprint import describe, fingerprint
from avatarmill.records.runs import write_config
from avatarmill.tokenize.tokenizer import anchors_fingerprint
from avatarmill.train.checkpoint import RunState, load_checkpoint, save_checkpoint
from avatarmill.train.distributed import (
    Group,
    Precision,
    ZeroStage,
    engine_config,
    launch,
    launched,
    parameters_with_decay,
    process_group,
    sum_over_ranks,
)
from avatarmill.train.ema import Ema
from avatarmill.train.export import (
    PACKAGED_WEIGHTS,
    Fingerprints,
    ModelInfo,
    load_weights,
    read_info,
    save_model,
)
from avatarmill.train.flow import LinearPath, expand_time, masked_mean_square, sample_times
from avatarmill.train.loader import Shard, TokenBatch, TokenLoader, list_shards, tokenizer_of
from avatarmill.train.losslog import LossLog, LossRow
from avatarmill.train.mmdit import SIZES, MMDiT, SizeName, Velocity
from avatarmill.train.moments import token_moments
from avatarmill.train.seen import record_sources
from avatarmill.train.text import TextEncoder

logger = logging.getLogger(__name__)

CONFIG_NAME = "diffusion"
LOSS_LOG = "loss.csv"
WEIGHTS_NAME = "diffusion.safetensors"
CHECKPOINTS = "checkpoints"

_MOMENT_SAMPLES = 8192
"""Samples of the pass that measures every anchor's mean and deviation."""


@dataclass(frozen=True, slots=True)
class DiffusionTrainConfig:
    """One training run of the text-to-avatar diffusion model."""

    tokens: Path
    """Folder of token shards."""
    out: Path
    """Receives checkpoints/, loss.csv and diffusion.safetensors; resumed if it has them."""
    size: SizeName = "nano"
    steps: int = 4000
    """Optimizer steps over the whole run."""
    batch_size: int = 8
    """Samples of one rank in one step."""
    learning_rate: float = 1.5e-3
    """Peak; linear warm-up, then a cosine down to a fiftieth."""
    warmup: int = 100
    weight_decay: float = 0.01
    gradient_clipping: float = 1.0
    ema_decay: float = 0.998
    text_drop: float = 0.12
    """Share of captions replaced by the null condition, for classifier-free guidance."""
    visibility_threshold: int = 64
    """Tokens with a lower score (0-255) are invalid: learnable input, no loss."""
    time_mean: float = 1.2
    """Of the logit-normal time; above 0 trains more on noisy inputs. A garment's colour is repeated
    over many tokens and shows through much noise: only near t = 1 must it come from the text."""
    time_deviation: float = 1.3
    shape_weight: float = 0.1
    """Of the body-shape token in the loss; all latents together weigh 1."""
    precision: Precision = "fp32"
    """bf16 pays only on processors with bf16 units."""
    zero_stage: ZeroStage = 2
    seed: int = 0
    start_from: str = "scratch"
    """`scratch`, `packaged` (the weights we ship) or a weights file: continue from there."""
    checkpoint_every: int = 500
    log_every: int = 1
    threads: int = 1
    """Torch threads a rank; 0 shares the cores out. The nano model gains nothing from a second
    thread, and on a busy machine loses tenfold: use the cores for ranks."""
    ranks: int = 1
    """Processes to start on this machine; on a CPU as many as cores train fastest. Ignored under
    torchrun, which has started them."""

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "steps", self.steps, "at least 1")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        _require(self.warmup >= 0, "warmup", self.warmup, "at least 0")
        _require(0 <= self.text_drop < 1, "text_drop", self.text_drop, "in [0, 1)")
        _require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "in [0, 1)")
        limits = "from 1 (seen at all) to 255"
        score = self.visibility_threshold
        _require(1 <= score <= 255, "visibility_threshold", score, limits)
        _require(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "above 0")
        _require(self.log_every >= 1, "log_every", self.log_every, "at least 1")
        _require(self.ranks >= 1, "ranks", self.ranks, "at least 1")
        if self.size not in SIZES:
            raise ValueError(f"size is {self.size!r}, expected one of {', '.join(SIZES)}")

    @property
    def weights(self) -> Path:
        """Where the trained weights go."""
        return self.out / WEIGHTS_NAME

    def recipe(self) -> "DiffusionTrainConfig":
        """The configuration less what does not change the result: what a resume must share."""
        here = Path()
        same = replace(self, tokens=here, out=here, checkpoint_every=1, log_every=1)
        return replace(same, threads=0, ranks=1)

    def options(self) -> list[str]:
        """The configuration as command-line options."""
        return [
            f"--{field.name.replace('_', '-')}={getattr(self, field.name)}"
            for field in fields(self)
        ]


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value}, expected {expected}")


def run(config: DiffusionTrainConfig) -> int:
    """Train, or go on from the last checkpoint, and export the averaged weights; exit status.

    Raises:
        ValueError: no token shards, shards of several tokenizers, or a run with other settings.
    """
    shards = list_shards(config.tokens)
    if config.ranks > 1 and not launched():
        return launch("avatarmill.train.diffusion", config.options(), ranks=config.ranks)
    body = load_body()
    anchors = load_anchors(body, SIZES[config.size].num_tokens)
    made_for = Fingerprints(body.fingerprint, anchors_fingerprint(anchors), tokenizer_of(shards))
    with process_group() as group:
        if group.leads:
            write_config(config.out, CONFIG_NAME, config)
            record_sources(config.out, shards)
        torch.set_num_threads(config.threads or max(1, (os.cpu_count() or 1) // group.world_size))
        _Training(config, group, shards, anchors, made_for).run()
    return 0


class _Training:
    """Everything one run holds."""

    def __init__(
        self,
        config: DiffusionTrainConfig,
        group: Group,
        shards: Sequence[Shard],
        anchors: Anchors,
        made_for: Fingerprints,
    ) -> None:
        self.config, self.group, self.made_for = config, group, made_for
        self.loader = TokenLoader(
            shards, config.batch_size, config.seed, group.rank, group.world_size
        )
        self.text = TextEncoder()
        self.path = LinearPath()
        model = self._model(shards, anchors)
        self.engine = self._engine(model)
        self.ema = Ema(self.engine.module, config.ema_decay)
        self.buffers = {name: value.clone() for name, value in model.named_buffers()}
        self.saved_names = set(model.state_dict())

    def _model(self, shards: Sequence[Shard], anchors: Anchors) -> MMDiT:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            model = MMDiT(SIZES[self.config.size], anchors.position, anchors.normal)
        start = self._start()
        if start is not None:
            read_info(start).fingerprints.check(self.made_for, start)
            load_weights(model, start)
        else:
            self._set_prior(model, shards)
        return model

    def _start(self) -> Path | None:
        if self.config.start_from == "scratch":
            return None
        packaged = self.config.start_from == "packaged"
        return PACKAGED_WEIGHTS if packaged else Path(self.config.start_from)

    def _set_prior(self, model: MMDiT, shards: Sequence[Shard]) -> None:
        # Each rank measures the same samples in the same order: no exchange, no difference.
        loader = TokenLoader(shards, min(32, sum(len(s.keys) for s in shards)), self.config.seed)
        num = min(_MOMENT_SAMPLES, loader.num_samples) // loader.batch_size
        moments = token_moments(
            islice(loader.batches(), num), threshold=self.config.visibility_threshold
        )
        model.latent_mean.copy_(moments.latent_mean)
        model.latent_deviation.copy_(moments.latent_deviation)
        model.shape_mean.copy_(moments.shape_mean)
        model.shape_deviation.copy_(moments.shape_deviation)

    def _engine(self, model: MMDiT) -> Any:
        import deepspeed

        config = self.config
        engine, *_ = deepspeed.initialize(
            model=model,
            model_parameters=parameters_with_decay(model, config.weight_decay),
            config=engine_config(
                batch_size=config.batch_size,
                learning_rate=config.learning_rate,
                weight_decay=config.weight_decay,
                gradient_clipping=config.gradient_clipping,
                zero_stage=config.zero_stage,
                precision=config.precision,
            ),
        )
        return engine

    def run(self) -> None:
        """Steps from the last checkpoint (or 0) to the end, then the export."""
        config, folder = self.config, self.config.out / CHECKPOINTS
        recipe = fingerprint([config.recipe(), self.made_for])
        found = load_checkpoint(folder, self.engine, self.ema, recipe=recipe, group=self.group)
        state = begin = found or RunState(0, 0, 0.0, self.group.world_size, recipe)
        with ExitStack() as stack:
            log = self._open_log(stack, state.step)
            for state, row in self._steps(begin):
                if log is not None and state.step % config.log_every == 0:
                    log.append(row)
                if state.step % config.checkpoint_every == 0 or state.step == config.steps:
                    save_checkpoint(folder, self.engine, self.ema, state, self.group)
        self._export(state)

    def _open_log(self, stack: ExitStack, step: int) -> LossLog | None:
        if not self.group.leads:
            return None
        return stack.enter_context(closing(LossLog(self.config.out / LOSS_LOG, step)))

    def _steps(self, state: RunState) -> Iterator[tuple[RunState, LossRow]]:
        """Train; after each step, where the run stands and its row of the log."""
        batches = self.loader.batches(state.position)
        began = time.monotonic() - state.seconds
        todo = range(state.step + 1, self.config.steps + 1)
        for step in tqdm(todo, "train diffusion", disable=None if self.group.leads else True):
            # Not zip: that would draw one batch more than there are steps.
            losses = self._step(next(batches), step)
            state = replace(
                state,
                step=step,
                position=state.position + self.config.batch_size,
                seconds=time.monotonic() - began,
            )
            rate = learning_rate(self.config, step)
            yield state, LossRow(step, *losses, learning_rate=rate, seconds=state.seconds)

    def _step(self, batch: TokenBatch, step: int) -> tuple[float, float, float, float]:
        """One optimizer step; loss, its latent and shape parts, and the valid fraction."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step)
        latent, shape, valid = self._losses(batch, step)
        self.engine.backward(latent + self.config.shape_weight * shape)
        self.engine.step()
        self.ema.update(step)
        mean = sum_over_ranks(torch.stack([latent, shape, valid])) / self.group.world_size
        latent_loss, shape_loss, fraction = mean.tolist()
        loss = latent_loss + self.config.shape_weight * shape_loss
        return loss, latent_loss, shape_loss, fraction

    def _losses(self, batch: TokenBatch, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """This rank's latent and shape loss (their mean over ranks is the loss), and the share
        of valid tokens."""
        device, config = self.group.device, self.config
        draws = _Draws(config, step, self.group.rank, batch)
        valid = (batch.visibility >= config.visibility_threshold).to(device)
        latent, shape = batch.latent.to(device), batch.shape.to(device)
        t, noise, shape_noise = (
            value.to(device) for value in (draws.times, draws.noise, draws.shape_noise)
        )
        latent_t, shape_t = expand_time(t, latent), expand_time(t, shape)
        found: Velocity = self.engine(
            self.path.interpolate(latent, noise, latent_t),
            self.path.interpolate(shape, shape_noise, shape_t),
            t,
            self.text(draws.captions).to(device),
            valid=valid,
            dropped=draws.dropped.to(device),
        )
        # DeepSpeed averages over ranks; dividing by the mean count makes that the mean over all
        # valid tokens of the step, however unevenly they fall to the ranks.
        count = sum_over_ranks(valid.sum().float()) / self.group.world_size
        latent_error = found.latent - self.path.velocity(latent, noise, latent_t)
        shape_error = found.shape - self.path.velocity(shape, shape_noise, shape_t)
        latent_loss = masked_mean_square(latent_error, valid, count)
        return latent_loss, shape_error.square().mean(), valid.float().mean()

    def _export(self, state: RunState) -> None:
        averaged = self.ema.whole()
        if not self.group.leads:
            return
        tensors = {**self.buffers, **averaged}
        info = ModelInfo(
            model=SIZES[self.config.size],
            fingerprints=self.made_for,
            recipe=json_bytes(describe(self.config.recipe())).decode(),
            seed=self.config.seed,
            steps=state.step,
            samples=state.position * self.group.world_size,
            seconds=state.seconds,
        )
        save_model(
            self.config.weights, {name: tensors[name] for name in sorted(self.saved_names)}, info
        )
        logger.info("wrote %s after %d steps", self.config.weights, state.step)


class _Draws:
    """All random choices of one step: a function of seed, step and rank."""

    def __init__(
        self, config: DiffusionTrainConfig, step: int, rank: int, batch: TokenBatch
    ) -> None:
        digest = fingerprint([config.seed, step, rank])
        generator = torch.Generator().manual_seed(int(digest[:15], 16))
        num = len(batch.keys)
        self.times = sample_times(
            num, generator, mean=config.time_mean, deviation=config.time_deviation
        )
        self.noise = torch.randn(batch.latent.shape, generator=generator)
        self.shape_noise = torch.randn(batch.shape.shape, generator=generator)
        self.dropped = torch.rand(num, generator=generator) < config.text_drop
        picks = torch.rand(num, generator=generator).tolist()
        self.captions = [
            _pick(sorted(captions.values()), pick)
            for captions, pick in zip(batch.captions, picks, strict=True)
        ]


def _pick(captions: Sequence[str], pick: float) -> str:
    # A sample without words trains the model all the same, as an empty caption.
    return captions[int(pick * len(captions))] if captions else ""


def learning_rate(config: DiffusionTrainConfig, step: int) -> float:
    """Linear warm-up to the peak, then a cosine to a fiftieth of it at the last step."""
    warm = min(1.0, step / max(1, config.warmup))
    done = min(1.0, max(0, step - config.warmup) / max(1, config.steps - config.warmup))
    return config.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * done)))


def main() -> int:
    """Entry point of one rank under torchrun."""
    import tyro

    logging.basicConfig(level=logging.INFO)
    return run(tyro.cli(DiffusionTrainConfig))


if __name__ == "__main__":
    raise SystemExit(main())
