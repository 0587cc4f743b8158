"""Mean and spread of an experiment whose runs have a train seed and an eval seed."""

import math
from dataclasses import dataclass
from typing import Dict, Optional

import numpy as np
import pandas as pd

from .reader import plain


@dataclass(frozen=True)
class Summary:
    """Statistics of one metric. What the runs cannot tell is None.

    Deviations are of the population (divisor n), so that for the same eval seeds at
    every train seed ``std**2 == across**2 + within**2``.

    Args:
        n (int): The number of runs that have the metric.
        seeds (str): Train seeds x eval seeds: ``5x5``; ``?x5`` if a train seed was
            not recorded; ``3x2-5`` if their numbers differ.
        mean, std (float, optional): Mean and deviation over all runs.
        mean_of_means (float, optional): The mean of the train seeds' means.
        across (float, optional): The deviation of the train seeds' means. With one
            train seed it is not known, rather than 0.
        within (float, optional): The root of the mean variance within a train seed,
            over those that have two runs or more.
        seconds_per_image (float, optional): The mean time, if all runs that have it
            were on one device.
    """

    n: int
    seeds: str
    mean: Optional[float]
    std: Optional[float]
    mean_of_means: Optional[float]
    across: Optional[float]
    within: Optional[float]
    seconds_per_image: Optional[float]


def summarise(runs: pd.DataFrame, metric: str = 'AP') -> Summary:
    """Summarise a metric of one experiment. Runs that do not have it are left out."""
    values = values_by_train_seed(runs, metric)
    flat = np.concatenate([*values.values(), []])
    counts = sorted({len(v) for v in values.values()})
    known = None not in values
    means = np.array([v.mean() for v in values.values()])
    inner = [v.var() for v in values.values() if len(v) > 1]
    evals = '-'.join(map(str, counts[:1] + counts[1:][-1:])) or '0'
    timed = runs[['device', 'seconds_per_image']].dropna(subset='seconds_per_image')
    one_device = timed.device.nunique(dropna=False) == 1
    return Summary(
        n=len(flat),
        seeds=f'{len(values) if known else "?"}x{evals}',
        mean=_mean(flat),
        std=float(flat.std()) if len(flat) > 1 else None,
        mean_of_means=_mean(means) if known else None,
        across=float(means.std()) if known and len(means) > 1 else None,
        within=math.sqrt(np.mean(inner)) if known and inner else None,
        seconds_per_image=_mean(timed.seconds_per_image.to_numpy()) if one_device else None,
    )


def values_by_train_seed(runs: pd.DataFrame, metric: str) -> Dict[Optional[int], np.ndarray]:
    """Return the metric's values by train seed, without runs that do not have it."""
    known = runs.set_index('train_seed')[metric].dropna()
    groups = known.groupby(level=0, dropna=False, sort=False)
    return {plain(seed): values.to_numpy() for seed, values in groups}


def _mean(values: np.ndarray) -> Optional[float]:
    return float(values.mean()) if len(values) else None
