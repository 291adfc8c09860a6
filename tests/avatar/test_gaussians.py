"""Gaussians validate themselves and move as one."""

import pytest
import torch

from avatarmill.avatar.gaussians import Gaussians


def some(count: int = 5, channels: int = 3) -> Gaussians:
    return Gaussians(
        torch.rand(count, 3),
        torch.randn(count, 4),
        torch.rand(count, 3),
        torch.rand(count),
        torch.rand(count, channels),
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("means", torch.rand(5), r"means must be \[N, 3\]"),
        ("means", torch.rand(5, 2), r"means must be \[5, 3\]"),
        ("rotations", torch.rand(4, 4), r"rotations must be \[5, 4\]"),
        ("opacities", torch.rand(5, 1), r"opacities must be \[5\]"),
        ("colors", torch.rand(6, 3), r"colors must be \[5, D\]"),
        ("colors", torch.rand(5, 33), "33 channels, the limit is 1 to 32"),
        ("scales", torch.rand(5, 3).double(), "scales is torch.float64"),
        ("means", torch.ones(5, 3, dtype=torch.int64), "floating point"),
    ],
)
def test_wrong_tensors_are_named(name: str, value: torch.Tensor, message: str) -> None:
    fields = dict(
        zip(("means", "rotations", "scales", "opacities", "colors"), some().tensors(), strict=True)
    )
    with pytest.raises(ValueError, match=message):
        Gaussians(**{**fields, name: value})


def test_concatenate_then_select_gives_the_parts_back() -> None:
    first, second = some(4), some(3)
    both = Gaussians.concatenate([first, second])
    assert len(both) == 7
    for joined, part in zip(
        both.select(torch.arange(4, 7)).tensors(), second.tensors(), strict=True
    ):
        assert torch.equal(joined, part)


def test_concatenate_refuses_mixed_channels() -> None:
    with pytest.raises(ValueError, match=r"channel counts \[3, 4\]"):
        Gaussians.concatenate([some(), some(channels=4)])


def test_to_keeps_the_graph_and_detach_cuts_it() -> None:
    leaf = torch.rand(5, 3, requires_grad=True)
    gaussians = Gaussians(leaf, *some().tensors()[1:]).to(torch.float64)
    torch.autograd.backward(gaussians.means.sum())
    assert leaf.grad is not None and bool((leaf.grad == 1).all())
    assert not gaussians.detach().means.requires_grad
    assert "N=5, D=3, torch.float64" in repr(gaussians)
