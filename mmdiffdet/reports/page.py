"""Results as one self-contained HTML page: tables, comparisons, charts."""

import base64
import html
import io
from pathlib import Path
from typing import Callable, Dict, List, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..ledger.comparison import Comparison
from ..ledger.experiments import Experiment
from ..ledger.reader import plain
from ..ledger.statistics import summarise, values_by_train_seed
from .summary import render_summary, summary_records
from .verdicts import render_comparison

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto;
       padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-size: 13px; display: block;
        overflow-x: auto; }
th, td { text-align: left; padding: .25em .7em;
         border-bottom: 1px solid #ddd; }
svg, img { max-width: 100%; height: auto; }
figcaption { color: #555; }
"""


def render_page(
    title: str,
    experiments: Sequence[Experiment],
    comparisons: Sequence[Comparison] = (),
    problems: Sequence[str] = (),
    pictures: Sequence[Path] = (),
    metric: str = 'AP',
) -> str:
    """Text of the page; nothing in it is loaded from elsewhere.

    Args:
        title (str): Of the page.
        experiments (Sequence[Experiment]): Rows of the table and points of
            the charts.
        comparisons (Sequence[Comparison]): Each becomes a table.
        problems (Sequence[str]): Shown before the table.
        pictures (Sequence[Path]): PNG or JPEG files, embedded.
        metric (str): Which to summarise.

    Raises:
        ValueError: If there is no experiment, or a picture has another
            format.
        FileNotFoundError: If a picture does not exist.
    """
    if not experiments:
        raise ValueError('a page needs at least one experiment')
    parts = [f'<h1>{html.escape(title)}</h1>']
    if problems:
        items = ''.join(f'<li>{html.escape(p)}</li>' for p in problems)
        parts.append(f'<h2>Problems</h2><ul>{items}</ul>')
    table = render_summary(summary_records(experiments, pd.DataFrame(), metric), (), metric, 'html')
    parts += [
        f'<h2>{metric}</h2>',
        table,
        '<p>Deviations are of the population. <i>across</i> is between the '
        'means of train seeds, <i>within</i> between the eval seeds of one '
        'training.</p>',
    ]
    if any(summarise(e.runs, metric).seconds_per_image for e in experiments):
        parts += [
            f'<h2>{metric} against cost</h2>',
            _chart(_plot_cost, experiments, metric),
            '<p>Bars are the deviation between train seeds. An experiment '
            'with one train seed (open mark) has that between its eval seeds: '
            'it says nothing of another training.</p>',
        ]
    parts += [
        f'<h2>{metric} by seed</h2>',
        _chart(_plot_seeds, experiments, metric),
        '<p>A dot is an eval seed, a bar the mean of a train seed.</p>',
    ]
    for comparison in comparisons:
        name = f'{comparison.b.label} against {comparison.a.label}'
        parts += [f'<h2>{html.escape(name)}</h2>', render_comparison(comparison, 'html')]
    if pictures:
        parts.append('<h2>Pictures</h2>')
        parts += [_picture(Path(path)) for path in pictures]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<title>{html.escape(title)}</title><style>{_STYLE}</style>'
        '</head><body>\n' + '\n'.join(parts) + '\n</body></html>\n'
    )


def _chart(plot: Callable, experiments: Sequence[Experiment], metric: str) -> str:
    figure = Figure(figsize=(9, 4.5), layout='constrained')
    plot(figure.add_subplot(), experiments, metric)
    text = io.StringIO()
    # the same bytes twice
    with rc_context({'svg.hashsalt': plot.__name__}):
        figure.savefig(text, format='svg', metadata={'Date': None})
    return text.getvalue()[text.getvalue().index('<svg') :]


def _plot_cost(axes: Axes, experiments: Sequence[Experiment], metric: str) -> None:
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


def _without_steps(label: str) -> str:
    name, _, selected = label.partition('@sample_step=')
    _, comma, rest = selected.partition(',')
    return name + (f'@{rest}' if comma else '')


def _plot_seeds(axes: Axes, experiments: Sequence[Experiment], metric: str) -> None:
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


def _picture(path: Path) -> str:
    kind = {'.png': 'png', '.jpg': 'jpeg', '.jpeg': 'jpeg'}.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f'{path} is neither a PNG nor a JPEG file')
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(path.stem)
    return (
        f'<figure><img alt="{name}" src="data:image/{kind};base64,{data}">'
        f'<figcaption>{name}</figcaption></figure>'
    )
