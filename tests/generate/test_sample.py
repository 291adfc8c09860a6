"""The sampler: exact on a model whose flow is known, seeded, and guided."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from avatarmill.generate.sample import guided_velocity, sample, step_times
from avatarmill.train.mmdit import TINY, MMDiT
from avatarmill.train.text import TextFeatures

CONFIG = replace(TINY, num_tokens=64)


def model(*, trained: bool) -> MMDiT:
    torch.manual_seed(0)
    normals = functional.normalize(torch.randn(CONFIG.num_tokens, 3), dim=-1)
    net = MMDiT(CONFIG, normals, normals)
    if trained:
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return net.eval()


def text(seed: int = 0, batch: int = 1) -> TextFeatures:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, 5, 384, generator=generator)
    return TextFeatures(tokens, torch.ones(batch, 5, dtype=torch.bool))


def test_a_network_that_is_its_prior_samples_the_prior() -> None:
    net = model(trained=False)
    net.latent_mean.fill_(2.0)
    net.latent_deviation.fill_(0.5)
    latent = sample(net, text(), seed=0, steps=32, shift=1.0).latent
    assert abs(latent.mean() - 2.0) < 0.1
    assert abs(latent.std() - 0.5) < 0.05


def test_known_data_come_out_exactly() -> None:
    """With a vanishing deviation the prior's flow is a straight line to the mean."""
    net = model(trained=False)
    truth = torch.randn(CONFIG.num_tokens, CONFIG.channels)
    net.latent_mean.copy_(truth)
    net.latent_deviation.fill_(1e-3)
    latent = sample(net, text(), seed=3, steps=8).latent
    torch.testing.assert_close(latent, truth, atol=0.02, rtol=0)


def test_a_seed_is_an_avatar() -> None:
    net = model(trained=True)
    first, again, other = (sample(net, text(), seed=s, steps=3) for s in (5, 5, 6))
    assert torch.equal(first.latent, again.latent) and torch.equal(first.shape, again.shape)
    assert not torch.equal(first.latent, other.latent)
    assert first.latent.shape == (64, 8) and first.shape.shape == (20,)


def test_guidance_interpolates_and_extrapolates() -> None:
    net, generator = model(trained=True), torch.Generator().manual_seed(0)
    latent = torch.randn(1, 64, 8, generator=generator)
    shape = torch.randn(1, 20, generator=generator)
    plain, null, strong = (
        guided_velocity(net, latent, shape, 0.4, text(), g).latent for g in (1.0, 0.0, 3.0)
    )
    t = torch.tensor([0.4])
    torch.testing.assert_close(plain, net(latent, shape, t, text()).latent, atol=1e-5, rtol=1e-5)
    dropped = net(latent, shape, t, text(), dropped=torch.tensor([True])).latent
    torch.testing.assert_close(null, dropped, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(strong, null + 3.0 * (plain - null), atol=1e-5, rtol=1e-5)


def test_times_fall_from_one_to_zero_and_crowd_near_noise() -> None:
    even, shifted = step_times(10, 1.0), step_times(10, 4.0)
    assert even == pytest.approx([1 - k / 10 for k in range(11)])
    for times in (even, shifted):
        assert times[0] == 1.0 and times[-1] == 0.0
        assert all(now > then for now, then in zip(times[:-1], times[1:], strict=True))
    assert sum(t > 0.5 for t in shifted) > sum(t > 0.5 for t in even)


def test_bad_requests_are_refused() -> None:
    net = model(trained=False)
    with pytest.raises(ValueError, match="takes one caption, got 2"):
        sample(net, text(batch=2), seed=0)
    with pytest.raises(ValueError, match="steps is 0"):
        sample(net, text(), seed=0, steps=0)
    with pytest.raises(ValueError, match="guidance is -1"):
        sample(net, text(), seed=0, guidance=-1)
    with pytest.raises(ValueError, match=r"shift is 0.* \(above 0\)"):
        sample(net, text(), seed=0, shift=0)
