"""Power of the test that decides a comparison, and how many seeds it needs."""

import itertools
import math
from bisect import bisect_left
from functools import cache
from typing import Callable, Dict, Optional, Sequence

import numpy as np
from scipy import optimize, stats

from .resampling import Groups, components

ALPHA = 0.05
POWER = 0.8
MIN_UNITS = 3
"""Replicates that a verdict needs: a t-test of two rests on nothing but its assumption."""
MAX_SEEDS = 1000
PLANNED_SEEDS = (3, 4, 5, 6, 8, 10, 15, 20)
_DRAWS = 4000
_MOST_ARRANGEMENTS = 2**10
"""With more of them a permutation test has the power of the t-test."""


@cache
def needed_noncentrality(count: int, paired: bool) -> float:
    """Return the difference, in standard errors, that is found in 80 % of studies.

    The test is the one that ``compare`` lets decide: the permutation test where it
    can reach 0.05, else the t-test (Welch's for two groups). Where there is no
    formula, the power is that of 4000 simulated normal samples, which are the same
    ones each time.

    Args:
        count (int): The number of replicates on each side, 3 or more.
        paired (bool): Whether differences are tested, or two groups of the same
            variance.
    """
    arrangements = 2**count if paired else math.comb(2 * count, count)
    permutes = 2 / arrangements <= ALPHA
    freedom = count - 1 if paired else 2 * (count - 1)
    if arrangements > _MOST_ARRANGEMENTS or paired and not permutes:
        limit = stats.t.isf(ALPHA / 2, freedom)
        return optimize.brentq(
            lambda value: stats.nct.sf(limit, freedom, value) - POWER, 0, 3 * limit + 10
        )
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
    scale = math.sqrt((1 if paired else 2) / count)
    return optimize.bisect(lambda value: found(value * scale) - POWER, 0, 40, xtol=1e-3)


def _permutation(noise: np.ndarray, ways: np.ndarray, paired: bool) -> Callable[[float], float]:
    """Power of a permutation test at a difference, for samples in rows. The first
    of the (ways, results) is the true one."""

    def power(difference: float) -> float:
        values = noise + difference * (ways[0] > 0)
        sums = values @ ways.T
        if not paired:  # Welch's t of two groups of the same size, but for a factor
            total = values.sum(1, keepdims=True)
            inner = (values**2).sum(1, keepdims=True)
            inner = inner - 2 * (sums**2 + (total - sums) ** 2) / values.shape[1]
            sums = (2 * sums - total) / np.sqrt(inner)
        as_large = sums >= sums[:, :1] - 1e-9
        return float((2 * as_large.mean(1) <= ALPHA).mean())

    return power


def _welch(noise: np.ndarray) -> Callable[[float], float]:
    """Power of Welch's t-test of the two halves of each row at a difference."""
    first, second = np.split(noise, 2, axis=1)

    def power(difference: float) -> float:
        result = stats.ttest_ind(first + difference, second, axis=1, equal_var=False)
        return float(((result.pvalue <= ALPHA) & (result.statistic > 0)).mean())

    return power


def more_runs(unit: str, sides: Sequence[Groups], difference: float) -> str:
    """Say about how many more runs would settle a comparison.

    From the two variance components, more train seeds and more eval seeds are set
    against each other, for 80 % power if the true difference is the one that was
    found.

    Args:
        unit (str): ``Sides.unit`` of the comparison.
        sides (Sequence[Groups]): ``Sides.groups``.
        difference (float): Mean of B less that of A.
    """
    if unit == 'none':
        return (
            f'at least {MIN_UNITS} train seeds (for a claim on training) '
            f'or {MIN_UNITS} eval seeds (on these checkpoints) on each side'
        )
    if difference == 0:
        return 'no number would settle a difference of zero'
    trains = min(len(side) for side in sides)
    evals = min(len(g) for side in sides for g in side)
    paired = len(sides) == 1
    parts = [components(side).evaluation for side in sides]
    inner = None if None in parts else sum(parts)
    if unit == 'eval seed':
        needed = _seeds_needed(difference, lambda n: inner / n, paired, evals)
        return (
            f'{_count(needed, evals, unit)} of these checkpoints; a claim on training needs more '
            'train seeds'
        )
    of_train = _seeds_needed(
        difference, lambda n: variance_of_difference(sides, evals) / n, paired, trains
    )
    text = f'{_count(of_train, trains, unit)} (x {evals} eval seeds)'
    if inner is None:
        return text + '; the share of the eval seeds is unknown'
    of_eval = None
    if trains >= MIN_UNITS:
        of_eval = _seeds_needed(
            difference, lambda n: variance_of_difference(sides, n) / trains, paired, evals, trains
        )
    if of_eval is None:
        return text + '; more eval seeds alone would not settle it'
    return f'{text}, or {_count(of_eval, evals, "eval seed")} of each model'


def _count(needed: Optional[int], there: int, what: str) -> str:
    if needed is None:
        return f'more than {MAX_SEEDS} {what}s'
    more = max(needed - there, 1)
    return f'about {more} more {what}{"s" if more > 1 else ""}'


def variance_of_difference(sides: Sequence[Groups], evals: int) -> float:
    """Return the variance between train seeds of a difference of models' means.

    Args:
        sides (Sequence[Groups]): Paired differences, or the values of A and B, of
            two train seeds at least.
        evals (int): Eval seeds of each model. A side with one eval seed cannot
            tell their share, which then counts as that of training.
    """
    parts = [components(side) for side in sides]
    return sum(c.train + (c.evaluation or 0.0) / evals for c in parts)


def _seeds_needed(
    difference: float,
    variance: Callable[[int], float],
    paired: bool,
    start: int,
    units: Optional[int] = None,
) -> Optional[int]:
    """The smallest number of seeds, from ``start``, with 80 % power; None if even
    1000 are too few. ``variance`` is that of the mean difference, by the number of
    seeds; ``units`` are the replicates of the test, if these seeds are none."""

    def settles(count: int) -> bool:
        spread = math.sqrt(variance(count))
        needed = needed_noncentrality(units or count, paired)
        return abs(difference) >= needed * spread if spread else difference != 0

    first = max(start, MIN_UNITS)
    # where another test begins to decide power may fall; later it only grows
    for count in range(first, min(first + 8, MAX_SEEDS + 1)):
        if settles(count):
            return count
    counts = range(first + 8, MAX_SEEDS + 1)
    found = bisect_left(counts, True, key=settles)
    return counts[found] if found < len(counts) else None


def detectable(sides: Sequence[Groups], evals: int) -> Dict[int, float]:
    """Return the smallest difference, by number of train seeds, that the test that
    decides finds four times in five, with so many eval seeds of each model."""
    variance = variance_of_difference(sides, evals)
    return {
        count: needed_noncentrality(count, len(sides) == 1) * math.sqrt(variance / count)
        for count in PLANNED_SEEDS
    }
