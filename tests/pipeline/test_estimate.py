"""Estimates from samples: exact where nothing varies, and intervals that hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.pipeline.estimate import divide, draw, share, total
from avatarmill.pipeline.foreseen import LEVEL, Estimate


@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=200),
    st.integers(1, 60),
)
def test_a_sample_is_drawn_once_from_every_stratum(sizes: list[int], count: int) -> None:
    weights = np.array(sizes, np.float64)
    strata = divide(weights, count)
    rows = draw(strata, count, seed=1)
    assert len(rows) == min(count, len(sizes)) == len(set(rows.tolist()))
    assert set(strata.of[rows].tolist()) == set(range(len(strata.counts)))
    assert strata.counts.sum() == len(sizes)
    assert strata.sizes.sum() == pytest.approx(weights.sum())


def test_what_grows_with_bytes_is_exact() -> None:
    sizes = np.random.default_rng(0).lognormal(3, 1.5, 500)
    strata = divide(sizes, 24)
    rows = draw(strata, 24, seed=0)
    found = total(strata, rows, sizes, [0.5 * sizes[row] for row in rows])
    assert found.value == pytest.approx(0.5 * sizes.sum())
    whole = draw(strata, 500, seed=0)
    found = total(strata, whole, sizes, [0.5 * sizes[row] for row in whole])
    assert found.high - found.low < 1e-6 * found.value, "nothing is left to be different"
    assert share(strata, whole, [True] * 500) == Estimate(1.0, 1.0, 1.0)


@pytest.mark.parametrize(("count", "width"), [(2, 0.78), (8, 0.31), (60, 0.05)])
def test_a_sample_that_agrees_is_no_proof(count: int, width: float) -> None:
    """The rule of three: 1 - 0.05^(1/n) of the sources may be unlike all that were seen."""
    sizes = np.ones(100_000)
    strata = divide(sizes, count)
    rows = draw(strata, count, seed=0)
    found = total(strata, rows, sizes, [3.0] * count)
    assert found.value == pytest.approx(300_000)
    assert (found.low, found.high) == pytest.approx(
        (300_000 * (1 - width), 300_000 * (1 + width)), rel=0.02
    )
    assert share(strata, rows, [True] * count).low == pytest.approx(1 - width, abs=0.01)
    assert share(strata, rows, [False] * count).high == pytest.approx(width, abs=0.01)
    assert share(strata, rows, [True] * count).high == 1


def test_one_source_says_next_to_nothing() -> None:
    sizes = np.ones(1000)
    strata = divide(sizes, 1)
    found = total(strata, draw(strata, 1, seed=0), sizes, [3.0])
    assert found.low < 0.1 * found.value and found.high > 1.9 * found.value


def test_unknown_sizes_are_one_stratum() -> None:
    strata = divide(np.zeros(50), 10)
    rows = draw(strata, 10, seed=0)
    assert total(strata, rows, np.zeros(50), [2.0] * 10).value == pytest.approx(100)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Noisy costs of a heavy-tailed list, 60 samples of 48 sources."""
    rng = np.random.default_rng(5)
    sizes = rng.lognormal(2, 1.2, 400)
    costs = sizes * rng.lognormal(0, 0.5, 400)
    kept = rng.random(400) < 0.7
    strata = divide(sizes, 48)
    inside = {"cost": 0, "kept": 0}
    for seed in range(60):
        rows = draw(strata, 48, seed)
        inside["cost"] += costs.sum() in total(strata, rows, sizes, costs[rows].tolist())
        inside["kept"] += float(kept.mean()) in share(strata, rows, kept[rows].tolist())
    assert inside["cost"] >= 60 * (LEVEL - 0.1), inside
    assert inside["kept"] >= 60 * (LEVEL - 0.1), inside


@pytest.mark.parametrize("count", [4, 12])
def test_small_samples_hold_it_too(count: int) -> None:
    rng = np.random.default_rng(6)
    sizes = rng.lognormal(2, 1.0, 400)
    costs = sizes * rng.lognormal(0, 0.4, 400)
    strata = divide(sizes, count)
    samples = [draw(strata, count, seed) for seed in range(60)]
    held = [costs.sum() in total(strata, rows, sizes, costs[rows].tolist()) for rows in samples]
    assert sum(held) >= 30 * (LEVEL - 0.15)
