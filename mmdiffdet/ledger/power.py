"""Power of the test that decides a comparison."""

import itertools
import math
from functools import cache
from typing import Callable

import numpy as np
from scipy import optimize, stats

ALPHA = 0.05
POWER = 0.8
MIN_UNITS = 3
"""With two replicates a t-test rests on nothing but its assumption."""
_DRAWS = 4000
_MOST_ARRANGEMENTS = 2**10
"""With more of them a permutation test has the power of the t-test."""


@cache
def needed_noncentrality(count: int, paired: bool) -> float:
    """True difference in units of its standard error that is found in 80 %.

    By the test that ``compare`` lets decide: the permutation test where it
    can reach 0.05, else the t-test (Welch's for two groups). Where there is
    no formula the power is that of 4000 simulated normal samples, the same
    ones each time.

    Args:
        count (int): Replicates on each side, 3 or more.
        paired (bool): Whether differences are tested, or two groups of the
            same variance.
    """
    arrangements = 2**count if paired else math.comb(2 * count, count)
    permutes = 2 / arrangements <= ALPHA
    freedom = count - 1 if paired else 2 * (count - 1)
    limit = stats.t.isf(ALPHA / 2, freedom)
    if arrangements > _MOST_ARRANGEMENTS or paired and not permutes:

        def lacking(value: float) -> float:
            return stats.nct.sf(limit, freedom, value) - POWER

        return optimize.brentq(lacking, 0, 3 * limit + 10)
    noise = np.random.default_rng(count).normal(size=(_DRAWS, count if paired else 2 * count))
    if permutes:
        # signs of the differences, or which of the results are in the first group
        ways = itertools.product([1, -1], repeat=count)
        if not paired:
            groups = itertools.combinations(range(2 * count), count)
            ways = ([i in group for i in range(2 * count)] for group in groups)
        found = _permutation(noise, np.array(list(ways), dtype=float), paired)
    else:
        found = _welch(noise)
    scale = math.sqrt(1 / count) if paired else math.sqrt(2 / count)
    return optimize.bisect(lambda value: found(value * scale) - POWER, 0, 40, xtol=1e-3)


def _permutation(noise: np.ndarray, ways: np.ndarray, paired: bool) -> Callable[[float], float]:
    """Power of a permutation test at a difference, for samples in rows; the
    first of the (ways, results) is the true one."""

    def power(difference: float) -> float:
        values = noise + difference * (ways[0] > 0)
        sums = values @ ways.T
        if not paired:  # Welch's t of two groups of the same size, but for a factor
            apart = 2 * sums - values.sum(1, keepdims=True)
            total = (values**2).sum(1, keepdims=True)
            other = values.sum(1, keepdims=True) - sums
            sums = apart / np.sqrt(total - 2 * (sums**2 + other**2) / values.shape[1])
        as_large = sums >= sums[:, :1] - 1e-9
        return float((2 * as_large.mean(1) <= ALPHA).mean())

    return power


def _welch(noise: np.ndarray) -> Callable[[float], float]:
    """Power of Welch's t-test of the two halves of each row."""
    count = noise.shape[1] // 2

    def power(difference: float) -> float:
        result = stats.ttest_ind(
            noise[:, :count] + difference, noise[:, count:], axis=1, equal_var=False
        )
        return float(((result.pvalue <= ALPHA) & (result.statistic > 0)).mean())

    return power
