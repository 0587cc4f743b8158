"""How many runs would settle a comparison, and what a few could show."""

import math
from bisect import bisect_left
from typing import Callable, Dict, Optional, Sequence

from scipy import optimize, stats

from .resampling import Components, Groups

MAX_SEEDS = 1000
MIN_UNITS = 3
"""With two replicates a t-test rests on nothing but its assumption."""
POWER = 0.8
PLANNED_SEEDS = (3, 4, 5, 6, 8, 10, 15, 20)


def more_runs(
    unit: str, sides: Sequence[Groups], difference: float, spread: Components, alpha: float
) -> str:
    """About how many more runs would settle a comparison.

    From the two variance components: more train seeds against more eval
    seeds, for 80 % power if the true difference is the one that was found.

    Args:
        unit (str): ``train seed``, ``eval seed`` or ``none``.
        sides (Sequence[Groups]): Paired differences, or values of A and B.
        difference (float): That was found.
        spread (Components): Variances.
        alpha (float): Level of the test.
    """
    if unit == 'none':
        return (
            f'at least {MIN_UNITS} train seeds (for a claim on training) '
            f'or {MIN_UNITS} eval seeds (on these checkpoints) on each '
            'side'
        )
    if difference == 0:
        return 'no number would settle a difference of zero'
    trains = min(len(side) for side in sides)
    evals = min(len(g) for side in sides for g in side)
    inner = spread.evaluation or 0.0

    def freedom(count: int) -> int:
        return len(sides) * (count - 1)

    if unit == 'eval seed':
        needed = seeds_needed(difference, lambda n: inner / n, freedom, evals, alpha)
        return (
            _count(needed, evals, 'eval seed')
            + ' of these checkpoints; a claim on training needs more train '
            'seeds'
        )
    of_train = seeds_needed(
        difference, lambda n: (spread.train + inner / evals) / n, freedom, trains, alpha
    )
    text = f'{_count(of_train, trains, "train seed")} (x {evals} eval seeds)'
    if spread.evaluation is None:
        return text + '; the share of the eval seeds is unknown'
    of_eval = seeds_needed(
        difference,
        lambda n: (spread.train + inner / n) / trains,
        lambda n: freedom(trains),
        evals,
        alpha,
    )
    if of_eval is None or trains < MIN_UNITS:
        return text + '; more eval seeds alone would not settle it'
    return f'{text}, or {_count(of_eval, evals, "eval seed")} of each model'


def _count(needed: Optional[int], there: int, what: str) -> str:
    if needed is None:
        return f'more than 1000 {what}s'
    more = max(needed - there, 1)
    return f'about {more} more {what}{"s" if more > 1 else ""}'


def seeds_needed(
    difference: float,
    variance: Callable[[int], float],
    freedom: Callable[[int], float],
    start: int,
    alpha: float,
) -> Optional[int]:
    """The number of seeds with which a t-test would settle it.

    Args:
        difference (float): The true one, as far as is known.
        variance (Callable): Of the mean difference, from the number of
            seeds.
        freedom (Callable): Degrees of freedom, from the number of seeds.
        start (int): The number that there is; 3 at least is the answer.
        alpha (float): Level of the test.

    Returns:
        int | None: The smallest number with 80 % power; None if even 1000
        are too few.
    """

    def settles(count: int) -> bool:
        spread = math.sqrt(variance(count))
        if spread == 0:
            return difference != 0
        df = freedom(count)
        limit = stats.t.isf(alpha / 2, df)
        return stats.nct.sf(limit, df, abs(difference) / spread) >= POWER

    counts = range(max(start, MIN_UNITS), MAX_SEEDS + 1)
    # power grows with the number of seeds
    found = bisect_left(counts, True, key=settles)
    return counts[found] if found < len(counts) else None


def smallest_difference(variance: float, freedom: int, alpha: float = 0.05) -> float:
    """The true difference that a t-test would find with 80 % power.

    Args:
        variance (float): Of the mean difference.
        freedom (int): Degrees of freedom of that variance, at least 1.
        alpha (float): Level of the two-sided test.
    """
    limit = stats.t.isf(alpha / 2, freedom)

    def lacking(noncentrality: float) -> float:
        return stats.nct.sf(limit, freedom, noncentrality) - POWER

    return math.sqrt(variance) * optimize.brentq(lacking, 0, 3 * limit + 10)


def detectable(
    sides: Sequence[Groups], spread: Components, alpha: float, counts: Sequence[int] = PLANNED_SEEDS
) -> Dict[int, float]:
    """The smallest difference that numbers of train seeds could show.

    Args:
        sides (Sequence[Groups]): Paired differences, or values of A and B,
            whose eval seeds a model are those of the study to come.
        spread (Components): Variances of a difference, with that between
            train seeds.
        alpha (float): Level of the test.
        counts (Sequence[int]): Numbers of train seeds on each side.

    Returns:
        dict[int, float]: By number of train seeds.
    """
    evals = min(len(g) for side in sides for g in side)
    variance = spread.train + (spread.evaluation or 0.0) / evals
    return {
        count: smallest_difference(variance / count, len(sides) * (count - 1), alpha)
        for count in counts
    }
