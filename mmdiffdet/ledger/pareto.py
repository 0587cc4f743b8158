"""Settings that no other beats in both metric and cost."""

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from .experiments import Experiment
from .pairing import side_of
from .power import ALPHA
from .problems import contradicts_itself
from .reader import plain
from .resampling import bootstrap_means, interval
from .statistics import Summary, summarise

Interval = Optional[Tuple[float, float]]


@dataclass(frozen=True)
class ParetoPoint:
    """A setting on the front.

    Args:
        experiment (Experiment): The setting.
        summary (Summary): Mean, spread and seconds an image.
        interval (tuple, optional): 95 % hierarchical bootstrap interval of
            the mean of the train seeds' means; None of one run. From one
            train seed it says nothing of another training.
        seconds_interval (tuple, optional): The same of the seconds an image.
        share (float): How often it is on the front when the runs of all
            settings are resampled, from 0 to 1.
    """

    experiment: Experiment
    summary: Summary
    interval: Interval
    seconds_interval: Interval
    share: float


@dataclass(frozen=True)
class ParetoFront:
    """The front of the settings that may be compared.

    Args:
        metric (str): Name of the metric.
        dataset (str, optional): Data set of all settings.
        annotation_sha256 (str, optional): SHA-256 of its annotations.
        device (str): The hardware that all were measured on.
        points (List[ParetoPoint]): From the cheapest to the best.
        beaten (List[str]): Labels of the other settings.
    """

    metric: str
    dataset: Optional[str]
    annotation_sha256: Optional[str]
    device: str
    points: List[ParetoPoint]
    beaten: List[str]


def pareto_fronts(
    experiments: Sequence[Experiment], metric: str = 'AP', resamples: int = 10000
) -> Tuple[List[ParetoFront], List[str]]:
    """A front for each data set, its annotations and device.

    A setting beats another if it is as good and as fast, and better in one of
    the two. Seconds of different devices are not compared.

    Args:
        experiments (Sequence[Experiment]): The settings.
        metric (str): Name of the metric, of which more is better.
        resamples (int): Number of bootstrap samples.

    Returns:
        tuple: The fronts, and a sentence for each setting that is left out.

    Raises:
        ValueError: If no setting has both the metric and its cost.
    """
    left_out: List[str] = []
    comparable: Dict[tuple, List[Tuple[Experiment, Summary]]] = {}
    for e in experiments:
        summary = summarise(e.runs, metric)
        problems = contradicts_itself(e)
        if problems:
            left_out.append(f'not on a front: {problems[0]}')
        elif summary.mean is None:
            left_out.append(f'not on a front: {e.label} has no {metric}')
        elif summary.seconds_per_image is None:
            left_out.append(
                f'not on a front: {e.label} has no seconds_per_image of one device alone'
            )
        else:
            device = plain(e.runs.device.dropna().iloc[0]) if e.runs.device.notna().any() else 'n/a'
            key = (e.protocol.dataset, e.protocol.annotation_sha256, device)
            comparable.setdefault(key, []).append((e, summary))
    if not comparable:
        raise ValueError('--pareto: ' + '\n'.join(left_out or ['there are no runs']))
    return [_front(metric, key, s, resamples) for key, s in comparable.items()], left_out


def _front(metric: str, key: tuple, settings: list, resamples: int) -> ParetoFront:
    # the cheapest first; of those that cost the same the best one
    settings = sorted(settings, key=lambda item: (item[1].seconds_per_image, -_value(item[1])))
    rng = np.random.default_rng(0)
    sides = [side_of(e, metric) for e, _ in settings]
    boot = np.array([bootstrap_means(side, resamples, rng) for side in sides])
    values = np.array([[_value(summary)] for _, summary in settings])
    wins, shares = (_better_than_cheaper(v) for v in (values, boot))
    points, beaten = [], []
    for i, (experiment, summary) in enumerate(settings):
        if not wins[i, 0]:
            beaten.append(experiment.label)
            continue
        seconds = bootstrap_means(side_of(experiment, 'seconds_per_image'), resamples, rng)
        points.append(
            ParetoPoint(
                experiment,
                summary,
                interval(boot[i], 1 - ALPHA) if summary.n > 1 else None,
                interval(seconds, 1 - ALPHA) if summary.n > 1 else None,
                float(shares[i].mean()),
            )
        )
    return ParetoFront(metric, *key, points, beaten)


def _value(summary: Summary) -> float:
    return summary.mean if summary.mean_of_means is None else summary.mean_of_means


def _better_than_cheaper(values: np.ndarray) -> np.ndarray:
    """Whether each value is above all in the rows before it."""
    best = np.maximum.accumulate(values)
    return np.vstack([np.full_like(values[:1], True), values[1:] > best[:-1]]).astype(bool)
