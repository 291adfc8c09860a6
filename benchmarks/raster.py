"""How fast and how exact the CPU rasterizer is, against a bare loop and the plain torch formula.

Prints a table and, last, one JSON object. All figures are of one run on this machine: medians, and
ratios to what was measured beside them.
"""

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numba import get_num_threads, njit, prange

from avatarmill.avatar.anchors import load_anchors
from avatarmill.avatar.body import BodyParams, load_body
from avatarmill.avatar.camera import Cameras, orbit
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rasterize import rasterize
from avatarmill.avatar.rasterize_reference import rasterize_reference
from avatarmill.cli.console import say, table

NUM_GAUSSIANS, SIDE = 65_536, 512
SMALL_GAUSSIANS, SMALL_SIDE = 2_048, 128


def person(count: int, *, scale: float, seed: int = 0) -> Gaussians:
    """Gaussians spread over the free body, of mixed sizes and colours."""
    body = load_body()
    anchors = load_anchors(body, count=8192)
    with torch.no_grad():
        points = anchors.points(body(BodyParams.rest(1)).vertices)[0]
    generator = torch.Generator().manual_seed(seed)
    row = torch.randint(len(points), (count,), generator=generator)
    jitter = 0.006 * torch.randn(count, 3, generator=generator)
    return Gaussians(
        points[row] + jitter,
        torch.randn(count, 4, generator=generator),
        scale * torch.exp(0.4 * torch.randn(count, 3, generator=generator)),
        # Faint, so that hardly a pixel is full before its last Gaussian: all pairs are work.
        torch.rand(count, generator=generator) * 0.06 + 0.02,
        torch.rand(count, 3, generator=generator),
    )


def camera(side: int) -> Cameras:
    """One camera that sees the whole body."""
    return orbit(torch.tensor([0.3]), width=side, height=side, distance=2.6)


def count_pairs(gaussians: Gaussians, cameras: Cameras) -> float:
    """Pixels inside each Gaussian's ellipse of alpha 1/255, summed: a rasterizer's work."""
    points = cameras.transform(gaussians.means)[0]
    focal = cameras.intrinsics[0, 0, 0]
    sigma = gaussians.scales.mean(1) * focal / points[:, 2]
    reach = 2 * torch.log(255 * gaussians.opacities.clamp(min=1 / 255))
    return float((torch.pi * reach * (sigma**2 + 0.3)).sum())


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """Median wall time of `call` in milliseconds, after one call to warm up."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


@njit(cache=True, parallel=True, fastmath=True)  # type: ignore[misc]
def bare_loop(values: np.ndarray, rounds: int) -> np.ndarray:
    """One exp and 12 FMAs a step on data that stays in cache: the least a pair can cost."""
    sums = np.zeros(values.shape[0], np.float32)
    for worker in prange(values.shape[0]):
        total = np.float32(0)
        for _ in range(rounds):
            for i in range(values.shape[1]):
                x = np.exp(-values[worker, i])
                for k in range(12):
                    x = x * np.float32(0.999) + np.float32(0.001 * k)
                total += x
        sums[worker] = total
    return sums


def both_ways(gaussians: Gaussians, cameras: Cameras, render: Callable[..., object]) -> None:
    """Forward and backward of the sum of the colours."""
    leaves = Gaussians(*(tensor.clone().requires_grad_() for tensor in gaussians.tensors()))
    color = render(leaves, cameras)
    assert isinstance(color, torch.Tensor)
    color.sum().backward()


def ours(gaussians: Gaussians, cameras: Cameras) -> torch.Tensor:
    """Colours of the fast rasterizer."""
    return rasterize(gaussians, cameras).color


def reference(gaussians: Gaussians, cameras: Cameras) -> torch.Tensor:
    """Colours of the plain torch formula."""
    return rasterize_reference(gaussians, cameras, torch.zeros(1, 3).to(gaussians.means))[0]


def gradient_error(gaussians: Gaussians, cameras: Cameras) -> float:
    """Largest norm-relative gradient error against the reference in float64."""
    fast = Gaussians(*(t.clone().requires_grad_() for t in gaussians.tensors()))
    exact = Gaussians(*(t.double().requires_grad_() for t in gaussians.tensors()))
    weight = torch.rand(
        1, cameras.height, cameras.width, 3, generator=torch.Generator().manual_seed(1)
    )
    (ours(fast, cameras) * weight).sum().backward()
    (reference(exact, cameras.to(torch.float64)) * weight).sum().backward()
    errors = []
    for mine, truth in zip(fast.tensors(), exact.tensors(), strict=True):
        assert mine.grad is not None and truth.grad is not None
        errors.append(float((mine.grad - truth.grad).norm() / truth.grad.norm()))
    return max(errors)


def main() -> None:
    """Measures and prints."""
    torch.set_num_threads(2)
    big, wide = person(NUM_GAUSSIANS, scale=0.0061), camera(SIDE)
    small, tiny = person(SMALL_GAUSSIANS, scale=0.015), camera(SMALL_SIDE)
    pairs = count_pairs(big, wide)
    with torch.no_grad():
        forward = median_ms(lambda: ours(big, wide), 15)
    forward_backward = median_ms(lambda: both_ways(big, wide, ours), 9)
    values = np.random.default_rng(0).random((get_num_threads(), 2048), np.float32)
    rounds = 400
    bare = median_ms(lambda: bare_loop(values, rounds), 15)
    bare_ns = 1e6 * bare / (values.size * rounds)
    fast = median_ms(lambda: both_ways(small, tiny, ours), 15)
    slow = median_ms(lambda: both_ways(small, tiny, reference), 3)
    figures = {
        "gaussians": NUM_GAUSSIANS,
        "pairs": round(pairs),
        "forward_ms": round(forward, 1),
        "forward_backward_ms": round(forward_backward, 1),
        "limit_ratio": round(1e6 * forward / pairs / bare_ns, 2),
        "speedup_vs_torch": round(slow / fast, 1),
        "grad_rel_error": float(f"{gradient_error(small, tiny):.2e}"),
        "threads": get_num_threads(),
    }
    table(["figure", "value"], [[name, value] for name, value in figures.items()])
    say(json.dumps(figures))


if __name__ == "__main__":
    main()
