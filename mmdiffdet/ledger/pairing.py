"""What of two experiments is compared with what."""

from typing import Dict, List, Optional, Tuple

import numpy as np

from .experiments import Experiment
from .resampling import Components, components

Values = Dict[Tuple[Optional[int], int], float]


def sides_of(
    a: Experiment, b: Experiment, metric: str, notes: List[str]
) -> Tuple[List[List[np.ndarray]], str]:
    """Paired differences B - A, or the values of A and of B.

    Args:
        a (Experiment): The one to compare with.
        b (Experiment): The one in question.
        metric (str): Which to compare.
        notes (List[str]): What limits the answer is added to it.

    Returns:
        tuple: One side (differences) or two, each with an array a train seed;
        and what was paired.
    """
    values_a, values_b = values_of(a, metric), values_of(b, metric)
    if a.protocol.samples != b.protocol.samples:
        # one result, which stands beside each draw of the other
        if b.protocol.samples:
            values_a = for_each_eval_seed(values_a, values_b)
        else:
            values_b = for_each_eval_seed(values_b, values_a)
        notes.append(
            f'{"B" if a.protocol.samples else "A"} does not sample: '
            'its result is compared with each eval seed of the other'
        )
    paired, pairing = pair(values_a, values_b)
    if paired is not None:
        return [paired], pairing
    return [groups_of(values_a), groups_of(values_b)], pairing


def values_of(experiment: Experiment, metric: str) -> Values:
    """The metric by (train seed, eval seed).

    Raises:
        ValueError: If no run has it.
    """
    values = {
        (r.train_seed, r.eval_seed): r.metrics[metric]
        for r in experiment.runs
        if r.metrics[metric] is not None
    }
    if not values:
        raise ValueError(f'{experiment.label} has no {metric}')
    return values


def for_each_eval_seed(single: Values, other: Values) -> Values:
    """A training's only result, once for each eval seed of the other side."""
    train = {seed for seed, _ in other}
    alone = len(train) == len({seed for seed, _ in single}) == 1
    return {
        (seed, eval_seed): value
        for (seed, own), value in single.items()
        for eval_seed in [e for s, e in other if s == seed or alone] or [own]
    }


def groups_of(values: Values) -> List[np.ndarray]:
    """An array a train seed, in the order of the seeds."""
    of_seed: Dict[Optional[int], List[float]] = {}
    for (train_seed, _), value in sorted(values.items(), key=str):
        of_seed.setdefault(train_seed, []).append(value)
    return [np.array(v) for v in of_seed.values()]


def pair(a: Values, b: Values) -> Tuple[Optional[List[np.ndarray]], str]:
    """Differences by train seed, or None if the two cannot be paired.

    A pair needs both seeds. If each side has one train seed, or an unknown
    one, the eval seed is enough. If pairing would leave one train seed where
    both sides have more, the sides are independent.
    """
    trained = [{seed for seed, _ in side} for side in (a, b)]
    by = '(train seed, eval seed)'
    if all(len(seeds) == 1 for seeds in trained):
        by = 'eval seed'
        a = {(None, e): v for (_, e), v in a.items()}
        b = {(None, e): v for (_, e), v in b.items()}
    elif None in trained[0] | trained[1]:
        return None, 'unpaired: train seeds were not recorded'
    common = {k: b[k] - a[k] for k in a if k in b}
    left = len({seed for seed, _ in common})
    if not common:
        return None, f'unpaired: no {by} in common'
    if left < 2 <= min(map(len, trained)):
        return None, (
            f'unpaired: one train seed in common of {len(trained[0])} and {len(trained[1])}'
        )
    pairing = f'{len(common)} pairs by {by}'
    unused = len(a) - len(common), len(b) - len(common)
    if any(unused):
        pairing += f'; without a partner and not used: {unused[0]} runs of A, {unused[1]} of B'
    return groups_of(common), pairing


def spread_of(sides: List[List[np.ndarray]]) -> Components:
    """Variances of a difference between single runs of the two sides."""
    parts = [components(side) for side in sides]
    return Components(*(None if None in values else sum(values) for values in zip(*parts)))
