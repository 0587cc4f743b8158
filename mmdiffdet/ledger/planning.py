"""How many more runs would settle a comparison, and what a few could show."""

import math
from bisect import bisect_left
from typing import Callable, Dict, Optional, Sequence

from .power import MIN_UNITS, needed_noncentrality
from .resampling import Groups, components

MAX_SEEDS = 1000
PLANNED_SEEDS = (3, 4, 5, 6, 8, 10, 15, 20)


def more_runs(unit: str, sides: Sequence[Groups], difference: float) -> str:
    """About how many more runs would settle a comparison.

    From the two variance components: more train seeds against more eval
    seeds, for 80 % power if the true difference is the one that was found. The
    arguments are those of :class:`~mmdiffdet.ledger.pairing.Sides`.
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
        needed = seeds_needed(difference, lambda n: inner / n, paired, evals)
        return (
            f'{_count(needed, evals, unit)} of these checkpoints; a claim on training needs more '
            'train seeds'
        )
    of_train = seeds_needed(
        difference, lambda n: variance_of_difference(sides, evals) / n, paired, trains
    )
    text = f'{_count(of_train, trains, unit)} (x {evals} eval seeds)'
    if inner is None:
        return text + '; the share of the eval seeds is unknown'
    of_eval = seeds_needed(
        difference, lambda n: variance_of_difference(sides, n) / trains, paired, evals, trains
    )
    if of_eval is None or trains < MIN_UNITS:
        return text + '; more eval seeds alone would not settle it'
    return f'{text}, or {_count(of_eval, evals, "eval seed")} of each model'


def _count(needed: Optional[int], there: int, what: str) -> str:
    if needed is None:
        return f'more than {MAX_SEEDS} {what}s'
    more = max(needed - there, 1)
    return f'about {more} more {what}{"s" if more > 1 else ""}'


def variance_of_difference(sides: Sequence[Groups], evals: int) -> float:
    """Variance between train seeds of a difference of models' means.

    Args:
        sides (Sequence[Groups]): Paired differences, or values of A and B;
            two train seeds at least.
        evals (int): Eval seeds of each model. A side with one eval seed
            cannot tell their share, which then counts as that of training.
    """
    parts = [components(side) for side in sides]
    return sum(c.train + (c.evaluation or 0.0) / evals for c in parts)


def seeds_needed(
    difference: float,
    variance: Callable[[int], float],
    paired: bool,
    start: int,
    units: Optional[int] = None,
) -> Optional[int]:
    """The number of seeds with which the test that decides would settle it.

    Args:
        difference (float): The true one, as far as is known.
        variance (Callable): Variance of the mean difference, from the number
            of seeds.
        paired (bool): Whether differences are tested, or two groups.
        start (int): The number that there is; 3 at least is the answer.
        units (int, optional): Replicates of the test, if the seeds in
            question are not; 3 at least.

    Returns:
        int | None: The smallest number with 80 % power; None if even 1000
        are too few.
    """
    if units is not None and units < MIN_UNITS:
        return None

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
    """The smallest difference, by number of train seeds, that the test that
    decides finds four times in five, with so many eval seeds of each model."""
    variance = variance_of_difference(sides, evals)
    return {
        count: needed_noncentrality(count, len(sides) == 1) * math.sqrt(variance / count)
        for count in PLANNED_SEEDS
    }
