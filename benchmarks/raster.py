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

import avatarmill.avatar.rasterize_numba_lanes as lanes
from avatarmill.avatar.anchors import load_anchors
from avatarmill.avatar.body import BodyParams, load_body
from avatarmill.avatar.camera import Cameras, orbit
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rasterize import rasterize
from avatarmill.avatar.rasterize_numba_project import project_forward
from avatarmill.avatar.rasterize_reference import rasterize_reference
from avatarmill.avatar.rasterize_rules import ALPHA_THRESHOLD
from avatarmill.cli.console import say, table

NUM_GAUSSIANS, SIDE = 65_536, 512
SCALE = 0.0067
"""Median standard deviation in metres: about 4 million Gaussian-pixel pairs."""
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


@njit(cache=True)  # type: ignore[untyped-decorator]
def _count(splats: np.ndarray, drawn: np.ndarray, side: int) -> int:
    pairs = 0
    for g in np.flatnonzero(drawn):
        x, y, xx, xy, yy, opacity, _, reach = splats[g]
        det = xx * yy - xy * xy
        rx, ry = np.sqrt(reach * yy / det), np.sqrt(reach * xx / det)
        for row in range(max(0, int(y - ry) - 1), min(side, int(y + ry) + 2)):
            for column in range(max(0, int(x - rx) - 1), min(side, int(x + rx) + 2)):
                dx, dy = x - column - 0.5, y - row - 0.5
                sigma = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
                pairs += opacity * np.exp(-sigma) >= ALPHA_THRESHOLD
    return pairs


def count_pairs(gaussians: Gaussians, cameras: Cameras) -> int:
    """Pixels at which a Gaussian's alpha is at least 1/255, summed: the work that must be done."""
    shapes = [tensor.numpy() for tensor in gaussians.tensors()[:4]]
    lens = cameras.intrinsics.numpy(), cameras.world_to_camera.numpy()
    splats, boxes = project_forward(*shapes, *lens, cameras.width, cameras.height, 1)
    return int(_count(splats[0], boxes[0, :, 2] > 0, cameras.width))


def medians_ms(repeats: int, *calls: Callable[[], object]) -> list[float]:
    """Median wall times of `calls` in milliseconds, taken in turns: all meet the same load."""
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, column in zip(calls, times, strict=True):
            started = time.perf_counter()
            call()
            column.append(1000 * (time.perf_counter() - started))
    return [statistics.median(column) for column in times]


@njit(cache=True, parallel=True, fastmath=True)  # type: ignore[untyped-decorator]
def bare_loop(values: np.ndarray, factors: np.ndarray, rounds: int) -> np.ndarray:
    """One exp and 12 FMAs a step on data that stays in cache, as the compiler likes it best.

    A polynomial in the value, so that fast math cannot fold the 12 into fewer.
    """
    sums = np.zeros(values.shape[0], np.float32)
    for worker in prange(values.shape[0]):
        total = np.float32(0)
        for _ in range(rounds):
            for i in range(values.shape[1]):
                value = values[worker, i]
                x = np.exp(-value)
                for k in range(12):
                    x = x * value + factors[k]
                total += x
        sums[worker] = total
    return sums


@njit(cache=True, parallel=True)  # type: ignore[untyped-decorator]
def bare_lanes(values: np.ndarray, factors: np.ndarray, rounds: int) -> np.ndarray:
    """The same by hand in eight lanes, exp included: what the vector unit could do at most."""
    sums = np.zeros(values.shape[0], np.float32)
    for worker in prange(values.shape[0]):
        row, summed = values[worker], lanes.splat(np.float32(0))
        for _ in range(rounds):
            for i in range(0, values.shape[1], lanes.LANES):
                value = lanes.load(row, i)
                x = lanes.exp(lanes.splat(np.float32(0)) - value)
                for k in range(12):
                    x = lanes.fma(x, value, lanes.spread(factors, k))
                summed = summed + x
        sums[worker] = lanes.total(summed)
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


def forward_only(gaussians: Gaussians, cameras: Cameras) -> torch.Tensor:
    """Colours without anything kept for a backward pass."""
    with torch.no_grad():
        return ours(gaussians, cameras)


def main() -> None:
    """Measures and prints."""
    torch.set_num_threads(2)
    big, wide = person(NUM_GAUSSIANS, scale=SCALE), camera(SIDE)
    small, tiny = person(SMALL_GAUSSIANS, scale=0.015), camera(SMALL_SIDE)
    pairs = count_pairs(big, wide)
    values = np.random.default_rng(0).random((get_num_threads(), 2048), np.float32)
    factors, rounds = np.linspace(0.1, 1.0, 12, dtype=np.float32), 400
    forward, bare, unit = medians_ms(
        25,
        lambda: forward_only(big, wide),
        lambda: bare_loop(values, factors, rounds),
        lambda: bare_lanes(values, factors, rounds),
    )
    (forward_backward,) = medians_ms(9, lambda: both_ways(big, wide, ours))
    (fast,) = medians_ms(15, lambda: both_ways(small, tiny, ours))
    (slow,) = medians_ms(3, lambda: both_ways(small, tiny, reference))
    steps = values.size * rounds
    figures = {
        "gaussians": NUM_GAUSSIANS,
        "pairs": pairs,
        "forward_ms": round(forward, 1),
        "forward_backward_ms": round(forward_backward, 1),
        "limit_ratio": round(forward / pairs / (bare / steps), 2),
        "limit_ratio_lanes": round(forward / pairs / (unit / steps), 2),
        "speedup_vs_torch": round(slow / fast, 1),
        "grad_rel_error": float(f"{gradient_error(small, tiny):.2e}"),
        "threads": get_num_threads(),
    }
    table(["figure", "value"], [[name, value] for name, value in figures.items()])
    say(json.dumps(figures))


if __name__ == "__main__":
    main()
