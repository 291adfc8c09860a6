"""Losses vanish where they should and push where they must."""

import dataclasses

import pytest
import torch

from avatarmill.tokenize.local import LocalGaussians
from avatarmill.tokenize.losses import (
    ACAP_THRESHOLD,
    PyramidLoss,
    as_close_as_possible,
    as_spherical_as_possible,
    image_losses,
    psnr,
)

SIZE = 16


def gaussians(count: int = 4) -> LocalGaussians:
    return LocalGaussians(
        colors=torch.full((count, 3), 0.5),
        offsets=torch.zeros(count, 3),
        opacities=torch.ones(count),
        rotations=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(count, -1),
        log_scales=torch.zeros(count, 3),
    )


def picture() -> tuple[torch.Tensor, torch.Tensor]:
    target, mask = torch.rand(1, SIZE, SIZE, 3), torch.zeros(1, SIZE, SIZE)
    mask[:, 4:12, 4:12] = 1.0
    return target * mask[..., None], mask


def test_a_perfect_render_costs_nothing() -> None:
    target, mask = picture()
    found = image_losses(target, mask, target, mask, PyramidLoss())
    for field in dataclasses.fields(found):
        assert float(getattr(found, field.name)) == pytest.approx(0.0, abs=1e-7)


def test_the_size_of_the_person_does_not_change_the_scale() -> None:
    target, mask = picture()
    small = image_losses(0 * target, 0 * mask, target, mask, PyramidLoss())
    full = torch.ones_like(mask)
    everywhere = torch.rand(1, SIZE, SIZE, 3)
    large = image_losses(0 * target, 0 * full, everywhere, full, PyramidLoss())
    assert float(small.alpha) == pytest.approx(float(large.alpha))
    assert 0.7 < float(small.color / large.color) < 1.4


def test_a_blurred_edge_costs_more_than_a_shift_of_brightness() -> None:
    # The stated purpose of the substitute: structure counts, not only the mean.
    edge = torch.zeros(1, 3, SIZE, SIZE)
    edge[..., SIZE // 2 :] = 1.0
    blurred = torch.nn.functional.avg_pool2d(edge, 5, stride=1, padding=2, count_include_pad=False)
    brighter = edge + (blurred - edge).abs().mean()
    loss = PyramidLoss()
    assert loss(blurred, edge) > 5.0 * loss(brighter, edge)


def test_acap_is_free_near_the_surface() -> None:
    near = dataclasses.replace(
        gaussians(), offsets=torch.full((4, 3), 0.9 * ACAP_THRESHOLD / 3**0.5)
    )
    assert float(as_close_as_possible(near)) == 0.0
    far = dataclasses.replace(gaussians(), offsets=torch.full((4, 3), 0.1))
    assert float(as_close_as_possible(far)) == pytest.approx(0.1 * 3**0.5 - ACAP_THRESHOLD)


def test_acap_has_a_gradient_at_the_site() -> None:
    offsets = torch.zeros(4, 3, requires_grad=True)
    as_close_as_possible(dataclasses.replace(gaussians(), offsets=offsets)).backward()
    assert offsets.grad is not None and torch.isfinite(offsets.grad).all()


def test_asap_is_free_for_round_gaussians_only() -> None:
    assert float(as_spherical_as_possible(gaussians())) == 0.0
    needles = dataclasses.replace(
        gaussians(), log_scales=torch.tensor([[0.0, 0.0, 10.0]]).log().clamp(min=-1.0).expand(4, -1)
    )
    assert float(as_spherical_as_possible(needles)) > 20.0


def test_psnr_of_a_known_error() -> None:
    target, mask = picture()
    assert psnr(target + 0.1, target, mask) == pytest.approx(20.0, abs=1e-3)
    with pytest.raises(ValueError, match="at least one pixel"):
        psnr(target, target, 0.0 * mask)
