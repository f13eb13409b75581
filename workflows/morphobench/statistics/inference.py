"""Intervals and tests for few seeds: bootstrap intervals, the sign-flip test, Holm's adjustment."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = [
    "Interval",
    "bootstrap_interval",
    "holm",
    "proportion_difference",
    "proportion_interval",
    "seeds_needed",
    "sign_flip_p",
]

RESAMPLES = 9999
SMALLEST_SAMPLE = 3  # a bootstrap of two values can only return these two values
EXACT_SEEDS = 14  # up to here all 2^n sign patterns are enumerated


class Interval(NamedTuple):
    """Both ends of an interval, or none (NaN) and the reason for it."""

    low: float
    high: float
    reason: str


def bootstrap_interval(values: Sequence[float] | np.ndarray, level: float = 0.95, name: str = "") -> Interval:
    """Bootstrap interval of the mean, bias-corrected and accelerated (BCa; Efron, JASA 1987).

    Parameters
    ----------
    values : array
        (n,) one value a seed.
    level : float
        Nominal coverage. With few seeds the true coverage is lower.
    name : str
        Seeds the resampling, so that the interval of one cell does not depend on the other cells.

    Examples
    --------
    >>> bootstrap_interval([0.9]).reason
    'one seed'
    >>> bootstrap_interval([0.9, 0.9, 0.9]).reason
    'all seeds equal'
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) < SMALLEST_SAMPLE:
        return Interval(math.nan, math.nan, ("no seed", "one seed", "two seeds")[len(sample)])
    if not np.isfinite(sample).all():
        return Interval(math.nan, math.nan, "values are not finite")
    # np.ptp of equal values is 0; rounding of an average may leave a few units in the last place
    if np.ptp(sample) <= 1e-12 * max(1.0, float(np.abs(sample).max())):
        return Interval(math.nan, math.nan, "all seeds equal")
    with warnings.catch_warnings():  # the reason below says what the warning says
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (sample,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(zlib.crc32(name.encode())),
        )
    low, high = (float(end) for end in result.confidence_interval)
    if not (math.isfinite(low) and math.isfinite(high)):
        return Interval(math.nan, math.nan, "bootstrap distribution is degenerate")
    return Interval(low, high, "")


def proportion_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion (Wilson, JASA 1927).

    Examples
    --------
    >>> [round(end, 4) for end in proportion_interval(10, 10)]
    [0.7225, 1.0]
    """
    found = stats.binomtest(successes, trials).proportion_ci(confidence_level=level, method="wilson")
    return float(found.low), float(found.high)


def proportion_difference(
    first: tuple[int, int], second: tuple[int, int], level: float = 0.95
) -> tuple[float, float, float]:
    """Difference of two proportions, each (successes, trials), and its interval (Newcombe, Statistics in Medicine 1998, method 10).

    Examples
    --------
    >>> [round(value, 4) for value in proportion_difference((56, 70), (48, 80))]
    [0.2, 0.0524, 0.3339]
    """
    shares = [successes / trials for successes, trials in (first, second)]
    (low1, high1), (low2, high2) = (proportion_interval(*counts, level) for counts in (first, second))
    difference = shares[0] - shares[1]
    return (
        difference,
        difference - math.hypot(shares[0] - low1, high2 - shares[1]),
        difference + math.hypot(high1 - shares[0], shares[1] - low2),
    )


def seeds_needed(comparisons: int, alpha: float = 0.05) -> int:
    """Smallest number of seeds whose sign-flip test can reach ``alpha`` after Holm over ``comparisons``.

    Two of the 2^n sign patterns are the most extreme ones, so the smallest two-sided p-value is 2^(1 - n).

    Examples
    --------
    >>> seeds_needed(1), seeds_needed(2), seeds_needed(7)
    (6, 7, 9)
    """
    seeds = 1
    while 2.0 ** (1 - seeds) * comparisons > alpha:
        seeds += 1
    return seeds


def sign_flip_p(differences: Sequence[float] | np.ndarray, name: str = "") -> float:
    """Two-sided p-value of the sign-flip permutation test of mean zero.

    All 2^n patterns up to 14 differences; beyond, 9999 random ones and the observed one, drawn from a stream of ``name``.

    Examples
    --------
    >>> sign_flip_p([1.0, 2.0, 3.0])
    0.25
    """
    sample = np.asarray(differences, dtype=float)
    if len(sample) < 2:  # which SciPy refuses: both signs of one difference are as far from 0
        return 1.0
    observed = abs(sample.sum())
    least = observed - 1e-12 * max(1.0, observed)

    def reached(flipped: np.ndarray, axis: int) -> np.ndarray:
        """Whether sums lie as far from 0 as the observed one, but for rounding: equal sums are summed in other orders."""
        return (np.abs(flipped.sum(axis=axis)) >= least).astype(float)

    found = stats.permutation_test(
        (sample,),
        reached,
        permutation_type="samples",
        alternative="greater",
        n_resamples=math.inf if len(sample) <= EXACT_SEEDS else RESAMPLES,
        rng=np.random.default_rng(zlib.crc32(name.encode())),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment (Scand. J. Statist. 1979); NaN counts as 1 in the family and stays NaN.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=float)
    p = np.where(np.isnan(given), 1.0, given)
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return np.where(np.isnan(given), np.nan, adjusted)
