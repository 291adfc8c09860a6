"""The correction of bone directions as a network in torch: samples, augmentation, training."""

import logging
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avatarmill.pipeline.fit_evidence import observe
from avatarmill.pipeline.fit_lifter import (
    NUM_BONES,
    PARENTS,
    SIGMA_RANGE,
    Lifter,
    lifter_features,
    unit,
)
from avatarmill.pipeline.fit_start import GUESSED_FOCAL, camera_turn
from avatarmill.pipeline.types import Landmarks

logger = logging.getLogger("train_lifter")
Array = NDArray[np.float64]

_WIDTH, _DROPOUT, _BATCH = 192, 0.1, 256
_RATE, _DECAY = 2e-3, 0.02
_MAX_TURN, _GROWTH, _WORLD_NOISE, _PIXEL_NOISE = 0.25, 0.08, 0.01, 0.02
# The other side's landmark of MediaPipe's 33, and the other side's bone.
_LANDMARKS = [0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, *(i for k in range(11, 33, 2) for i in (k + 1, k))]
_JOINTS = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20]
_BONES = [joint - 1 for joint in _JOINTS[1:]]


@dataclass(frozen=True, slots=True)
class Samples:
    """N frames: what MediaPipe says, and the true directions in its axes."""

    features: Array
    """[N, F] of `lifter_features`."""
    world: Array
    """[N, 33, 3]"""
    wanted: Array
    """[N, 21, 3] unit."""

    @staticmethod
    def of(
        landmarks: Landmarks, seconds: Array, width: int, height: int, joints: Array
    ) -> "Samples":
        """Samples of one clip with true joints [T, 22, 3] in camera space."""
        seen = observe(landmarks, width=width, height=height)
        found = np.isfinite(landmarks.body[:, 0, 0])
        pixels, trust = seen.pixels[:, :33], seen.trust[:, :33]
        center = torch.tensor((width / 2, height / 2), dtype=torch.float64)
        turn = camera_turn(pixels, trust + 1e-6, GUESSED_FOCAL * max(width, height), center)
        bones = unit(joints[:, 1:] - joints[:, list(PARENTS)])
        features = lifter_features(
            seen.world.numpy(),
            pixels.numpy(),
            np.nan_to_num(landmarks.body[..., 3]).astype(np.float64),
            trust.numpy(),
            seconds,
        )
        wanted = np.einsum("tba,tkb->tka", turn.numpy(), bones)
        return Samples(features[found], seen.world.numpy()[found], wanted[found])


def join(parts: list[Samples]) -> Samples:
    """All frames of some clips."""
    names = [field.name for field in fields(Samples)]
    return Samples(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


class Network(nn.Module):
    """`Lifter` in torch."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features.shape[1], _WIDTH),
            nn.GELU(approximate="tanh"),
            nn.Dropout(_DROPOUT),
            nn.Linear(_WIDTH, _WIDTH),
            nn.GELU(approximate="tanh"),
            nn.Dropout(_DROPOUT),
            nn.Linear(_WIDTH, 4 * NUM_BONES),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
        with torch.no_grad():
            last.bias[3 * NUM_BONES :] = -1.5
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("scale", features.std(0).clamp_min(0.05))

    def forward(self, features: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """Unit directions [N, 21, 3] and the logarithms of their deviations [N, 21]."""
        value = self.layers((features - self.mean) / self.scale)
        moved = base + value[:, : 3 * NUM_BONES].reshape(-1, NUM_BONES, 3)
        unit_moved = moved / moved.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        return unit_moved, value[:, 3 * NUM_BONES :].clamp(*SIGMA_RANGE)

    def arrays(self, joints: Array) -> dict[str, NDArray[np.float32]]:
        """What `load_lifter` reads; float16 matrices."""
        linear = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        kept = {"joints": joints.astype(np.float32)}
        kept |= {"mean": self.mean.numpy(), "scale": self.scale.numpy()}
        for row, layer in enumerate(linear):
            kept[f"weight{row}"] = layer.weight.detach().numpy().astype(np.float16)
            kept[f"bias{row}"] = layer.bias.detach().numpy().astype(np.float32)
        return kept


def train(
    seen: Samples, held: Samples | None, joints: Array, *, steps: int, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Fits the network by the likelihood of directions with their deviations.

    Args:
        seen: to train on.
        held: logged against, if given.
        joints: [22, 33] linear map of landmarks to joints.
        steps: of AdamW.
        seed: of initialisation, batches and augmentation.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    features, world, wanted = (
        torch.from_numpy(value).float() for value in (seen.features, seen.world, seen.wanted)
    )
    lift = torch.from_numpy(joints).float()
    network = Network(features)
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps)
    for step in range(steps):
        rows = torch.randint(len(features), (_BATCH,), generator=generator)
        batch = augment(features[rows], world[rows], wanted[rows], generator)
        found, sigma = network(batch[0], _base(lift, batch[1]))
        error = (found - batch[2]).square().sum(-1)
        loss = (error / (2 * (2 * sigma).exp()) + 2 * sigma).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 1000 == 999:
            logger.info("step %d: loss %.3f", step + 1, loss.item())
    network.eval()
    if held is not None:
        _report(network, held, joints)
    return network.arrays(joints)


def augment(
    features: Tensor, world: Tensor, wanted: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Mirrored, turned about the line of sight, resized and shaken samples."""
    count, points = len(features), 3 * 33
    own, before, after = (features[:, k * points : (k + 1) * points] for k in range(3))
    flat, rest = features[:, 3 * points : 3 * points + 66], features[:, 3 * points + 66 :]
    flip = torch.rand(count, generator=generator) < 0.5
    angle = (2 * torch.rand(count, generator=generator) - 1) * _MAX_TURN
    growth = 1 + _GROWTH * torch.randn(count, 1, 1, generator=generator)

    def moved(values: Tensor, other: list[int]) -> Tensor:
        mirrored = values[:, other] * torch.tensor((-1.0, 1.0, 1.0))[: values.shape[-1]]
        chosen = torch.where(flip[:, None, None], mirrored, values)
        x, y = chosen[..., 0], chosen[..., 1]
        c, s = angle.cos()[:, None], angle.sin()[:, None]
        return torch.cat((torch.stack((c * x - s * y, s * x + c * y), -1), chosen[..., 2:]), dim=-1)

    def shaken(values: Tensor, size: float) -> Tensor:
        return values + size * torch.randn(values.shape, generator=generator)

    still = shaken(moved(world, _LANDMARKS) * growth, _WORLD_NOISE)
    shifts = [
        shaken(moved(part.reshape(count, 33, 3), _LANDMARKS) * growth, _WORLD_NOISE)
        for part in (before, after)
    ]
    picture = shaken(moved(flat.reshape(count, 33, 2), _LANDMARKS), _PIXEL_NOISE)
    seen = rest.reshape(count, 2, 33)
    seen = torch.where(flip[:, None, None], seen[:, :, _LANDMARKS], seen)
    parts = (still, *shifts, picture, seen)
    return torch.cat([part.flatten(1) for part in parts], -1), still, moved(wanted, _BONES)


def _base(joints: Tensor, world: Tensor) -> Tensor:
    placed = torch.einsum("jl,tlc->tjc", joints, world)
    bones = placed[:, 1:] - placed[:, list(PARENTS)]
    directions: Tensor = bones / bones.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return directions


def _report(network: Network, held: Samples, joints: Array) -> None:
    """Logs the angles of held-out frames before and after correction, and how sure they are."""
    arrays = {name: value.astype(np.float64) for name, value in network.arrays(joints).items()}
    lifter = Lifter(
        arrays["joints"],
        arrays["mean"],
        arrays["scale"],
        tuple(arrays[f"weight{k}"] for k in range(3)),
        tuple(arrays[f"bias{k}"] for k in range(3)),
    )
    found, sigma = lifter(held.features, held.world)
    ways = {"corrected": found, "MediaPipe": lifter.base(held.world)}
    for name, value in ways.items():
        cosine = np.clip((value * held.wanted).sum(-1), -1, 1)
        logger.info("%s: %.1f degrees", name, np.degrees(np.arccos(cosine)).mean())
    error = np.linalg.norm(found - held.wanted, axis=-1)
    logger.info("error over sigma: %.2f", np.sqrt(np.square(error / sigma).mean() / 2))
