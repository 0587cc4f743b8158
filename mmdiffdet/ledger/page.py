"""Results as one self-contained HTML page: tables, comparisons, charts."""
import base64
import html
import io
from pathlib import Path
from typing import Callable, Dict, List, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .comparison import Comparison
from .experiments import Experiment
from .report import render_comparison, render_summary, summary_records
from .statistics import summarise, values_by_train_seed

_STYLE = '''
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto;
       padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-size: 13px; display: block;
        overflow-x: auto; }
th, td { text-align: left; padding: .25em .7em;
         border-bottom: 1px solid #ddd; }
svg, img { max-width: 100%; height: auto; }
figcaption { color: #555; }
'''


def render_page(title: str,
                experiments: Sequence[Experiment],
                comparisons: Sequence[Comparison] = (),
                problems: Sequence[str] = (),
                pictures: Sequence[Path] = (),
                metric: str = 'AP') -> str:
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
    table = render_summary(
        summary_records(experiments, (), metric), (), metric, 'html')
    parts += [
        f'<h2>{metric}</h2>', table,
        '<p>Deviations are of the population. <i>across</i> is between the '
        'means of train seeds, <i>within</i> between the eval seeds of one '
        'training.</p>'
    ]
    if any(summarise(e.runs, metric).seconds_per_image for e in experiments):
        parts += [
            f'<h2>{metric} against cost</h2>',
            _chart(_plot_cost, experiments, metric),
            '<p>Mean and standard deviation over all runs.</p>'
        ]
    parts += [
        f'<h2>{metric} by seed</h2>',
        _chart(_plot_seeds, experiments, metric),
        '<p>A column a train seed, a dot an eval seed, a bar their mean.</p>'
    ]
    for comparison in comparisons:
        name = f'{comparison.b.label} against {comparison.a.label}'
        parts += [
            f'<h2>{html.escape(name)}</h2>',
            render_comparison(comparison, 'html')
        ]
    if pictures:
        parts.append('<h2>Pictures</h2>')
        parts += [_picture(Path(path)) for path in pictures]
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<title>{html.escape(title)}</title><style>{_STYLE}</style>'
            '</head><body>\n' + '\n'.join(parts) + '\n</body></html>\n')


def _chart(plot: Callable, experiments: Sequence[Experiment],
           metric: str) -> str:
    figure = Figure(figsize=(9, 4.5), layout='constrained')
    plot(figure.add_subplot(), experiments, metric)
    text = io.StringIO()
    # the same bytes twice, and no id that two charts share
    with rc_context({'svg.hashsalt': plot.__name__}):
        figure.savefig(text, format='svg', metadata={'Date': None})
    return text.getvalue()[text.getvalue().index('<svg'):]


def _plot_cost(axes: Axes, experiments: Sequence[Experiment],
               metric: str) -> None:
    lines: Dict[tuple, List[tuple]] = {}
    for e in experiments:
        s = summarise(e.runs, metric)
        if s.seconds_per_image and s.mean is not None:
            rest = {k: v for k, v in e.protocol.__dict__.items()
                    if k != 'sample_step'}
            lines.setdefault((e.name, str(rest)), []).append(
                (1000 * s.seconds_per_image, s.mean, s.std,
                 e.protocol.sample_step))
    for (name, _), points in lines.items():
        x, y, error, steps = zip(*sorted(points))
        axes.errorbar(x, y, yerr=error, marker='o', capsize=3, label=name)
        for at in zip(steps, x, y):
            axes.annotate(f' {at[0]}', at[1:], va='bottom')
    axes.set(xscale='log', xlabel='ms an image (numbers: sampling steps)',
             ylabel=metric)
    axes.grid(alpha=0.3)
    axes.legend()


def _plot_seeds(axes: Axes, experiments: Sequence[Experiment],
                metric: str) -> None:
    ticks = []
    for place, e in enumerate(experiments):
        values = values_by_train_seed(e.runs, metric)
        ticks.append(e.label.replace('@', '\n'))
        offsets = (np.arange(len(values)) - (len(values) - 1) / 2) * min(
            0.2, 0.8 / len(values))
        for i, (offset, found) in enumerate(zip(offsets, values.values())):
            x, color = place + offset, f'C{i % 10}'
            axes.plot([x] * len(found), found, 'o', color=color, alpha=0.5)
            axes.plot(x, np.mean(found), '_', color=color, markersize=18)
    axes.set(ylabel=metric)
    axes.set_xticks(
        range(len(ticks)), ticks, rotation=20, ha='right', fontsize=8)
    axes.grid(axis='y', alpha=0.3)


def _picture(path: Path) -> str:
    kind = {'.png': 'png', '.jpg': 'jpeg', '.jpeg': 'jpeg'}.get(
        path.suffix.lower())
    if kind is None:
        raise ValueError(f'{path} is neither a PNG nor a JPEG file')
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(path.stem)
    return (f'<figure><img alt="{name}" src="data:image/{kind};base64,{data}">'
            f'<figcaption>{name}</figcaption></figure>')
