"""The network: patches, what invalid tokens and dropped captions may influence, and its size."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from avatarmill.train.flow import masked_mean_square
from avatarmill.train.mmdit import NANO, TINY, MMDiT, MMDiTConfig
from avatarmill.train.patches import fourier_features, patch_order
from avatarmill.train.text import TextFeatures

CONFIG = replace(TINY, num_tokens=64)


def surface(num: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    normals = functional.normalize(torch.randn(num, 3, generator=generator), dim=-1)
    return normals * torch.tensor([0.3, 0.9, 0.2]), normals


def model(config: MMDiTConfig = CONFIG) -> MMDiT:
    torch.manual_seed(0)
    made = MMDiT(config, *surface(config.num_tokens))
    for parameter in made.parameters():
        # Heads and gates start at zero; give every path something to carry.
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def inputs(batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, CONFIG.num_tokens, 8, generator=generator),
        torch.randn(batch, 20, generator=generator),
        torch.rand(batch, generator=generator),
    )


def text(batch: int = 2, length: int = 5, seed: int = 1) -> TextFeatures:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, length, dtype=torch.bool)
    return TextFeatures(torch.randn(batch, length, 384, generator=generator), mask)


def test_invalid_inputs_have_exactly_no_influence() -> None:
    net, (latent, shape, t) = model(), inputs()
    valid = torch.rand(2, CONFIG.num_tokens, generator=torch.Generator().manual_seed(3)) < 0.6
    other = torch.where(valid[..., None], latent, torch.nan)
    first = net(latent, shape, t, text(), valid=valid)
    second = net(other, shape, t, text(), valid=valid)
    assert torch.equal(first.latent[valid], second.latent[valid])
    assert torch.equal(first.shape, second.shape)


def test_gradient_at_invalid_tokens_is_exactly_zero() -> None:
    net, (latent, shape, t) = model(), inputs()
    valid = torch.rand(2, CONFIG.num_tokens, generator=torch.Generator().manual_seed(3)) < 0.6
    latent.requires_grad_()
    target = torch.randn_like(latent).requires_grad_()
    error = net(latent, shape, t, text(), valid=valid).latent - target
    masked_mean_square(error, valid).backward()
    for gradient in (latent.grad, target.grad):
        assert gradient is not None
        assert (gradient[~valid] == 0).all() and (gradient[valid] != 0).all()


def test_weights_learn_nothing_from_values_at_invalid_tokens() -> None:
    net, (latent, shape, t) = model(), inputs()
    valid = torch.zeros(2, CONFIG.num_tokens, dtype=torch.bool)
    valid[:, ::2] = True
    gradients = []
    for filler in (0.0, 1e3):
        net.zero_grad()
        spoilt = torch.where(valid[..., None], latent, filler)
        out = net(spoilt, shape, t, text(), valid=valid).latent
        masked_mean_square(out - spoilt, valid).backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_placeholder_is_learnt_only_where_tokens_are_invalid() -> None:
    net, (latent, shape, t) = model(), inputs()
    for valid, learns in ((torch.ones(2, 64, dtype=torch.bool), False), (None, False)):
        net.zero_grad()
        net(latent, shape, t, text(), valid=valid).latent.square().mean().backward()
        gradient = net.embedding.placeholder.grad
        assert (gradient is not None and bool(gradient.any())) is learns
    net.zero_grad()
    holes = torch.rand(2, 64) < 0.5
    net(latent, shape, t, text(), valid=holes).latent.square().mean().backward()
    assert net.embedding.placeholder.grad is not None
    assert net.embedding.placeholder.grad.any()


def test_full_sampling_equals_all_valid() -> None:
    net, (latent, shape, t) = model(), inputs()
    every = torch.ones(2, CONFIG.num_tokens, dtype=torch.bool)
    full, masked = net(latent, shape, t, text()), net(latent, shape, t, text(), valid=every)
    assert torch.equal(full.latent, masked.latent)


def test_dropped_captions_have_no_influence_and_others_do() -> None:
    net, (latent, shape, t) = model(), inputs()
    dropped = torch.tensor([True, False])
    first = net(latent, shape, t, text(seed=1), dropped=dropped).latent
    second = net(latent, shape, t, text(seed=2), dropped=dropped).latent
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1], second[1])


def test_padding_of_the_text_has_no_influence() -> None:
    net, (latent, shape, t) = model(), inputs()
    short = text(length=4)
    padded = TextFeatures(
        functional.pad(short.tokens, (0, 0, 0, 3)), functional.pad(short.mask, (0, 3))
    )
    torch.testing.assert_close(
        net(latent, shape, t, short).latent, net(latent, shape, t, padded).latent
    )


def test_a_fresh_network_is_its_prior() -> None:
    net = MMDiT(CONFIG, *surface(CONFIG.num_tokens))
    latent, shape, t = inputs()
    found = net(latent, shape, t, text())
    time = t[:, None, None]
    expected = net.latent_prior().velocity(latent, torch.zeros_like(latent), time)
    torch.testing.assert_close(found.latent, expected)


def test_every_parameter_is_reached_by_the_loss() -> None:
    net, (latent, shape, t) = model(), inputs()
    valid = torch.rand(2, CONFIG.num_tokens) < 0.5
    dropped = torch.tensor([True, False])
    found = net(latent, shape, t, text(), valid=valid, dropped=dropped)
    (found.latent.square().mean() + found.shape.square().mean()).backward()
    unreached = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


def test_tokens_keep_their_anchors() -> None:
    """The head's output for an anchor answers to that anchor's own input."""
    net, (latent, shape, t) = model(), inputs(batch=1)
    for name, parameter in net.named_parameters():
        # Without attention only the patch itself carries information.
        if name.endswith("avatar.out.weight"):
            torch.nn.init.zeros_(parameter)
    moved = latent.clone()
    moved[0, 17] += 1.0
    change = (net(moved, shape, t, text(1)).latent - net(latent, shape, t, text(1)).latent).abs()
    patch = net.order.reshape(-1, CONFIG.patch)
    members = patch[(patch == 17).any(dim=1)][0]
    touched = torch.zeros(64, dtype=torch.bool)
    touched[members] = True
    assert (change[0, touched].amax(dim=-1) > 0).all() and (change[0, ~touched] == 0).all()


@pytest.mark.parametrize(("num", "patch"), [(64, 4), (1024, 4), (96, 8), (10, 1), (12, 3)])
def test_patches_are_a_partition(num: int, patch: int) -> None:
    assert sorted(patch_order(*surface(num), patch).tolist()) == list(range(num))


def test_patches_are_compact() -> None:
    positions, normals = surface(1024)
    groups = positions[patch_order(positions, normals, 4)].reshape(-1, 4, 3)
    spread = (groups - groups.mean(dim=1, keepdim=True)).norm(dim=-1).mean()
    shuffled = positions.reshape(-1, 4, 3)
    assert spread < 0.2 * (shuffled - shuffled.mean(dim=1, keepdim=True)).norm(dim=-1).mean()


def test_front_and_back_of_a_thin_limb_are_apart() -> None:
    x = torch.linspace(0, 1, 32)
    front = torch.stack([x, torch.zeros(32), torch.full((32,), 0.02)], dim=-1)
    back = front * torch.tensor([1.0, 1.0, -1.0])
    normals = torch.tensor([0.0, 0.0, 1.0]).expand(32, 3)
    order = patch_order(torch.cat([front, back]), torch.cat([normals, -normals]), 4)
    sides = (order.reshape(-1, 4) < 32).float().mean(dim=1)
    assert set(sides.tolist()) == {0.0, 1.0}


def test_uneven_patches_are_refused() -> None:
    with pytest.raises(ValueError, match="10 anchors do not divide into patches of 4"):
        patch_order(*surface(10), 4)
    with pytest.raises(ValueError, match="patch 3 does not divide 64 tokens"):
        replace(CONFIG, patch=3)


def test_wrong_number_of_anchors_is_refused() -> None:
    with pytest.raises(ValueError, match=r"64 tokens need as many anchors, got \(32, 3\)"):
        MMDiT(CONFIG, *surface(32))


def test_uneven_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="width 32 does not split into 5 even heads"):
        replace(CONFIG, heads=5)


def test_fourier_features_keep_the_point() -> None:
    points = torch.rand(7, 3)
    features = fourier_features(points, 4)
    assert features.shape == (7, 27) and torch.equal(features[:, :3], points)


def test_nano_fits_its_budget() -> None:
    net = MMDiT(NANO, *surface(NANO.num_tokens))
    num = sum(parameter.numel() for parameter in net.parameters())
    assert num <= 2_000_000, f"{num} parameters: the float16 export must stay below 4 MiB"
