"""LPIPS reads the reference package's names and behaves like a distance."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avatarmill.tokenize.lpips import Lpips

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
LAYERS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the shapes of the reference."""
    state, before = {}, 3
    for number, (widths, layers) in enumerate(zip(WIDTHS, LAYERS, strict=True), start=1):
        for width, layer in zip(widths, layers, strict=True):
            name = f"net.slice{number}.{layer}"
            state[f"{name}.weight"] = torch.randn(width, before, 3, 3) / (9 * before) ** 0.5
            state[f"{name}.bias"] = torch.zeros(width)
            before = width
        state[f"lin{number - 1}.model.1.weight"] = torch.rand(1, before, 1, 1)
    path = tmp_path_factory.mktemp("lpips") / "lpips.safetensors"
    save_file(state, path)
    return path


def test_it_is_zero_on_equal_images_and_grows_with_blur(weights: Path) -> None:
    loss = Lpips(weights)
    image = torch.rand(2, 3, 32, 32)
    assert float(loss(image, image)) == 0.0
    slight = torch.nn.functional.avg_pool2d(image, 3, stride=1, padding=1)
    strong = torch.nn.functional.avg_pool2d(slight, 7, stride=1, padding=3)
    assert 0.0 < float(loss(slight, image)) < float(loss(strong, image))
    torch.testing.assert_close(loss(slight, image), loss(image, slight))


def test_it_has_a_gradient(weights: Path) -> None:
    rendered = torch.rand(1, 3, 32, 32, requires_grad=True)
    Lpips(weights)(rendered, torch.rand(1, 3, 32, 32)).backward()
    assert rendered.grad is not None and float(rendered.grad.abs().sum()) > 0.0


def test_missing_and_foreign_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no LPIPS weights at .*gradient pyramid"):
        Lpips(tmp_path / "none.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(ValueError, match="foreign.safetensors lacks 'net.slice1.0.weight'"):
        Lpips(foreign)
