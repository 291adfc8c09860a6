"""Trainer of the compressor: tokens of rendered actors squeezed into eight channels.

Three stages: principal components as the start (and the baseline to beat), a quick descent on
tokens and on what the frozen decoder makes of them, and a short one on renders. Every loss is
weighted by visibility, so that the code is spent on what was really seen.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatarmill.records.runs import write_config
from avatarmill.tokenize.compressor import Compressor, PcaBasis
from avatarmill.tokenize.local import LocalGaussians
from avatarmill.tokenize.losses import LossWeights, PyramidLoss
from avatarmill.tokenize.tokenizer import Tokenizer
from avatarmill.train.actor_set import ActorSet
from avatarmill.train.avatar_losses import avatar_losses, zoom

logger = logging.getLogger(__name__)

# Unseen tokens keep a little weight: they too must decode to something sound.
_UNSEEN_WEIGHT = 0.05


@dataclass(frozen=True, slots=True)
class CompressorTrainConfig:
    """Settings of the compressor's training."""

    actors: tuple[Path, ...]
    """Folders of actor sets; each actor gives tokens from several choices of references."""
    start: Path
    """Tokenizer weights with a trained reconstructor."""
    out: Path
    """The same weights with the compressor trained."""
    draws: int = 2
    """Choices of references an actor."""
    max_references: int = 4
    token_steps: int = 1500
    render_steps: int = 100
    minutes: float = 5.0
    """Time budget after the tokens have been collected; rendering gets half of it."""
    batch_tokens: int = 8192
    learning_rate: float = 2e-3
    render_rate: float = 3e-4
    noise: float = 0.05
    """Deviation of the noise on unit-variance latents: what diffusion gets wrong at least."""
    render_size: int = 128
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        if not self.actors:
            raise ValueError("actors: at least one folder of an actor set is needed")
        if self.token_steps < 1 or self.render_steps < 0 or self.minutes <= 0:
            raise ValueError("token_steps and minutes must be positive, render_steps at least 0")


@dataclass(frozen=True, slots=True)
class TokenBank:
    """Tokens of many actors, collected once."""

    tokens: Tensor
    """[M, T, D] float32."""
    weights: Tensor
    """[M, T]: visibility plus a floor."""


def run(config: CompressorTrainConfig) -> int:
    """Train the compressor and write the tokenizer's weights anew; exit status."""
    torch.set_num_threads(config.threads)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_config(config.out.parent, "train-compressor", config)
    train_compressor(config)
    return 0


def train_compressor(config: CompressorTrainConfig) -> Tokenizer:
    """The three stages; returns the tokenizer whose weights were written."""
    started = time.perf_counter()
    tokenizer = Tokenizer.load(config.start)
    tokenizer.reconstructor.requires_grad_(False)
    sets = [ActorSet.open(folder) for folder in config.actors]
    bank = collect_tokens(tokenizer, sets, config)
    logger.info("%d token sets in %.0f s", len(bank.tokens), time.perf_counter() - started)
    basis = PcaBasis.fit(bank.tokens, bank.weights, tokenizer.config.compressor.channels)
    compressor = tokenizer.compressor.train()
    torch.manual_seed(config.seed)
    compressor.start_from(basis)
    begun = time.perf_counter()
    _fit_tokens(tokenizer, bank, config, begun)
    _fit_renders(tokenizer, sets, config, begun)
    set_latent_statistics(compressor.eval(), bank)
    errors = token_errors(tokenizer.compressor, basis, bank)
    logger.info("token error: PCA %.4f, compressor %.4f", errors["pca"], errors["compressor"])
    facts = {name: text for name, text in tokenizer.metadata.items() if "." in name}
    tokenizer.save(
        config.out,
        {
            **facts,
            "compressor.seed": str(config.seed),
            "compressor.seconds": f"{time.perf_counter() - started:.0f}",
            "compressor.token_error": f"{errors['compressor']:.5f}",
            "compressor.token_error_pca": f"{errors['pca']:.5f}",
        },
    )
    return tokenizer


@torch.no_grad()
def collect_tokens(
    tokenizer: Tokenizer, sets: list[ActorSet], config: CompressorTrainConfig
) -> TokenBank:
    """Encode every actor from `draws` random choices of references."""
    tokens, weights = [], []
    rng = np.random.default_rng([config.seed, 1])
    for actors in sets:
        for actor in range(len(actors)):
            for _ in range(config.draws):
                inputs = actors.inputs(actor, _references(rng, actors, config.max_references))
                tokens.append(tokenizer.reconstructor(inputs)[0])
                seen = 1.0 - (1.0 - inputs.visibility[0]).prod(0)
                weights.append(seen + _UNSEEN_WEIGHT)
    return TokenBank(torch.stack(tokens), torch.stack(weights))


def _references(rng: np.random.Generator, actors: ActorSet, most: int) -> np.ndarray:
    frames = rng.permutation(actors.num_frames)
    return frames[: int(rng.integers(1, min(most, actors.num_frames) + 1))]


def _fit_tokens(
    tokenizer: Tokenizer, bank: TokenBank, config: CompressorTrainConfig, begun: float
) -> None:
    """Descend on tokens and on their decoded Gaussians, a random handful of each set a step."""
    compressor, reconstructor = tokenizer.compressor, tokenizer.reconstructor
    optimizer = torch.optim.AdamW(compressor.parameters(), config.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.token_steps)
    rows = max(1, config.batch_tokens // bank.tokens.shape[1])
    rng = np.random.default_rng([config.seed, 2])
    for step in range(config.token_steps):
        if time.perf_counter() - begun > 30.0 * config.minutes:
            logger.info("token stage stopped by its time budget after %d steps", step)
            break
        pick = torch.from_numpy(rng.integers(len(bank.tokens), size=rows))
        tokens, weights = bank.tokens[pick], bank.weights[pick]
        again = _noisy_round_trip(compressor, tokens, config.noise)
        loss = weighted_token_error(compressor, tokens, again, weights)
        with torch.no_grad():
            wanted = reconstructor.decode(tokens)
        loss = loss + gaussian_error(reconstructor.decode(again), wanted, weights)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if (step + 1) % 250 == 0:
            logger.info("token step %d  loss %.4f", step + 1, float(loss.detach()))


def _fit_renders(
    tokenizer: Tokenizer, sets: list[ActorSet], config: CompressorTrainConfig, begun: float
) -> None:
    """Descend on renders of decoded latents against the frames themselves."""
    compressor = tokenizer.compressor
    optimizer = torch.optim.AdamW(compressor.parameters(), config.render_rate, fused=True)
    rng = np.random.default_rng([config.seed, 3])
    for step in range(config.render_steps):
        if time.perf_counter() - begun > 60.0 * config.minutes:
            logger.info("render stage stopped by its time budget after %d steps", step)
            return
        actors = sets[int(rng.integers(len(sets)))]
        actor = int(rng.integers(len(actors)))
        frames = _references(rng, actors, config.max_references)
        # Rendering the references themselves weighs by visibility: only what is seen counts.
        views = zoom(actors.targets(actor, frames[:2]), config.render_size, rng, 0.3)
        with torch.no_grad():
            tokens = tokenizer.reconstructor(actors.inputs(actor, frames))
        again = _noisy_round_trip(compressor, tokens, config.noise)
        losses = avatar_losses(
            tokenizer.reconstructor, tokenizer.sites, tokenizer.body, again, views, PyramidLoss()
        )
        everywhere = torch.full(tokens.shape[:2], _UNSEEN_WEIGHT)
        loss = losses.total(LossWeights()) + weighted_token_error(
            compressor, tokens, again, everywhere
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()


def _noisy_round_trip(compressor: Compressor, tokens: Tensor, noise: float) -> Tensor:
    raw = compressor.raw(tokens)
    # Statistics are set at the end; until then the batch tells how large the latents are.
    scale = raw.detach().flatten(0, 1).std(0)
    return compressor.decode_raw(raw + noise * scale * torch.randn_like(raw))


def weighted_token_error(
    compressor: Compressor, tokens: Tensor, again: Tensor, weights: Tensor
) -> Tensor:
    """Squared error of tokens [M, T, D] in units of their spread, weighted by visibility."""
    error = ((tokens - again) / compressor.spread).square().mean(-1)
    return (error * weights).sum() / weights.sum()


def gaussian_error(found: LocalGaussians, wanted: LocalGaussians, weights: Tensor) -> Tensor:
    """Difference of decoded Gaussians [M, T * K], each attribute in a unit that matters.

    Colour in tenths, offset in centimetres, the rest as it is; weights are per token [M, T].
    """
    terms = (
        10.0 * (found.colors - wanted.colors).abs().mean(-1)
        + 100.0 * (found.offsets - wanted.offsets).abs().mean(-1)
        + (found.opacities - wanted.opacities).abs()
        + (found.log_scales - wanted.log_scales).abs().mean(-1)
        + (found.rotations - wanted.rotations).abs().mean(-1)
    )
    per_token: Tensor = terms.unflatten(1, (weights.shape[1], -1)).mean(-1)
    return (per_token * weights).sum() / weights.sum()


@torch.no_grad()
def set_latent_statistics(compressor: Compressor, bank: TokenBank) -> None:
    """Store mean and deviation of each latent channel over the bank, weighted by visibility."""
    raw = torch.stack([compressor.raw(tokens) for tokens in bank.tokens])
    share = (bank.weights / bank.weights.sum())[..., None]
    mean = (raw * share).sum((0, 1))
    std = ((raw - mean).square() * share).sum((0, 1)).sqrt()
    compressor.set_statistics(mean, std)


@torch.no_grad()
def token_errors(compressor: Compressor, basis: PcaBasis, bank: TokenBank) -> dict[str, float]:
    """Weighted token error of the compressor and of PCA with as many channels."""
    found = {"compressor": 0.0, "pca": 0.0}
    for tokens, weights in zip(bank.tokens, bank.weights, strict=True):
        pairs = {
            "compressor": compressor.decode(compressor.encode(tokens)),
            "pca": basis.reconstruct(tokens),
        }
        for name, again in pairs.items():
            found[name] += float(weighted_token_error(compressor, tokens, again, weights))
    return {name: total / len(bank.tokens) for name, total in found.items()}
