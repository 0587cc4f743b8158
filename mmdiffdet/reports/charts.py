"""The charts of a result page."""

import io
from typing import Any, Callable, Dict, List, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..ledger.experiments import Experiment
from ..ledger.pareto import ParetoFront
from ..ledger.reader import plain
from ..ledger.statistics import summarise, values_by_train_seed


def chart(plot: Callable, *what: Any) -> str:
    """Draw a chart as SVG, with the same bytes each time.

    Args:
        plot (Callable): A function of this module.
        what (Any): Its arguments after the axes.
    """
    figure = Figure(figsize=(9, 4.5), layout='constrained')
    plot(figure.add_subplot(), *what)
    text = io.StringIO()
    with rc_context({'svg.hashsalt': plot.__name__}):
        figure.savefig(text, format='svg', metadata={'Date': None})
    return text.getvalue()[text.getvalue().index('<svg') :]


def plot_cost(axes: Axes, experiments: Sequence[Experiment], metric: str) -> None:
    """Plot the metric against milliseconds an image, each model in a colour."""
    devices = {plain(device) for e in experiments for device in e.runs.device.unique()}
    lines: Dict[str, List[tuple]] = {}
    for e in experiments:
        s = summarise(e.runs, metric)
        if not s.seconds_per_image or s.mean is None:
            continue
        name = _without_steps(e.label)
        if len(devices) > 1:
            name += f', {plain(e.runs.device.iloc[0])}'
        one = s.across is None
        error = s.within if one else s.across
        lines.setdefault(name, []).append(
            (1000 * s.seconds_per_image, s.mean, error or 0.0, one, e.protocol.sample_step)
        )
    for color, (name, points) in enumerate(lines.items()):
        x, y, error, one, steps = zip(*sorted(points))
        axes.errorbar(
            x,
            y,
            yerr=error,
            marker='o',
            capsize=3,
            label=name,
            color=f'C{color % 10}',
            mfc='white' if one[0] else None,
        )
        for at in zip(steps, x, y):
            axes.annotate(f' {at[0]}', at[1:], va='bottom')
    axes.set(xscale='log', xlabel='ms an image (numbers: sampling steps)', ylabel=metric)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend()


def plot_front(axes: Axes, front: ParetoFront, experiments: Sequence[Experiment]) -> None:
    """A front with its intervals and labels, and the settings that it beats."""
    beaten = [
        (1000 * s.seconds_per_image, s.mean)
        for s in (summarise(e.runs, front.metric) for e in experiments if e.label in front.beaten)
    ]
    if beaten:
        axes.plot(*zip(*beaten), 'o', color='0.8', markersize=4)
    for p in front.front:
        x = 1000 * p['seconds_per_image']
        mean = p['mean'] if p['mean_of_means'] is None else p['mean_of_means']
        if p['interval'] is not None:
            axes.vlines(x, *p['interval'], color='C0', alpha=0.5)
            axes.hlines(mean, *(1000 * end for end in p['seconds_interval']), color='C0', alpha=0.5)
        axes.plot(x, mean, 'o', color='C0')
        axes.annotate(f' {p["experiment"]}', (x, mean), fontsize=7, va='bottom', rotation=20)
    axes.set(xscale='log', xlabel='ms an image', ylabel=front.metric)
    axes.grid(alpha=0.3)


def _without_steps(label: str) -> str:
    name, _, selected = label.partition('@sample_step=')
    _, comma, rest = selected.partition(',')
    return name + (f'@{rest}' if comma else '')


def plot_seeds(axes: Axes, experiments: Sequence[Experiment], metric: str) -> None:
    """Plot the metric of each eval seed, and the mean of each train seed."""
    found = {e.label: values_by_train_seed(e.runs, metric) for e in experiments}
    seeds = sorted(
        {s for values in found.values() for s in values},
        key=lambda seed: -1 if seed is None else seed,
    )
    for place, values in enumerate(found.values()):
        for i, seed in enumerate(seeds):
            if seed not in values:
                continue
            x = place + (i - (len(seeds) - 1) / 2) * min(0.2, 0.8 / len(seeds))
            color, dots = f'C{i % 10}', values[seed]
            axes.plot([x] * len(dots), dots, 'o', color=color, alpha=0.5)
            axes.plot(x, np.mean(dots), '_', color=color, markersize=18)
    for i, seed in enumerate(seeds):
        axes.plot([], [], 'o', color=f'C{i % 10}', label=f'train seed {seed}')
    axes.set(ylabel=metric)
    axes.set_xticks(
        range(len(found)),
        [label.replace('@', '\n') for label in found],
        rotation=20,
        ha='right',
        fontsize=8,
    )
    axes.grid(axis='y', alpha=0.3)
    if seeds:
        axes.legend()
