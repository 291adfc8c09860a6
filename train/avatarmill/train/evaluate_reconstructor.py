"""Held-out quality of a tokenizer in decibels: canonical and posed, seen and unseen pixels.

Every actor is encoded from its first frames and rendered into the others. A pixel counts as
seen when the tokens that make it up were seen by the references; the rest had to be guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avatarmill.avatar.gaussians import Gaussians
from avatarmill.tokenize.losses import psnr
from avatarmill.tokenize.tokenizer import Tokenizer
from avatarmill.train.actor_set import ActorSet, TargetViews
from avatarmill.train.avatar_losses import pose_pairs, render

Latents = Literal[
    "tokens",  # as the reconstructor gives them
    "compressed",  # through the compressor and back
]

_FEWEST_PIXELS = 100


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over views, decibels on the person's pixels; NaN where nothing could be measured."""

    canonical: float
    """Without pose-dependent offsets."""
    posed: float
    """With them."""
    posed_seen: float
    posed_unseen: float
    silhouette: float
    """Intersection over union of the posed avatar's silhouette with the mask, 0..1."""


@torch.no_grad()
def evaluate(
    tokenizer: Tokenizer,
    actors: ActorSet,
    *,
    references: int = 4,
    latents: Latents = "compressed",
    most_actors: int | None = None,
) -> Quality:
    """Mean quality over the held-out frames of a set."""
    count = len(actors) if most_actors is None else min(most_actors, len(actors))
    views: list[Quality] = []
    for actor in range(count):
        views += evaluate_actor(tokenizer, actors, actor, references, latents)
    return _mean(views)


def evaluate_actor(
    tokenizer: Tokenizer, actors: ActorSet, actor: int, references: int, latents: Latents
) -> list[Quality]:
    """Quality of each held-out frame of one actor."""
    chosen = np.linspace(0, actors.num_frames - 1, references).round().astype(np.int64)
    others = np.setdiff1d(np.arange(actors.num_frames), chosen)
    inputs = actors.inputs(actor, chosen)
    tokens = tokenizer.reconstructor(inputs)
    if latents == "compressed":
        tokens = tokenizer.compressor.decode(tokenizer.compressor.encode(tokens))
    targets = actors.targets(actor, others)
    _, pairs, _ = pose_pairs(
        tokenizer.reconstructor, tokenizer.sites, tokenizer.body, tokens, targets.params
    )
    seen = 1.0 - (1.0 - inputs.visibility[0]).prod(0)
    per_token = len(tokenizer.sites.weights) // len(seen)
    brightness = seen.repeat_interleave(per_token)[:, None]
    return [
        _view_quality(pair.canonical, pair.posed, brightness, targets, row)
        for row, pair in enumerate(pairs)
    ]


def _view_quality(
    canonical: Gaussians, posed: Gaussians, seen: Tensor, targets: TargetViews, row: int
) -> Quality:
    size = targets.images.shape[1]
    lens, target = targets.intrinsics[row], targets.images[row]
    mask = targets.masks[row] * targets.known[row]
    plain, _ = render(canonical, lens, size)
    color, alpha = render(posed, lens, size)
    shown, _ = render(replace(posed, colors=seen.expand(-1, 3)), lens, size)
    share = shown[..., 0] / alpha.clamp(min=1e-3)
    inside, found = mask > 0.5, (alpha * targets.known[row]) > 0.5
    union = (inside | found).sum().clamp(min=1)
    return Quality(
        canonical=_psnr(plain, target, inside),
        posed=_psnr(color, target, inside),
        posed_seen=_psnr(color, target, inside & (share > 0.3)),
        posed_unseen=_psnr(color, target, inside & (share <= 0.3) & (alpha > 0.5)),
        silhouette=float((inside & found).sum() / union),
    )


def _psnr(rendered: Tensor, target: Tensor, where: Tensor) -> float:
    if int(where.sum()) < _FEWEST_PIXELS:
        return float("nan")
    return psnr(rendered[None], target[None], where[None].float())


def _mean(views: Sequence[Quality]) -> Quality:
    if not views:
        raise ValueError("no held-out frames: references must be fewer than the frames of a set")
    rows = np.array([[getattr(view, field.name) for field in fields(Quality)] for view in views])
    known = np.isfinite(rows)
    counts = known.sum(0)
    totals = np.where(known, rows, 0.0).sum(0) / np.maximum(counts, 1)
    return Quality(*np.where(counts > 0, totals, np.nan).tolist())
