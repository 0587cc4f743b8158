"""Which runs of two experiments are compared with each other."""

from typing import List, NamedTuple, Optional, Tuple

import numpy as np
import pandas as pd

from .experiments import Experiment

SEEDS = ['train_seed', 'eval_seed']


class Sides(NamedTuple):
    """The paired differences B - A, or the values of A and those of B.

    Args:
        groups (list): One side (differences) or two. A side is a list with an array
            for each train seed, which holds a value for each eval seed.
        pairing (str): A sentence on what was paired and how much of it.
        unit (str): What a replicate of a test is: ``train seed``, ``eval seed`` or
            ``none``.
        units (list[ndarray]): For each side, a value for each replicate.
        notes (List[str]): Sentences on what limits the answer.
    """

    groups: List[List[np.ndarray]]
    pairing: str
    unit: str
    units: List[np.ndarray]
    notes: List[str]


def sides_of(a: Experiment, b: Experiment, metric: str) -> Sides:
    """Pair the runs of two experiments where they can be paired.

    A pair has the same train seed and the same eval seed. If each side has one
    train seed, or an unknown one, the same eval seed is enough. If pairing would
    leave one train seed where both sides have more, the sides are taken as
    independent.

    Raises:
        ValueError: If a side has no run with the metric.
    """
    values, notes = [_values(a, metric), _values(b, metric)], []
    if a.protocol.samples != b.protocol.samples:
        alone = 1 if a.protocol.samples else 0
        values[alone] = _for_each_eval_seed(values[alone], values[1 - alone])
        notes.append(
            f'{"AB"[alone]} does not sample: its result is compared with each eval seed of the '
            'other'
        )
    trained = [side.train_seed.nunique(dropna=False) for side in values]
    by = '(train seed, eval seed)'
    if trained == [1, 1]:
        by = 'eval seed'
        values = [side.assign(train_seed=0) for side in values]
    table = _in_order(values[0].merge(values[1], on=SEEDS, how='outer', suffixes=('_a', '_b')))
    table['difference'] = table.value_b - table.value_a
    pairs = table.dropna(subset='difference')
    apart = None
    if any(side.train_seed.isna().any() for side in values):
        apart = 'train seeds were not recorded'
    elif pairs.empty:
        apart = f'no {by} in common'
    elif pairs.train_seed.nunique() < 2 <= min(trained):
        apart = f'one train seed in common of {trained[0]} and {trained[1]}'
    if apart:
        sides = [_groups(table, 'value_a'), _groups(table, 'value_b')]
        return _with_units(sides, f'unpaired: {apart}', notes)
    pairing = f'{len(pairs)} pairs by {by}'
    unused = [len(side) - len(pairs) for side in values]
    if any(unused):
        pairing += f'; without a partner and not used: {unused[0]} runs of A, {unused[1]} of B'
    return _with_units([_groups(pairs, 'difference')], pairing, notes)


def _with_units(sides: List[List[np.ndarray]], pairing: str, notes: List[str]) -> Sides:
    if all(len(side) > 1 for side in sides):
        units = [np.array([g.mean() for g in side]) for side in sides]
        return Sides(sides, pairing, 'train seed', units, notes)
    units = [side[0] for side in sides]
    if any(len(side) > 1 for side in sides):
        why = (
            'one side has one train seed, so how much its '
            'training varies is unknown and nothing is tested'
        )
    elif any(len(values) < 2 for values in units):
        why = 'one run cannot show how much runs vary'
    else:
        return Sides(sides, pairing, 'eval seed', units, notes)
    return Sides(sides, pairing, 'none', units, [*notes, why])


def side_of(experiment: Experiment, metric: str) -> List[np.ndarray]:
    """Return the values of an experiment, an array for each train seed."""
    return _groups(_in_order(_values(experiment, metric)), 'value')


def seeds_of(experiment: Experiment, metric: str) -> List[Tuple[Optional[int], int]]:
    """Return train seed and eval seed of each value of :func:`side_of`, in its order."""
    return [*_in_order(_values(experiment, metric))[SEEDS].itertuples(index=False, name=None)]


def _values(experiment: Experiment, metric: str) -> pd.DataFrame:
    """Train seed, eval seed and ``value`` of the runs that have the metric."""
    values = experiment.runs[[*SEEDS, metric]].dropna(subset=metric)
    if values.empty:
        raise ValueError(f'{experiment.label} has no {metric}')
    return values.rename(columns={metric: 'value'})


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort by the seeds' text, on whose order the bootstrap's draws rest."""
    return table.sort_values(SEEDS, key=lambda seeds: seeds.astype(str))


def _groups(table: pd.DataFrame, column: str) -> List[np.ndarray]:
    groups = table.dropna(subset=column).groupby('train_seed', dropna=False, sort=False)[column]
    return [values.to_numpy() for _, values in groups]


def _for_each_eval_seed(single: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Repeat a training's only result for each eval seed of the other side."""
    seeds = other[SEEDS]
    if single.train_seed.nunique(dropna=False) == other.train_seed.nunique(dropna=False) == 1:
        # of the same type, also if it was not recorded
        seeds = seeds.assign(train_seed=single.train_seed.iloc[0]).astype(seeds.dtypes)
    repeated = single.merge(seeds, on='train_seed', how='left', suffixes=('_own', ''))
    return repeated.assign(eval_seed=repeated.eval_seed.fillna(repeated.pop('eval_seed_own')))
