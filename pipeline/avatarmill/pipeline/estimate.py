"""What a whole list will take, from a stratified sample of it, with intervals.

Sources are divided by size into strata of about equal bytes, so that the few long films that make
up half the cost are not left to luck. Within a stratum cost grows with bytes (a ratio estimate);
the share of kept sources is a plain mean. Sources of unknown size form one stratum.

An interval is the spread of the figure when the sample is drawn from itself again (a bootstrap),
widened for the smallness of the sample as Student's t is. It is never narrower than the rule of
three allows: of n sources that agree, a share 1 - 0.05^(1/n) of the others may still be different.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from avatarmill.pipeline.foreseen import LEVEL, Estimate

MOST_STRATA = 6
PER_STRATUM = 4
"""Sources drawn from a stratum, at least, where there are so many."""
RESAMPLES = 1000

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Strata:
    """A division of sources by size."""

    of: NDArray[np.int64]
    """[n] stratum of each source."""
    counts: Array
    """[S] sources of each stratum."""
    sizes: Array
    """[S] bytes of each stratum; its count where sizes are unknown."""


def divide(sizes: Array, sample: int) -> Strata:
    """Strata of sources with `sizes` [n] in bytes, as many as a sample of `sample` can fill."""
    weights = np.asarray(sizes, np.float64)
    weights = weights if weights.sum() > 0 else np.ones(len(weights))
    strata = max(1, min(MOST_STRATA, sample // PER_STRATUM, len(weights)))
    order = np.argsort(weights, kind="stable")
    reached = np.cumsum(weights[order]) - weights[order] / 2
    of = np.empty(len(weights), np.int64)
    of[order] = np.minimum((strata * reached / weights.sum()).astype(np.int64), strata - 1)
    # A stratum of one huge film can leave others empty: number those that are there.
    of = np.unique(of, return_inverse=True)[1].astype(np.int64)
    counts, totals = np.bincount(of), np.bincount(of, weights=weights)
    return Strata(of, counts.astype(np.float64), totals.astype(np.float64))


def draw(strata: Strata, sample: int, seed: int) -> NDArray[np.int64]:
    """Rows of a sample without replacement, about equally many of each stratum, rising."""
    rng = np.random.default_rng(seed)
    left, rows = min(sample, len(strata.of)), []
    # The smallest stratum first: what it cannot give, the others do.
    for done, stratum in enumerate(np.argsort(strata.counts, kind="stable")):
        take = min(int(strata.counts[stratum]), -(-left // (len(strata.counts) - done)))
        rows.append(rng.choice(np.flatnonzero(strata.of == stratum), take, replace=False))
        left -= take
    return np.sort(np.concatenate(rows))


def total(
    strata: Strata, rows: NDArray[np.int64], sizes: Array, values: Sequence[float]
) -> Estimate:
    """The sum of a quantity over all sources, from its `values` on the sampled `rows`."""
    weights = np.asarray(sizes, np.float64)[rows]
    weights = weights if np.asarray(sizes).sum() > 0 else np.ones(len(rows))
    amounts = np.asarray(values, np.float64)

    def of_samples(chosen: NDArray[np.int64]) -> Array:
        sums = _by_stratum(strata, rows[chosen], amounts[chosen])
        over = _by_stratum(strata, rows[chosen], weights[chosen])
        totals: Array = (strata.sizes * sums / over.clip(1e-12)).sum(-1)
        return totals

    found = _bootstrap(strata.of[rows], of_samples)
    # Sources unlike all that were seen: they may take nothing, or twice as much.
    unseen = found.value * _unseen(strata, rows)
    return _at_least(found, found.value - unseen, found.value + unseen)


def share(strata: Strata, rows: NDArray[np.int64], values: Sequence[bool]) -> Estimate:
    """The share of all sources for which something is true, from the sampled `rows`."""
    truth = np.asarray(values, np.float64)

    def of_samples(chosen: NDArray[np.int64]) -> Array:
        sums = _by_stratum(strata, rows[chosen], truth[chosen])
        over = _by_stratum(strata, rows[chosen], np.ones(chosen.shape))
        shares: Array = (strata.counts * sums / over.clip(1)).sum(-1) / strata.counts.sum()
        return shares

    found = _bootstrap(strata.of[rows], of_samples)
    unseen = _unseen(strata, rows)
    low, high = found.value * (1 - unseen), found.value + (1 - found.value) * unseen
    wide = _at_least(found, low, high)
    return Estimate(wide.value, max(wide.low, 0.0), min(wide.high, 1.0))


def _unseen(strata: Strata, rows: NDArray[np.int64]) -> float:
    """The share of the list that may be unlike every source of the sample, at the level's edge."""
    left = 1 - len(rows) / len(strata.of)
    return left * float(1 - ((1 - LEVEL) / 2) ** (1 / len(rows)))


def _at_least(found: Estimate, low: float, high: float) -> Estimate:
    return Estimate(found.value, min(found.low, low), max(found.high, high))


def _by_stratum(strata: Strata, rows: NDArray[np.int64], values: Array) -> Array:
    """[R, S] sums over each of R samples, of their `rows` and `values` [R, n]."""
    samples, length = len(rows), len(strata.counts)
    place = strata.of[rows] + length * np.arange(samples)[:, None]
    sums = np.bincount(place.ravel(), weights=values.ravel(), minlength=samples * length)
    return sums.astype(np.float64).reshape(samples, length)


def _bootstrap(of: NDArray[np.int64], statistic: Callable[[NDArray[np.int64]], Array]) -> Estimate:
    """The statistic of the sample, and its spread when the sample is drawn from itself again.

    `statistic` takes places [R, n] in the sample and returns R figures. The spread of n values of
    S strata drawn from themselves is too small by the root of (n - S) / n, and its quantiles are
    those of the normal distribution where t's are due.
    """
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(of == stratum) for stratum in np.unique(of)]
    value = float(statistic(np.arange(len(of))[None])[0])
    again = [rng.choice(own, (RESAMPLES, len(own))) for own in members]
    drawn = statistic(np.concatenate(again, axis=1))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    free = max(len(of) - len(members), 1)
    wider = float((len(of) / free) ** 0.5 * stdtrit(free, (1 + LEVEL) / 2) / ndtri((1 + LEVEL) / 2))
    # Costs are not below nothing, however small the sample.
    return Estimate(value, max(0.0, value + wider * (low - value)), value + wider * (high - value))
