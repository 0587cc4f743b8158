"""Results as one self-contained HTML page: tables, comparisons, charts, a viewer."""

import base64
import html
from pathlib import Path
from typing import List, Sequence

import pandas as pd

from ..ledger.comparison import Comparison
from ..ledger.experiments import Experiment
from ..ledger.pareto import ParetoFront
from ..ledger.protocol import PROTOCOL_FIELDS
from ..ledger.statistics import summarise
from .charts import chart, plot_cost, plot_front, plot_seeds
from .summary import summary_records, summary_table
from .text import render_table
from .verdicts import render_comparison, render_pareto, sentence
from .viewer import render_viewer, viewer_style

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto;
       padding: 0 1em; color: #222; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; vertical-align: top; padding: .25em .45em;
         border-bottom: 1px solid #ddd; }
td, p, li { overflow-wrap: break-word; }
figure { margin: 1em 0; }
p > svg, body > svg, figure img { max-width: 100%; height: auto; }
figcaption { color: #555; }
"""


def render_page(
    title: str,
    experiments: Sequence[Experiment],
    comparisons: Sequence[Comparison] = (),
    problems: Sequence[str] = (),
    pictures: Sequence[Path] = (),
    metric: str = 'AP',
    trajectories: Sequence[Path] = (),
    fronts: Sequence[ParetoFront] = (),
) -> str:
    """Write the page as HTML, in which nothing is loaded from elsewhere.

    Args:
        title (str): The page's title.
        experiments (Sequence[Experiment]): The rows of the table and points of the
            charts, one or more.
        comparisons (Sequence[Comparison]): The comparisons, each of which becomes a
            table.
        problems (Sequence[str]): Sentences that are shown before the table.
        pictures (Sequence[Path]): PNG or JPEG files, which are embedded.
        metric (str): The name of the metric.
        trajectories (Sequence[Path]): The files for the viewer, see
            :func:`~mmdiffdet.reports.viewer.render_viewer`.
        fronts (Sequence[ParetoFront]): The fronts that are shown in place of the charts
            of all experiments, where these are many.

    Raises:
        ValueError: If there is no experiment, a picture has another format,
            or trajectories are not of the same images.
        FileNotFoundError: If a picture or a trajectory does not exist.
    """
    if not experiments:
        raise ValueError('a page needs at least one experiment')
    parts = [f'<h1>{html.escape(title)}</h1>', *_outcome(experiments, comparisons, metric)]
    if problems:
        items = ''.join(f'<li>{html.escape(p)}</li>' for p in problems)
        parts.append(f'<h2>Problems</h2><ul>{items}</ul>')
    if trajectories:
        parts += ['<h2>From noise to objects</h2>', render_viewer(trajectories)]
    parts += [
        f'<h2>{metric}</h2>',
        *_summary(experiments, metric),
        '<p>Deviations are of the population. <i>across</i> is between the '
        'means of train seeds, <i>within</i> between the eval seeds of one '
        'training.</p>',
    ]
    for front in fronts:
        parts += [
            f'<h2>The settings that no other beats: {html.escape(front.dataset or "")}</h2>',
            chart(plot_front, front, experiments),
            _fitting(render_pareto([front], 'html')),
            '<p>Grey: the settings that are beaten. Intervals are 95 % hierarchical '
            'bootstrap intervals; <i>on_front</i> is how often a setting is on the '
            'front when the runs are resampled.</p>',
        ]
    if not fronts and any(summarise(e.runs, metric).seconds_per_image for e in experiments):
        parts += [
            f'<h2>{metric} against cost</h2>',
            chart(plot_cost, experiments, metric),
            '<p>Bars are the deviation between train seeds. An experiment '
            'with one train seed (open mark) has that between its eval seeds: '
            'it says nothing of another training.</p>',
        ]
    if not fronts:
        parts += [
            f'<h2>{metric} by seed</h2>',
            chart(plot_seeds, experiments, metric),
            '<p>A dot is an eval seed, a bar the mean of a train seed.</p>',
        ]
    for comparison in comparisons:
        name = f'{comparison.b.label} against {comparison.a.label}'
        parts += [f'<h2>{html.escape(name)}</h2>', _fitting(render_comparison(comparison, 'html'))]
    if pictures:
        parts.append('<h2>Pictures</h2>')
        parts += [_picture(Path(path)) for path in pictures]
    style = _STYLE + (viewer_style() if trajectories else '')
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{html.escape(title)}</title><style>{style}</style>'
        '</head><body>\n' + '\n'.join(parts) + '\n</body></html>\n'
    )


def _outcome(
    experiments: Sequence[Experiment], comparisons: Sequence[Comparison], metric: str
) -> List[str]:
    """Say what came out in sentences."""
    if comparisons:
        items = ''.join(f'<li>{html.escape(sentence(c))}</li>' for c in comparisons)
        return [f'<ul>{items}</ul>']
    means = {e.label: summarise(e.runs, metric).mean for e in experiments}
    means = {label: mean for label, mean in means.items() if mean is not None}
    if not means:
        return [f'<p>No run has {html.escape(metric)}.</p>']
    best = max(means, key=means.get)
    text = f'{best} has the best mean {metric}, {means[best]:.1f}, of {len(experiments)}'
    if len(experiments) == 1:
        text = f'{best} has a mean {metric} of {means[best]:.1f}'
    return [f'<p>{html.escape(text)}; nothing was compared.</p>']


def _summary(experiments: Sequence[Experiment], metric: str) -> List[str]:
    """Write the table without columns in which all rows are the same, and these in a
    sentence."""
    records = summary_records(experiments, pd.DataFrame(), metric)
    columns, rows = summary_table(records)
    table = pd.DataFrame(rows, columns=columns)
    same = [c for c in PROTOCOL_FIELDS if table[c].nunique() == 1]
    text = html.escape(', '.join(f'{c} {table[c][0]}' for c in same))
    table = table.drop(columns=same)
    parts = [_fitting(render_table(table.to_numpy().tolist(), [*table], 'html'))]
    return parts + [f'<p>The same in all rows: {text}.</p>'] * bool(same)


def _fitting(table: str) -> str:
    """Let a table scroll by itself where it is wider than the page."""
    return f'<div class="table">{table}</div>'


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
