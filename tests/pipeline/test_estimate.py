"""Estimates from samples: exact where nothing varies, and intervals that hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.pipeline.estimate import LEVEL, Estimate, divide, draw, share, total


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
    assert found.high - found.low < 1e-6 * found.value
    assert share(strata, rows, [True] * 24) == Estimate(1.0, 1.0, 1.0)


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
    assert inside["cost"] >= 60 * (LEVEL - 0.15), inside
    assert inside["kept"] >= 60 * (LEVEL - 0.15), inside
