"""Mean and spread of an experiment whose runs have two seeds."""

import math
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence

import numpy as np

from .runs import Run


@dataclass(frozen=True)
class Summary:
    """Statistics of one metric. None is what the runs cannot tell.

    The deviations are of the population (divisor n), so that for the same
    eval seeds at every train seed ``std**2 == across**2 + within**2``.

    Args:
        n (int): Runs that have the metric.
        seeds (str): Train seeds x eval seeds, e.g. ``5x5``, ``?x5``
            (train seed not recorded), ``3x2-5`` (some are missing).
        mean (float, optional): Over all runs.
        std (float, optional): Over all runs.
        mean_of_means (float, optional): Mean of the train seeds' means.
        across (float, optional): Deviation of the train seeds' means; with
            one train seed it is not known, rather than 0.
        within (float, optional): Root mean variance within a train seed,
            over those that have two runs or more.
        seconds_per_image (float, optional): Mean, if all runs that have it
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


def summarise(runs: Sequence[Run], metric: str = 'AP') -> Summary:
    """Mean and spread of a metric.

    Args:
        runs (Sequence[Run]): Of one experiment.
        metric (str): Which; runs that have none of it are left out.
    """
    values = values_by_train_seed(runs, metric)
    flat = np.array([v for of_seed in values.values() for v in of_seed])
    counts = sorted({len(v) for v in values.values()})
    known = None not in values
    means = np.array([np.mean(v) for v in values.values()])
    inner = [np.var(v) for v in values.values() if len(v) > 1]
    evals = '-'.join(map(str, counts[:1] + counts[1:][-1:])) or '0'
    return Summary(
        n=len(flat),
        seeds=f'{len(values) if known else "?"}x{evals}',
        mean=_mean(flat),
        std=float(flat.std()) if len(flat) > 1 else None,
        mean_of_means=_mean(means) if known else None,
        across=float(means.std()) if known and len(means) > 1 else None,
        within=math.sqrt(np.mean(inner)) if known and inner else None,
        seconds_per_image=_seconds(runs),
    )


def values_by_train_seed(runs: Sequence[Run], metric: str) -> Dict[Optional[int], List[float]]:
    """The metric's values of each train seed, without those it lacks."""
    values: Dict[Optional[int], List[float]] = {}
    for run in runs:
        if run.metrics[metric] is not None:
            values.setdefault(run.train_seed, []).append(run.metrics[metric])
    return values


def _mean(values: np.ndarray) -> Optional[float]:
    return float(values.mean()) if len(values) else None


def _seconds(runs: Sequence[Run]) -> Optional[float]:
    timed = [r for r in runs if r.seconds_per_image is not None]
    if len({r.device for r in timed}) != 1:
        return None
    return float(np.mean([r.seconds_per_image for r in timed]))
