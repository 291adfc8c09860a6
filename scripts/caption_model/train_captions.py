"""Trains the caption model on rendered actors: renders, measures, fits, writes one file.

    python scripts/caption_model/train_captions.py --work out/captions --out captions.safetensors

The actors are those of the diffusion model's clips (`avatarmill.cli.actor_clips`, seed 7) and
more of the same stream; none is an actor of the benchmarks. Their true poses, masks and pictures
are disturbed as much as the curation chain errs, so that the model sees what it will be given.
"""

import argparse
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from disturb import disturbed
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from avatarmill.avatar.body import load_body
from avatarmill.cli.actor_clips import ActorClipsConfig, actor_record
from avatarmill.cli.console import progress, say
from avatarmill.pipeline.caption_evidence import collect
from avatarmill.pipeline.caption_features import WORN, Features, features_of
from avatarmill.pipeline.caption_model import (
    COLORS,
    KINDS,
    Batch,
    CaptionModel,
    CaptionNet,
    batch_of,
    save_model,
    values_of,
)
from avatarmill.records.clip import clip_from_members
from avatarmill.records.fingerprint import sha256_file

LEVELS = (0.6, 1.1)
"""Each actor is measured so many times, disturbed by these multiples of the chain's errors."""
GROUP = 40
EPOCHS, BATCH, RATE, DECAY, MEMBERS = 36, 128, 4e-3, 0.1, 3


def measured(first: int, last: int, folder: Path) -> tuple[list[Features], list[dict[str, str]]]:
    """Features and true attributes of actors [first, last), kept in `folder`."""
    path = folder / f"actors-{first:06d}-{last:06d}.npz"
    if not path.exists():
        _measure(first, last, path)
    with np.load(path, allow_pickle=False) as kept:
        arrays = [kept[name] for name in ("contrasts", "colors", "seen", "light")]
        names, words = kept["names"], kept["words"]
    clips = [Features(*row) for row in zip(*arrays, strict=True)]
    truth = [{str(n): str(w) for n, w in zip(names, row, strict=True) if w} for row in words]
    return clips, truth


def _measure(first: int, last: int, path: Path) -> None:
    body, config = load_body(), ActorClipsConfig()
    clips, words = [], []
    for actor in range(first, last):
        record = actor_record(config, actor)
        clip = clip_from_members(record.key, record.members)
        for level in LEVELS:
            rng = np.random.default_rng([config.seed, actor, round(10 * level)])
            clips.append(features_of(collect(disturbed(clip, rng, level), body)))
            words.append([clip.meta.attributes.get(name, "") for name in (*KINDS, *COLORS)])
    arrays = {
        name: np.stack([getattr(clip, name) for clip in clips])
        for name in ("contrasts", "colors", "seen", "light")
    }
    np.savez_compressed(path, **arrays, names=np.array((*KINDS, *COLORS)), words=np.array(words))


def targets_of(truth: list[dict[str, str]], batch: Batch) -> dict[str, Tensor]:
    """Index of the true word of every output; -100 where there is none or nothing was seen."""
    targets = {}
    for name in (*KINDS, *COLORS):
        words = values_of(name)
        index = torch.tensor([words.index(row[name]) if name in row else -100 for row in truth])
        if name in COLORS:
            index[~batch.seen[:, torch.tensor(WORN[name])].any(-1)] = -100
        targets[name] = index
    return targets


def train(batch: Batch, targets: Mapping[str, Tensor], *, seed: int, epochs: int) -> CaptionNet:
    """One member of the model: AdamW, one cycle of the rate, smoothed cross entropy."""
    torch.manual_seed(seed)
    net = CaptionNet(batch.contrasts.shape[1])
    net.center.copy_(batch.contrasts.mean(0))
    net.scale.copy_(batch.contrasts.std(0) + 0.05)
    steps = epochs * (len(batch) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.15)
    for _ in progress(range(epochs), label=f"member {seed}"):
        order = torch.randperm(len(batch))
        for rows in order[: BATCH * (len(batch) // BATCH)].split(BATCH):
            logits = net(batch.take(rows))
            loss = sum(_loss(logits[name], targets[name][rows]) for name in logits)
            assert isinstance(loss, Tensor)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def _loss(logits: Tensor, target: Tensor) -> Tensor:
    if not (target >= 0).any():
        return logits.sum() * 0
    return F.cross_entropy(logits, target, label_smoothing=0.03, ignore_index=-100)


def accuracies(
    model: CaptionModel, clips: list[Features], targets: Mapping[str, Tensor]
) -> dict[str, float]:
    """Share of right words by output, of those that have one."""
    found = model(clips)
    right = {}
    for name, target in targets.items():
        known = (target >= 0).numpy()
        right[name] = round(float((found[name].argmax(-1) == target.numpy())[known].mean()), 3)
    return right


def digest_of(clips: list[Features]) -> str:
    """sha256 over the inputs, so that the card says what was trained on."""
    digest = hashlib.sha256()
    for clip in clips:
        array: NDArray[np.float32] = np.ascontiguousarray(clip.contrasts)
        digest.update(array.tobytes())
    return digest.hexdigest()


def main() -> None:
    """Renders what is missing, trains, measures on the last actors, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="features are kept here")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--actors", type=int, default=1200, help="in all")
    parser.add_argument("--check", type=int, default=120, help="actors kept back to measure on")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    # One thread: sums of several would end differently on another number of cores.
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    clips: list[Features] = []
    truth: list[dict[str, str]] = []
    for first in progress(range(0, options.actors, GROUP), label="actors"):
        own = measured(first, min(first + GROUP, options.actors), options.work)
        clips += own[0]
        truth += own[1]
    kept = len(LEVELS) * options.check
    batch, checked = batch_of(clips[kept:]), batch_of(clips[:kept])
    targets = targets_of(truth[kept:], batch)
    started = time.perf_counter()
    model = CaptionModel(
        tuple(train(batch, targets, seed=k, epochs=options.epochs) for k in range(MEMBERS))
    )
    seconds = time.perf_counter() - started
    right = accuracies(model, clips[:kept], targets_of(truth[:kept], checked))
    card = {
        "recipe": "scripts/caption_model/train_captions.py",
        "licence": "Apache-2.0",
        "data": "rendered actors of avatarmill.synth (CC0)",
        "actors": options.actors - options.check,
        "features_sha256": digest_of(clips[kept:]),
        "seeds": list(range(MEMBERS)),
        "epochs": options.epochs,
        "steps": options.epochs * (len(batch) // BATCH),
        "seconds_of_training": round(seconds),
        "accuracy_on_kept_back_actors": right,
    }
    save_model(options.out, model, card)
    say(f"{options.out}: sha256 {sha256_file(options.out)}")
    for name, value in card.items():
        say(f"{name}: {value}")


if __name__ == "__main__":
    main()
