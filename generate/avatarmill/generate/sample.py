"""Sampling: from noise along the learnt flow to the latents and body shape of one avatar."""

from dataclasses import dataclass

import torch
from torch import Tensor

from avatarmill.train.mmdit import MMDiT, Velocity
from avatarmill.train.text import TextFeatures


@dataclass(frozen=True, slots=True)
class Sampled:
    """One generated person, as the tokenizer decodes it."""

    latent: Tensor
    """[T, C] float32."""
    shape: Tensor
    """[20] body shape."""


@torch.no_grad()
def sample(
    model: MMDiT,
    text: TextFeatures,
    *,
    seed: int,
    steps: int = 32,
    guidance: float = 2.5,
    shift: float = 3.0,
) -> Sampled:
    """Euler steps from t = 1 (noise) to t = 0 with classifier-free guidance (Ho & Salimans 2021).

    Every token is generated: no mask, no placeholders. `text` holds one caption. Guidance 1 is the
    plain conditional model, 0 the unconditional one. `shift` is that of `step_times`. The noise is
    drawn on the CPU, so a seed gives one avatar on any device.

    Raises:
        ValueError: several captions, no steps, or negative guidance.
    """
    if len(text.tokens) != 1:
        raise ValueError(f"sample takes one caption, got {len(text.tokens)}")
    if steps < 1 or guidance < 0 or shift <= 0:
        raise ValueError(
            f"steps is {steps} (at least 1), guidance is {guidance} (at least 0), "
            f"shift is {shift} (above 0)"
        )
    generator = torch.Generator().manual_seed(seed)
    config, device = model.config, model.latent_mean.device
    latent = torch.randn(1, config.num_tokens, config.channels, generator=generator).to(device)
    shape = torch.randn(1, config.num_shape, generator=generator).to(device)
    times = step_times(steps, shift)
    for now, then in zip(times[:-1], times[1:], strict=True):
        velocity = guided_velocity(model, latent, shape, now, text, guidance)
        latent = latent + (then - now) * velocity.latent
        shape = shape + (then - now) * velocity.shape
    return Sampled(latent[0], shape[0])


def step_times(steps: int, shift: float) -> list[float]:
    """steps + 1 times from 1 to 0; `shift` above 1 spends more of them on noisy inputs.

    t' = shift t / (1 + (shift - 1) t) (Esser et al. 2024, equation 23): a garment's colour is
    repeated over a hundred tokens, so it is settled while each of them is still almost noise.

    >>> step_times(2, 3.0)
    [1.0, 0.75, 0.0]
    """
    even = [1.0 - step / steps for step in range(steps + 1)]
    return [shift * t / (1.0 + (shift - 1.0) * t) for t in even]


def guided_velocity(
    model: MMDiT, latent: Tensor, shape: Tensor, t: float, text: TextFeatures, guidance: float
) -> Velocity:
    """v_null + guidance (v_text - v_null) at one time, both in one batch of two."""
    both = model(
        latent.expand(2, -1, -1),
        shape.expand(2, -1),
        torch.full((2,), t, device=latent.device),
        TextFeatures(text.tokens.expand(2, -1, -1), text.mask.expand(2, -1)),
        dropped=torch.tensor([False, True], device=latent.device),
    )
    return Velocity(
        torch.lerp(both.latent[1:], both.latent[:1], guidance),
        torch.lerp(both.shape[1:], both.shape[:1], guidance),
    )
