"""Intervals, tests and variances of results with two levels of seeds.

A train seed is the independent replicate; its eval seeds repeat the sampling of one
trained model. ``Groups`` is a list with an array for each train seed, which holds a
value for each eval seed.
"""

import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from scipy import stats

Groups = Sequence[np.ndarray]
_CHUNK = 500


class Test(NamedTuple):
    """A two-sided test of no difference, with its p-value and the smallest p-value
    that it can have with this number of replicates."""

    name: str
    p: float
    smallest: float


class Components(NamedTuple):
    """Sample variances between train seeds (None if there is one) and between the
    eval seeds of one training (None if each has one)."""

    train: Optional[float]
    evaluation: Optional[float]


def bootstrap_means(
    groups: Groups,
    resamples: int,
    rng: np.random.Generator,
    inner_rng: Optional[np.random.Generator] = None,
) -> np.ndarray:
    """Resample the mean of the train seeds' means by a hierarchical bootstrap.

    Train seeds are drawn with replacement and then, within each drawn one, its eval
    seeds (Davison & Hinkley 1997, section 3.8; Saravanan et al. 2020, 'Application
    of the hierarchical bootstrap to multi-level data in neuroscience'). With T train
    seeds the spread is too small by about sqrt((T - 1) / T), as of every bootstrap.

    Args:
        groups (Groups): The values.
        resamples (int): The number of means.
        rng (Generator): Draws the train seeds.
        inner_rng (Generator, optional): Draws the eval seeds; ``rng`` by default.

    Returns:
        ndarray: Means of shape (resamples,).
    """
    inner_rng = inner_rng or rng
    sizes = np.array([len(g) for g in groups])
    padded = np.zeros((len(groups), sizes.max()))
    for row, values in zip(padded, groups):
        row[: len(values)] = values
    means = []
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        drawn = rng.integers(len(groups), size=(count, len(groups)))
        size = sizes[drawn][..., None]
        inner = inner_rng.random((*drawn.shape, sizes.max()))
        values = padded[drawn[..., None], (inner * size).astype(int)]
        used = np.arange(sizes.max()) < size
        means.append(((values * used).sum(-1) / size[..., 0]).mean(-1))
    return np.concatenate(means)


def paired_tests(differences: np.ndarray) -> List[Test]:
    """Make a sign-flip permutation test and a t-test of paired differences.

    The permutation test needs no distribution, but n differences give p >= 2 / 2**n:
    it cannot reach 0.05 with fewer than six.

    Args:
        differences (ndarray): A value for each replicate, two or more.
    """
    if not np.any(differences):
        return [Test('all differences are zero', 1.0, 1.0)]
    count = len(differences)
    permutation = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type='samples',
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    tests = [Test('sign-flip permutation', float(permutation.pvalue), 2.0 ** (1 - count))]
    if _vary(differences):
        p = stats.ttest_1samp(differences, 0).pvalue
        tests.append(Test('paired t', float(p), 0.0))
    return tests


def unpaired_tests(a: np.ndarray, b: np.ndarray) -> List[Test]:
    """Make a permutation test and Welch's t-test of two independent groups.

    The statistic of the permutation test is the absolute value of Welch's t, not
    the difference of the means, so that with many replicates it has the right
    level though the two variances differ (Janssen 1997, 'Studentized permutation
    tests for non-iid hypotheses'). With few it is liberal where the smaller group
    varies more: 11 % instead of 5 % for 4 replicates against 8 with a fifth of the
    deviation; the difference of the means would be wrong in 21 %.

    Args:
        a, b (ndarray): A value for each replicate, two or more in each group.
    """
    if np.ptp(np.concatenate([a, b])) == 0:
        return [Test('all results are equal', 1.0, 1.0)]

    def statistic(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        difference = y.mean(axis) - x.mean(axis)
        error = x.var(axis, ddof=1) / x.shape[axis] + y.var(axis, ddof=1) / y.shape[axis]
        # |t| / sqrt(1 + t**2), which has the order of |t| and is finite without variance
        return abs(difference) / np.sqrt(difference**2 + error)

    permutation = stats.permutation_test(
        (a, b),
        statistic,
        vectorized=True,
        alternative='greater',
        rng=np.random.default_rng(0),
    )
    # groups of the same size can be exchanged, which changes no |t|
    smallest = (1 + (len(a) == len(b))) / math.comb(len(a) + len(b), len(a))
    tests = [Test("permutation of Welch's t", float(permutation.pvalue), smallest)]
    if _vary(a) or _vary(b):
        p = stats.ttest_ind(a, b, equal_var=False).pvalue
        tests.append(Test("Welch's t", float(p), 0.0))
    return tests


def _vary(values: np.ndarray) -> bool:
    """Whether values differ by more than the rounding of results in percent,
    of which a t-test would make a p-value near 0."""
    return np.ptp(values) > 1e-9


def components(groups: Groups) -> Components:
    """Estimate the variances between and within train seeds by moments."""
    inner = [np.var(g, ddof=1) for g in groups if len(g) > 1]
    evaluation = float(np.mean(inner)) if inner else None
    if len(groups) < 2:
        return Components(None, evaluation)
    means = [np.mean(g) for g in groups]
    of_sampling = (evaluation or 0.0) * np.mean([1 / len(g) for g in groups])
    return Components(float(max(0.0, np.var(means, ddof=1) - of_sampling)), evaluation)


def interval(means: np.ndarray, confidence: float) -> Tuple[float, float]:
    """Return the percentile interval of resampled means at a confidence such as 0.95."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
