"""The numba rasterizer against the plain torch one in float64: images, gradients, determinism."""

import math

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatarmill.avatar.camera import Cameras, orbit
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rasterize import Rendering, contributions, rasterize
from avatarmill.avatar.rasterize_reference import rasterize_reference

NAMES = ("means", "rotations", "scales", "opacities", "colors")


def cloud(count: int, channels: int = 3, seed: int = 0, size: float = 0.05) -> Gaussians:
    """A shell of Gaussians about a metre across, of mixed sizes and opacities."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    return Gaussians(
        direction * torch.tensor([0.3, 0.5, 0.2]),
        torch.randn(count, 4, generator=generator),
        size * torch.exp(0.8 * torch.randn(count, 3, generator=generator)),
        torch.sigmoid(2 + 2 * torch.randn(count, generator=generator)),
        torch.rand(count, channels, generator=generator),
    )


def views(count: int = 2, width: int = 45, height: int = 52) -> Cameras:
    angles = torch.arange(count) * 2.0 + 0.3
    return orbit(angles, width=width, height=height, distance=1.6, elevation=0.3)


def loss(color: torch.Tensor, alpha: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """A fixed random projection of all three images."""
    generator = torch.Generator().manual_seed(9)
    total = color.new_zeros(())
    for image, weight in ((color, 1.0), (alpha, 1.0), (depth, 0.3)):
        noise = torch.randn(image.shape, generator=generator).to(image)
        total = total + weight * (noise * image).sum()
    return total


def leaves(gaussians: Gaussians, dtype: torch.dtype) -> Gaussians:
    return Gaussians(*(t.to(dtype).clone().requires_grad_() for t in gaussians.tensors()))


def both(
    gaussians: Gaussians, cameras: Cameras, background: torch.Tensor
) -> tuple[Rendering, Rendering, dict[str, float]]:
    """Fast and exact renderings, and the relative error of each gradient."""
    fast, exact = leaves(gaussians, torch.float32), leaves(gaussians, torch.float64)
    rendering = rasterize(fast, cameras, background=background)
    truth = Rendering(
        *rasterize_reference(exact, cameras.to(torch.float64), background.to(torch.float64))
    )
    torch.autograd.backward(loss(rendering.color, rendering.alpha, rendering.depth))
    torch.autograd.backward(loss(truth.color, truth.alpha, truth.depth))
    errors = {}
    for name, ours, theirs in zip(NAMES, fast.tensors(), exact.tensors(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        errors[name] = float((ours.grad - theirs.grad).norm() / theirs.grad.norm())
    return rendering, truth, errors


@pytest.mark.parametrize("channels", [1, 3, 7, 32])
def test_images_and_gradients_equal_the_reference(channels: int) -> None:
    background = torch.rand(2, channels, generator=torch.Generator().manual_seed(1))
    ours, truth, errors = both(cloud(160, channels, seed=channels), views(), background)
    for name in ("color", "alpha"):
        torch.testing.assert_close(
            getattr(ours, name).double(), getattr(truth, name), atol=2e-5, rtol=0
        )
    torch.testing.assert_close(ours.depth.double(), truth.depth, atol=1e-4, rtol=0)
    assert max(errors.values()) < 1e-4, errors


def test_cameras_inside_the_cloud_and_opaque_layers() -> None:
    # Centres behind, beside and just past the near plane; alphas at the clamp; pixels that stop.
    gaussians = cloud(300, seed=3, size=0.12)
    gaussians = Gaussians(
        *gaussians.tensors()[:3], torch.ones(300).where(torch.arange(300) % 2 == 0, 0.7),
        gaussians.colors,
    )  # fmt: skip
    cameras = orbit([0.1, 1.9], width=50, height=33, distance=0.25, fov_y=1.2)
    ours, truth, errors = both(gaussians, cameras, torch.zeros(2, 3))
    torch.testing.assert_close(ours.color.double(), truth.color, atol=5e-5, rtol=0)
    assert float(ours.alpha.detach().max()) > 0.9998
    assert max(errors.values()) < 1e-4, errors


def test_subpixel_gaussians_fade_instead_of_growing() -> None:
    gaussian = Gaussians(
        torch.tensor([[0.0, 0, 2]]), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 1e-3),
        torch.ones(1), torch.ones(1, 1),
    )  # fmt: skip
    lens = torch.tensor([[100.0, 0, 8.5], [0, 100, 8.5], [0, 0, 1]])
    alpha = rasterize(gaussian, Cameras.identity(lens, 17, 17)).alpha[0]
    variance = 0.05**2
    assert float(alpha[8, 8]) == pytest.approx(variance / (variance + 0.3), rel=1e-4)


def test_one_gaussian_lies_where_the_camera_projects_its_mean() -> None:
    cameras = views(3, 64, 64)
    mean = torch.tensor([[0.12, -0.2, 0.05]])
    gaussian = Gaussians(
        mean, torch.ones(1, 4), torch.full((1, 3), 0.02), torch.full((1,), 0.9), torch.ones(1, 3)
    )
    rendering = rasterize(gaussian, cameras)
    grid = torch.stack(torch.meshgrid(*[torch.arange(64) + 0.5] * 2, indexing="xy"), dim=-1)
    weights = rendering.alpha / rendering.alpha.sum(dim=(1, 2), keepdim=True)
    centroid = torch.einsum("chw,hwk->ck", weights, grid)
    pixels, depth = cameras.project(mean)
    torch.testing.assert_close(centroid, pixels[:, 0], atol=0.02, rtol=0)
    middle = rendering.depth[torch.arange(3), pixels[:, 0, 1].int(), pixels[:, 0, 0].int()]
    torch.testing.assert_close(middle, depth[:, 0])


def test_the_same_bits_whatever_the_number_of_threads() -> None:
    threads = numba.get_num_threads()
    outputs = []
    for workers in (1, threads, threads):
        numba.set_num_threads(workers)
        gaussians = leaves(cloud(700, seed=5), torch.float32)
        rendering = rasterize(gaussians, views())
        torch.autograd.backward(loss(rendering.color, rendering.alpha, rendering.depth))
        outputs.append([rendering.color, *(tensor.grad for tensor in gaussians.tensors())])
    for one, many, again in zip(*outputs, strict=True):
        assert one is not None and many is not None and again is not None
        assert torch.equal(one, many) and torch.equal(many, again)


def test_batched_cameras_equal_single_ones() -> None:
    gaussians, cameras = cloud(200), views(3)
    together = rasterize(gaussians, cameras, background=torch.tensor([0.2, 0.5, 0.9]))
    for c in range(3):
        single = rasterize(
            gaussians, cameras.select(slice(c, c + 1)), background=torch.tensor([0.2, 0.5, 0.9])
        )
        assert torch.equal(single.color[0], together.color[c])


def test_contributions_add_up_to_the_coverage() -> None:
    gaussians, cameras = cloud(400, seed=2), views(3)
    weights = contributions(gaussians, cameras)
    alpha = rasterize(gaussians, cameras).alpha
    assert weights.shape == (3, 400)
    torch.testing.assert_close(weights.sum(dim=1), alpha.sum(dim=(1, 2)), rtol=1e-5, atol=0)
    # Weights of one Gaussian are what its colour adds to the image.
    lit = torch.zeros(400, 1)
    lit[17] = 1.0
    image = rasterize(Gaussians(*gaussians.tensors()[:4], lit), cameras).color
    torch.testing.assert_close(weights[:, 17], image.sum(dim=(1, 2, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [0, 5])
def test_nothing_in_view_shows_the_background(count: int) -> None:
    gaussians = cloud(count)
    away = Cameras.identity(torch.eye(3) * 30, 20, 17)  # looks along +z from the origin
    behind = Gaussians(gaussians.means - torch.tensor([0, 0, 9.0]), *gaussians.tensors()[1:])
    leaf = leaves(behind, torch.float32)
    rendering = rasterize(leaf, away, background=torch.tensor([0.1, 0.2, 0.3]))
    assert torch.equal(rendering.color[0, 3, 4], torch.tensor([0.1, 0.2, 0.3]))
    assert not rendering.depth.any() and not rendering.alpha.any()
    torch.autograd.backward(rendering.color.sum())
    assert leaf.means.grad is not None and not leaf.means.grad.any()


def test_gradient_descent_recovers_a_moved_cloud() -> None:
    target, cameras = cloud(60, seed=8), views(3, 40, 40)
    image = rasterize(target, cameras).color
    shift = torch.tensor([0.05, -0.04, 0.03], requires_grad=True)
    optimizer = torch.optim.Adam([shift], lr=5e-3)
    for _ in range(60):
        moved = Gaussians(target.means + shift, *target.tensors()[1:])
        error = (rasterize(moved, cameras).color - image).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(error)
        optimizer.step()
    assert float(shift.detach().norm()) < 3e-3


def test_wrong_inputs_are_named() -> None:
    gaussians, cameras = cloud(4), views(2)
    with pytest.raises(ValueError, match="take float32 Gaussians, got torch.float64"):
        rasterize(gaussians.to(torch.float64), cameras)
    with pytest.raises(ValueError, match=r"background must be \[3\] or \[2, 3\], got \[4\]"):
        rasterize(gaussians, cameras, background=torch.zeros(4))
    with pytest.raises(ValueError, match="Gaussians are on cpu, cameras on meta"):
        rasterize(gaussians, cameras.to("meta"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("means", torch.nan), ("rotations", torch.inf), ("scales", -torch.inf),
     ("opacities", torch.nan), ("colors", torch.inf)],
)  # fmt: skip
def test_numbers_that_are_not_finite_are_named(name: str, value: float) -> None:
    gaussians, cameras = cloud(4), views(2)
    getattr(gaussians, name)[2] = value
    for call in (rasterize, contributions):
        with pytest.raises(ValueError, match=rf"{name} holds .* the first is {value} at \[2"):
            call(gaussians, cameras)


def test_cameras_and_backgrounds_must_be_finite() -> None:
    gaussians, cameras = cloud(4), views(2)
    with pytest.raises(ValueError, match="background holds 1 values that are not finite"):
        rasterize(gaussians, cameras, background=torch.tensor([0, torch.nan, 0]))
    cameras.world_to_camera[1, 0, 3] = torch.nan
    with pytest.raises(ValueError, match=r"world_to_camera holds 1 .* nan at \[1, 0, 3\]"):
        rasterize(gaussians, cameras)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 40),
    channels=st.sampled_from([1, 2, 4, 5]),
    log_size=st.floats(-9, 3),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    distance=st.floats(0.3, 5),
)
def test_any_scene_equals_the_reference(
    seed: int, count: int, channels: int, log_size: float, width: int, height: int, distance: float
) -> None:
    gaussians = cloud(count, channels, seed=seed, size=math.exp(log_size))
    cameras = orbit([0.3, 2.3], width=width, height=height, distance=distance, fov_y=0.9)
    background = torch.rand(channels, generator=torch.Generator().manual_seed(seed))
    ours = rasterize(gaussians, cameras, background=background)
    exact, lens = gaussians.to(torch.float64), cameras.to(torch.float64)
    truth = rasterize_reference(exact, lens, background.double().expand(2, channels))
    # A pixel whose alpha is 1/255 up to rounding may take a Gaussian in one and not in the other.
    for image, wanted in ((ours.color, truth[0]), (ours.alpha, truth[1])):
        error = (image.double() - wanted).abs()
        assert float(error.max()) < 1.1 / 255
        assert float((error > 1e-4).double().mean()) < 0.01
    lit = truth[1] > 0.05
    torch.testing.assert_close(ours.depth[lit].double(), truth[2][lit], rtol=0.02, atol=0)
    totals = contributions(gaussians, cameras).sum(dim=1)
    torch.testing.assert_close(totals, ours.alpha.sum(dim=(1, 2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e-3, 1.0, 1e3, 1e8])
def test_huge_and_tiny_gaussians_keep_gradients_finite(size: float) -> None:
    gaussians = leaves(cloud(50, size=size), torch.float32)
    rendering = rasterize(gaussians, views())
    torch.autograd.backward(loss(rendering.color, rendering.alpha, rendering.depth))
    assert torch.isfinite(rendering.color).all() and torch.isfinite(rendering.depth).all()
    for name, tensor in zip(NAMES, gaussians.tensors(), strict=True):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all(), name


@pytest.mark.parametrize("output", ["color", "alpha", "depth"])
def test_each_output_alone_has_exact_gradients(output: str) -> None:
    fast, exact = (leaves(cloud(120, seed=6), kind) for kind in (torch.float32, torch.float64))
    rendering = rasterize(fast, views())
    wanted = Rendering(
        *rasterize_reference(
            exact, views().to(torch.float64), torch.zeros(2, 3, dtype=torch.float64)
        )
    )
    noise = torch.randn(
        getattr(rendering, output).shape, generator=torch.Generator().manual_seed(3)
    )
    torch.autograd.backward((getattr(rendering, output) * noise).sum())
    torch.autograd.backward((getattr(wanted, output) * noise).sum())
    for name, a, b in zip(NAMES, fast.tensors(), exact.tensors(), strict=True):
        if b.grad is None or not b.grad.any():
            assert a.grad is None or not a.grad.any(), name
            continue
        assert a.grad is not None
        assert float((a.grad - b.grad).norm() / b.grad.norm()) < 1e-4, name


def test_long_lists_and_full_pixels_equal_the_reference() -> None:
    # More Gaussians a tile than are dealt out at once, faint in front, opaque behind.
    gaussians = cloud(900, seed=11, size=0.06)
    faint = torch.where(gaussians.means[:, 2] > -0.05, 0.01, 0.95)
    gaussians = Gaussians(*gaussians.tensors()[:3], faint, gaussians.colors)
    cameras = orbit([0.0], width=37, height=29, distance=1.6)
    ours, truth, errors = both(gaussians, cameras, torch.ones(1, 3))
    torch.testing.assert_close(ours.color.double(), truth.color, atol=5e-5, rtol=0)
    assert max(errors.values()) < 1e-4, errors


def gpu_case(channels: int, size: float) -> tuple[Gaussians, Cameras, torch.Tensor]:
    background = torch.rand(2, channels, generator=torch.Generator().manual_seed(1))
    return cloud(300, channels, seed=4, size=size), views(2, 80, 75), background


@pytest.mark.gpu
@pytest.mark.parametrize("size", [1e-3, 0.05, 0.3])
@pytest.mark.parametrize("channels", [1, 3, 7, 32])
def test_gsplat_equals_the_reference(channels: int, size: float) -> None:
    gaussians, cameras, background = gpu_case(channels, size)
    fast = leaves(gaussians.to("cuda"), torch.float32)
    ours = rasterize(fast, cameras.to("cuda"), background=background.cuda())
    exact = leaves(gaussians, torch.float64)
    truth = Rendering(
        *rasterize_reference(exact, cameras.to(torch.float64), background.to(torch.float64))
    )
    lit = truth.alpha > 0.05
    torch.testing.assert_close(ours.color.cpu().double(), truth.color, atol=5e-3, rtol=0)
    torch.testing.assert_close(ours.alpha.cpu().double(), truth.alpha, atol=5e-3, rtol=0)
    torch.testing.assert_close(
        ours.depth.cpu()[lit].double(), truth.depth[lit], atol=2e-2, rtol=1e-2
    )
    torch.autograd.backward(loss(truth.color, truth.alpha, truth.depth * lit))
    torch.autograd.backward(loss(ours.color.cpu(), ours.alpha.cpu(), ours.depth.cpu() * lit))
    for name, a, b in zip(NAMES, fast.tensors(), exact.tensors(), strict=True):
        assert a.grad is not None and b.grad is not None
        error = float((a.grad.cpu() - b.grad).norm() / b.grad.norm())
        assert error < 1e-2, (name, error)


@pytest.mark.gpu
def test_gsplat_contributions_equal_ours() -> None:
    gaussians, cameras, _ = gpu_case(3, 0.05)
    there = contributions(gaussians.to("cuda"), cameras.to("cuda"))
    torch.testing.assert_close(there.cpu(), contributions(gaussians, cameras), atol=0.05, rtol=1e-2)


@pytest.mark.gpu
def test_gsplat_shows_the_background_of_empty_scenes() -> None:
    gaussians, cameras, background = gpu_case(3, 0.05)
    for scene in (cloud(0), Gaussians(gaussians.means + 50, *gaussians.tensors()[1:])):
        there = leaves(scene.to("cuda"), torch.float32)
        rendering = rasterize(there, cameras.to("cuda"), background=background.cuda())
        torch.testing.assert_close(rendering.color[:, 3, 4].cpu(), background)
        assert not rendering.alpha.any() and not rendering.depth.any()
        torch.autograd.backward(rendering.color.sum())
