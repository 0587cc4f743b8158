"""Experiments and comparisons as a table, TSV, Markdown, JSON or HTML."""

import json
from dataclasses import asdict, fields
from typing import Any, Dict, List, Sequence

import pandas as pd

from .comparison import Comparison
from .experiments import Experiment, tested_config
from .pareto import ParetoFront
from .problems import contradicts_itself
from .protocol import NOT_AVAILABLE, PROTOCOL_FIELDS, Protocol
from .reader import plain
from .statistics import Summary, summarise
from .study import Study
from .text import one_line, render_table

Record = Dict[str, Any]
_DIGITS = dict(mean=4, std=4, mean_of_means=4, across=4, within=4, seconds_per_image=6)


def summary_records(
    experiments: Sequence[Experiment], stated: pd.DataFrame, metric: str
) -> List[Record]:
    """A record an experiment, then those that are stated without runs.

    Args:
        experiments (Sequence[Experiment]): What to summarise.
        stated (DataFrame): Stated means, shown as they are for metric AP.
        metric (str): Name of the metric.
    """
    records = []
    for experiment in experiments:
        records.append(
            {
                'experiment': experiment.label,
                **asdict(summarise(experiment.runs, metric)),
                'checkpoints': experiment.checkpoints,
                'contradictory': bool(contradicts_itself(experiment)),
                'pool_of': list(experiment.members),
                **asdict(experiment.protocol),
            }
        )
    for item in stated.itertuples() if metric == 'AP' else ():
        variant = ','.join(f'{k}={v}' for k, v in item.variant)
        records.append(
            {
                **dict.fromkeys(f.name for f in fields(Summary)),
                'experiment': f'{item.experiment}@{variant}',
                'seeds': 'stated',
                'mean': item.mean,
                'std': item.std,
                'checkpoints': [],
                'contradictory': False,
                'pool_of': [],
                **asdict(Protocol(sample_step=plain(item.sample_step))),
            }
        )
    return records


def render_summary(
    records: Sequence[Record], problems: Sequence[str], metric: str, style: str
) -> str:
    """Text of the summary.

    Args:
        records (Sequence[Record]): Of :func:`summary_records`.
        problems (Sequence[str]): Part of JSON only; else they are for the
            error stream.
        metric (str): For the heading.
        style (str): One of :data:`~mmdiffdet.ledger.text.FORMATS`.
    """
    if style == 'json':
        return json.dumps(
            dict(metric=metric, experiments=list(records), problems=list(problems)), indent=2
        )
    shown = ['n', 'seeds', *_DIGITS, 'checkpoint', 'experiment']
    rows = [dict(_cells(r), experiment=_name(r)) for r in records]
    if style != 'table':
        columns = ['experiment', *shown[:-1], *PROTOCOL_FIELDS]
        return render_table([[r[c] for c in columns] for r in rows], columns, style)
    # the same protocol in neighbouring lines, whatever the files' order
    order: Dict[Protocol, List[Record]] = {}
    for record, row in zip(records, rows):
        protocol = Protocol(**{k: record[k] for k in PROTOCOL_FIELDS})
        order.setdefault(protocol, []).append(row)
    body = [[r[c] for c in shown] for rows in order.values() for r in rows]
    lines = render_table(body, shown, 'table').split('\n')
    text = [f'{metric}; deviations are of the population', lines[0]]
    start = 1
    for protocol, of_protocol in order.items():
        text += ['', one_line(f'protocol: {protocol}')]
        text += lines[start : start + len(of_protocol)]
        start += len(of_protocol)
    return '\n'.join(text)


def render_comparisons(comparisons: Sequence[Comparison], style: str) -> str:
    """Text of comparisons; JSON has a list of them if there are several.

    Args:
        comparisons (Sequence[Comparison]): What to tell.
        style (str): One of :data:`~mmdiffdet.ledger.text.FORMATS`.
    """
    if style != 'json':
        return '\n\n'.join(render_comparison(c, style) for c in comparisons)
    records = [_comparison_record(c) for c in comparisons]
    return json.dumps(records if len(records) > 1 else records[0], indent=2)


def _comparison_record(c: Comparison) -> Record:
    return dict(
        a=c.a.label,
        b=c.b.label,
        metric=c.metric,
        summary_a=asdict(c.summaries[0]),
        summary_b=asdict(c.summaries[1]),
        pairing=c.pairing,
        used=c.used,
        unit=c.unit,
        units=c.units,
        difference=c.difference,
        interval=[c.low, c.high],
        tests=[t._asdict() for t in c.tests],
        decisive=c.decisive and c.decisive.name,
        variance=c.spread._asdict(),
        verdict=c.verdict,
        speaks_of=c.scope,
        more_runs=c.more,
        notes=c.notes,
        **({} if c.corrected is None else dict(corrected_p=c.corrected)),
    )


def render_comparison(c: Comparison, style: str) -> str:
    """Text of a comparison, in any style but JSON."""
    interval = 'no interval'
    if c.low is not None:
        interval = f'95 % hierarchical bootstrap interval {c.low:+.4f} to {c.high:+.4f}'
    tests = '; '.join(
        f'{t.name} p = {t.p:.4f}' + (' (decides)' if t is c.decisive else '') for t in c.tests
    )
    if c.corrected is not None:
        tests += f'; corrected for the number of comparisons (Holm) p = {c.corrected:.4f}'
    runs = f'{c.used[0]} and {c.used[1]} runs'
    verdict = f'B is {c.verdict} than A, with {runs}'
    if c.verdict == 'not distinguishable':
        verdict = f'not distinguishable with {runs}'
    rows = [
        ['A', _side(c, 0)],
        ['B', _side(c, 1)],
        ['protocol', str(c.a.protocol)],
        ['runs', c.pairing],
        ['B - A', f'{c.difference:+.4f} {c.metric}; {interval}'],
        ['test', f'{tests}; unit: {c.unit}' if tests else 'none'],
        ['cost', _cost(c)],
        ['verdict', f'{verdict}; this speaks of {c.scope}'],
        ['more runs', c.more],
        *(['note', note] for note in c.notes),
    ]
    if c.a.protocol != c.b.protocol:
        rows.insert(3, ['protocol of B', str(c.b.protocol)])
    return render_table(rows, ['', 'comparison'], style)


def render_study(study: Study, style: str) -> str:
    """Text of what a study could show.

    Args:
        study (Study): To tell.
        style (str): One of :data:`~mmdiffdet.ledger.text.FORMATS`.
    """
    s = study
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
    """Text of the settings that no other beats in both metric and cost.

    Args:
        fronts (Sequence[ParetoFront]): What to tell.
        style (str): One of :data:`~mmdiffdet.ledger.text.FORMATS`.
    """
    records = [
        dict(
            metric=front.metric,
            dataset=front.dataset,
            annotation_sha256=front.annotation_sha256,
            device=front.device,
            front=[
                dict(
                    experiment=p.experiment.label,
                    **asdict(p.summary),
                    interval=p.interval,
                    seconds_interval=p.seconds_interval,
                    share=p.share,
                    **asdict(p.experiment.protocol),
                )
                for p in front.points
            ],
            beaten=front.beaten,
        )
        for front in fronts
    ]
    if style == 'json':
        return json.dumps(records, indent=2)
    columns = ['seconds_per_image', '95 %', 'mean', '95 %', 'seeds', 'on_front', 'experiment']
    parts = []
    for record in records:
        rows = [
            [
                _text(p['seconds_per_image'], 6),
                _ends(p['seconds_interval'], 6),
                _text(p['mean'], 4),
                _ends(p['interval'], 4),
                p['seeds'],
                f'{p["share"]:.0%}',
                p['experiment'],
            ]
            for p in record['front']
        ]
        table = render_table(rows, columns, style)
        if style == 'table':
            table = one_line(
                f'{record["metric"]} against seconds an image: {record["dataset"]}, '
                f'{record["device"]}\n{table}\nbeaten: {", ".join(record["beaten"]) or "none"}'
            )
        parts.append(table)
    return '\n\n'.join(parts)


def _ends(ends: Any, digits: int) -> str:
    return NOT_AVAILABLE if ends is None else ' to '.join(_text(end, digits) for end in ends)


def render_manifest(
    experiments: Sequence[Experiment], records: Sequence[Record], metrics: Sequence[str]
) -> str:
    """The index of all experiments, a TSV.

    Args:
        experiments (Sequence[Experiment]): In the order of the records.
        records (Sequence[Record]): Of :func:`summary_records`, for AP.
        metrics (Sequence[str]): Whose means to list too.
    """
    columns = [
        'experiment',
        'n',
        'seeds',
        *_DIGITS,
        *(f'mean_{m}' for m in metrics),
        'checkpoint_sha256',
        'config',
        *PROTOCOL_FIELDS,
        'pool_of',
        'sources',
    ]
    rows = []
    for i, record in enumerate(records):
        runs = experiments[i].runs if i < len(experiments) else None
        cells = dict.fromkeys(columns, NOT_AVAILABLE)
        cells.update(_cells(record))
        cells.update(
            experiment=record['experiment'],
            checkpoint_sha256=_join(record['checkpoints']),
            pool_of=_join(record['pool_of']),
        )
        if runs is not None:
            cells.update({f'mean_{m}': _text(summarise(runs, m).mean, 4) for m in metrics})
            cells.update(
                config=_join(map(plain, tested_config(runs).unique())),
                sources=_join(map(str, runs.source.unique())),
            )
        rows.append([cells[c] for c in columns])
    return render_table(rows, columns, 'tsv') + '\n'


def _side(c: Comparison, side: int) -> str:
    summary = c.summaries[side]
    return (
        f'{(c.a, c.b)[side].label}: {c.metric} {_text(summary.mean, 4)}, '
        f'{summary.seeds} runs, across train seeds '
        f'{_text(summary.across, 4)}, within {_text(summary.within, 4)}'
    )


def _cost(c: Comparison) -> str:
    seconds = [s.seconds_per_image for s in c.summaries]
    text = ' and '.join(f'{name} {_text(value, 6)}' for name, value in zip('AB', seconds))
    devices = {device for e in (c.a, c.b) for device in map(plain, e.runs.device.unique())}
    text += ' seconds per image'
    if None in seconds:
        return text
    if len(devices) > 1:
        return text + ', on different devices'
    return f'{text}: B takes {seconds[1] / seconds[0]:.2f} times as long'


def _name(record: Record) -> str:
    text = record['experiment']
    if record['pool_of']:
        text += f' (pool of {len(record["pool_of"])})'
    return text + (' (contradictory)' if record['contradictory'] else '')


def _cells(record: Record) -> Dict[str, str]:
    """Each value as text."""
    cells = {k: _text(v, _DIGITS.get(k)) for k, v in record.items() if not isinstance(v, list)}
    shas = [s[:8] for s in record['checkpoints'] if s]
    cells['checkpoint'] = shas[0] if shas else NOT_AVAILABLE
    if len(record['checkpoints']) > 1:
        cells['checkpoint'] += f' +{len(record["checkpoints"]) - 1}'
    return cells


def _text(value: Any, digits: Any = None) -> str:
    if value is None:
        return NOT_AVAILABLE
    return str(value) if digits is None else f'{value:.{digits}f}'


def _join(values: Any) -> str:
    return ','.join(v for v in values if v) or NOT_AVAILABLE
