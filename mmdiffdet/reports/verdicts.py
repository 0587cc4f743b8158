"""Verdicts, plans and fronts as a table, TSV, Markdown, JSON or HTML."""

import json
from dataclasses import asdict
from typing import Any, Sequence

from ..ledger.comparison import UNDECIDED, Comparison
from ..ledger.pareto import ParetoFront
from ..ledger.plan import Plan
from ..ledger.protocol import NOT_AVAILABLE
from ..ledger.reader import listed, plain
from .summary import Record, number
from .text import one_line, render_table


def render_comparisons(comparisons: Sequence[Comparison], style: str) -> str:
    """Write comparisons as text. JSON has a list of them if there are several.

    Args:
        comparisons (Sequence[Comparison]): The comparisons.
        style (str): One of :data:`~mmdiffdet.reports.text.FORMATS`.
    """
    if style != 'json':
        return '\n\n'.join(render_comparison(c, style) for c in comparisons)
    records = [_comparison_record(c) for c in comparisons]
    return json.dumps(records if len(records) > 1 else records[0], indent=2)


def _comparison_record(c: Comparison) -> Record:
    summaries = dict(zip(('summary_a', 'summary_b'), map(asdict, c.summaries)))
    shared = {k: getattr(c, k) for k in ('pairing', 'used', 'unit', 'replicates', 'difference')}
    return dict(
        **dict(a=c.a.label, b=c.b.label, metric=c.metric, **summaries, **shared),
        interval=[c.low, c.high],
        tests=[t._asdict() for t in c.tests],
        decisive=c.decisive and c.decisive.name,
        variance=c.spread._asdict(),
        **dict(verdict=c.verdict, speaks_of=c.scope, more_runs=c.more, notes=c.notes),
        **({} if c.corrected is None else dict(corrected_p=c.corrected)),
    )


def render_comparison(c: Comparison, style: str) -> str:
    """Write a comparison as text, in any style but JSON."""
    interval = 'no interval'
    if c.low is not None:
        interval = f'95 % hierarchical bootstrap interval {c.low:+.4f} to {c.high:+.4f}'
    tests = '; '.join(
        f'{t.name} p = {t.p:.4f}' + (' (decides)' if t is c.decisive else '') for t in c.tests
    )
    if c.corrected is not None:
        tests += f'; corrected for the number of comparisons (Holm) p = {c.corrected:.4f}'
    verdict = f'B is {c.verdict} than A, with' if c.verdict != UNDECIDED else f'{UNDECIDED} with'
    rows = [
        ['A', _side(c, 0)],
        ['B', _side(c, 1)],
        ['protocol', str(c.a.protocol)],
        ['runs', c.pairing],
        ['B - A', f'{c.difference:+.4f} {c.metric}; {interval}'],
        ['test', f'{tests}; unit: {c.unit}' if tests else 'none'],
        ['cost', _cost(c)],
        ['verdict', f'{verdict} {_runs(c)}; this speaks of {c.scope}'],
        ['more runs', c.more],
        *(['note', note] for note in c.notes),
    ]
    if c.a.protocol != c.b.protocol:
        rows.insert(3, ['protocol of B', str(c.b.protocol)])
    return render_table(rows, ['', 'comparison'], style)


def sentence(c: Comparison) -> str:
    """Say what came out of a comparison to one who has not seen its table."""
    means = [s.mean for s in c.summaries]
    verdict = c.verdict + ',' * (c.verdict != UNDECIDED)
    text = f'{c.b.label} has {c.metric} {means[1]:.1f}, {c.a.label} {means[0]:.1f}: '
    text += f'{verdict} with {_runs(c)}'
    seconds = [s.seconds_per_image for s in c.summaries]
    if all(seconds) and not _on_two_devices(c):
        text += f', at {seconds[1] / seconds[0]:.2f} times the time an image'
    return f'{text}. This speaks of {c.scope}.'


def _runs(c: Comparison) -> str:
    text = f'{c.used[0]} and {c.used[1]} runs'
    seeds = [listed(e.runs.dropna(subset=c.metric).eval_seed) for e in (c.a, c.b)]
    if seeds[0] == seeds[1] or not (c.a.protocol.samples and c.b.protocol.samples):
        return text
    paired = '' if c.pairing.startswith('unpaired') else '; compared are those of both'
    return f'{text} (eval seeds {seeds[0]} of A and {seeds[1]} of B{paired})'


def render_plan(plan: Plan, style: str) -> str:
    """Write what a study could show as text.

    Args:
        plan (Plan): The plan.
        style (str): One of :data:`~mmdiffdet.reports.text.FORMATS`.
    """
    s = plan
    if style == 'json':
        return json.dumps(asdict(s), indent=2)
    rows = [
        ['study', f'{s.label}, {"paired" if s.paired else "unpaired"}'],
        [
            'spread',
            f'differences between models deviate by {s.deviation:.4f} {s.metric} from train seed '
            f'to train seed, each model with {s.seen[1]} eval seeds',
        ],
        [
            'known to',
            f'{s.factor[0]:.2f} to {s.factor[1]:.2f} times that (95 %), from {s.seen[0]} train '
            'seeds',
        ],
        *(
            [f'{count} train seeds', f'could show {value:.2f} {s.metric}']
            for count, value in s.smallest.items()
        ),
        [
            'meaning',
            'the true difference that the test which decides in --compare finds four times in '
            f'five (p <= 0.05), {s.seen[1]} eval seeds a model',
        ],
        *(['note', note] for note in s.notes),
    ]
    return render_table(rows, ['', 'plan'], style)


def render_pareto(fronts: Sequence[ParetoFront], style: str) -> str:
    """Write the settings that no other beats in both metric and cost as text.

    Args:
        fronts (Sequence[ParetoFront]): The fronts, one or more.
        style (str): One of :data:`~mmdiffdet.reports.text.FORMATS`.
    """
    if style == 'json':
        return json.dumps([asdict(front) for front in fronts], indent=2)
    metric = fronts[0].metric
    columns = ['seconds_per_image', 'seconds 95 %', metric, f'{metric} 95 %']
    columns += ['seeds', 'on_front', 'experiment']
    tables, every = [], []
    for f in fronts:
        rows = [
            [
                number(p['seconds_per_image'], 6),
                _ends(p['seconds_interval'], 6),
                number(p['mean'] if p['mean_of_means'] is None else p['mean_of_means'], 4),
                _ends(p['interval'], 4),
                p['seeds'],
                f'{p["share"]:.0%}',
                p['experiment'],
            ]
            for p in f.front
        ]
        of = [f.dataset, f.annotation_sha256 and f.annotation_sha256[:8], f.device]
        every += [[v or NOT_AVAILABLE for v in of] + row for row in rows]
        where = '; '.join(filter(None, of)) or 'data set and device not recorded'
        tables.append(
            f'{where}\n{render_table(rows, columns, "table")}\n\n'
            f'beaten: {", ".join(f.beaten) or "none"}'
        )
    if style == 'table':
        return one_line('\n\n'.join(tables))
    return render_table(every, ['dataset', 'annotation_sha256', 'device', *columns], style)


def _ends(ends: Any, digits: int) -> str:
    return NOT_AVAILABLE if ends is None else ' to '.join(number(end, digits) for end in ends)


def _side(c: Comparison, side: int) -> str:
    summary = c.summaries[side]
    return (
        f'{(c.a, c.b)[side].label}: {c.metric} {number(summary.mean, 4)}, '
        f'{summary.seeds} runs, across train seeds '
        f'{number(summary.across, 4)}, within {number(summary.within, 4)}'
    )


def _cost(c: Comparison) -> str:
    seconds = [s.seconds_per_image for s in c.summaries]
    text = ' and '.join(f'{name} {number(value, 6)}' for name, value in zip('AB', seconds))
    text += ' seconds per image'
    if None in seconds:
        return text
    if _on_two_devices(c):
        return text + ', on different devices'
    return f'{text}: B takes {seconds[1] / seconds[0]:.2f} times as long'


def _on_two_devices(c: Comparison) -> bool:
    return len({device for e in (c.a, c.b) for device in map(plain, e.runs.device.unique())}) > 1
