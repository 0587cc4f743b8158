"""The settings that no other setting beats in both metric and cost."""

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple
from zlib import crc32

import numpy as np

from .experiments import Experiment
from .pairing import seeds_of, side_of
from .power import ALPHA
from .problems import contradicts_itself
from .reader import plain
from .resampling import bootstrap_means, interval
from .statistics import summarise


@dataclass(frozen=True)
class ParetoFront:
    """The settings of one data set and device that no other beats.

    Args:
        metric, dataset, annotation_sha256, device (str, optional): What all
            settings share.
        front (list[dict]): The settings from the cheapest to the best, with label,
            summary and protocol. ``interval`` and ``seconds_interval`` are 95 %
            hierarchical bootstrap intervals; they are None of one run, and of one
            train seed they say nothing of another training. ``share`` is how often
            the setting is on the front when the metrics of all are resampled and
            the costs stay as they are. Settings with the same train seeds draw them
            together, and so the eval seeds if these are the same too; others draw
            each for themselves.
        beaten (List[str]): The labels of the other settings.
    """

    metric: str
    dataset: Optional[str]
    annotation_sha256: Optional[str]
    device: Optional[str]
    front: List[Dict[str, Any]]
    beaten: List[str]


def pareto_fronts(
    experiments: Sequence[Experiment], metric: str = 'AP', resamples: int = 10000
) -> Tuple[List[ParetoFront], List[str]]:
    """Find the front of each data set (with its annotations) and device.

    A setting beats another if its mean of the train seeds' means is as good, it is
    as fast, and it is better in one of the two.

    Args:
        experiments (Sequence[Experiment]): The settings.
        metric (str): The name of the metric.
        resamples (int): The number of bootstrap samples.

    Returns:
        tuple: The fronts, and sentences on what is left out and why.

    Raises:
        ValueError: If no setting has both the metric and its cost.
    """
    without: Dict[str, List[str]] = {}
    comparable: Dict[tuple, List[Tuple[float, float, Experiment]]] = {}
    for e in experiments:
        summary = summarise(e.runs, metric)
        timed = e.runs.dropna(subset='seconds_per_image')
        if contradicts_itself(e):
            without.setdefault('contradict themselves', []).append(e.label)
        elif summary.mean is None:
            without.setdefault(f'have no {metric}', []).append(e.label)
        elif timed.empty:
            without.setdefault('have no seconds_per_image', []).append(e.label)
        elif summary.seconds_per_image is None:
            without.setdefault('were timed on several devices', []).append(e.label)
        else:
            key = e.protocol.dataset, e.protocol.annotation_sha256, plain(timed.device.iloc[0])
            mean = np.mean([g.mean() for g in side_of(e, metric)])
            comparable.setdefault(key, []).append((summary.seconds_per_image, -mean, e))
    left_out = [f'not on a front, as they {why}: {", ".join(e)}' for why, e in without.items()]
    if not comparable:
        raise ValueError('\n'.join(['--pareto: nothing to compare', *left_out]))
    fronts = []
    for key, settings in comparable.items():
        # the cheapest first; of those that cost the same the best one
        settings.sort(key=lambda setting: setting[:2])
        boot = np.array([_resampled_means(e, metric, resamples) for *_, e in settings])
        on_front = _above_all_before(np.array([[-mean] for _, mean, _ in settings]))[:, 0]
        shares = _above_all_before(boot).mean(1)
        front, beaten = [], []
        for (*_, e), is_on, means, share in zip(settings, on_front, boot, shares):
            if not is_on:
                beaten.append(e.label)
                continue
            summary = summarise(e.runs, metric)
            seconds = _resampled_means(e, 'seconds_per_image', resamples)
            ends = [interval(b, 1 - ALPHA) if summary.n > 1 else None for b in (means, seconds)]
            found = dict(interval=ends[0], seconds_interval=ends[1], share=float(share))
            front.append({'experiment': e.label, **asdict(summary), **found, **asdict(e.protocol)})
        fronts.append(ParetoFront(metric, *key, front, beaten))
    return fronts, left_out


def _resampled_means(experiment: Experiment, metric: str, resamples: int) -> np.ndarray:
    """Means of draws that are the same for all experiments with the same seeds."""
    seeds = seeds_of(experiment, metric)
    trains = list(dict.fromkeys(train for train, _ in seeds))
    rngs = [np.random.default_rng(crc32(repr(drawn).encode())) for drawn in (trains, seeds)]
    return bootstrap_means(side_of(experiment, metric), resamples, *rngs)


def _above_all_before(values: np.ndarray) -> np.ndarray:
    """Whether each value, of (settings, samples), is above all in the rows before it."""
    best = np.maximum.accumulate(values)
    return np.vstack([np.ones_like(values[:1], dtype=bool), values[1:] > best[:-1]])
