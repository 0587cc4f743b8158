"""Means and spreads of experiments as a table, TSV, Markdown, JSON or HTML."""

import json
from dataclasses import asdict, fields
from itertools import zip_longest
from typing import Any, Dict, List, Sequence, Tuple

import pandas as pd

from ..ledger.experiments import Experiment, tested_config
from ..ledger.problems import contradicts_itself
from ..ledger.protocol import NOT_AVAILABLE, PROTOCOL_FIELDS, Protocol
from ..ledger.reader import plain
from ..ledger.statistics import Summary, summarise
from .text import one_line, render_table

Record = Dict[str, Any]
_DIGITS = dict(mean=4, std=4, mean_of_means=4, across=4, within=4, seconds_per_image=6)
_SHOWN = ('n', 'seeds', *_DIGITS, 'checkpoint')


def summary_records(
    experiments: Sequence[Experiment], stated: pd.DataFrame, metric: str
) -> List[Record]:
    """Summarise each experiment as a record, and then what is stated without runs.

    Args:
        experiments (Sequence[Experiment]): What to summarise.
        stated (DataFrame): Stated means, which are shown as they are for metric AP.
        metric (str): The name of the metric.
    """
    records = [
        {
            'experiment': experiment.label,
            **asdict(summarise(experiment.runs, metric)),
            'checkpoints': experiment.checkpoints,
            'contradictory': bool(contradicts_itself(experiment)),
            'pool_of': list(experiment.members),
            **asdict(experiment.protocol),
        }
        for experiment in experiments
    ]
    for item in stated.itertuples() if metric == 'AP' else ():
        variant = ','.join(f'{k}={v}' for k, v in item.variant)
        records.append(
            {
                **dict.fromkeys(f.name for f in fields(Summary)),
                'experiment': f'{item.experiment}@{variant}',
                **dict(seeds='stated', mean=item.mean, std=item.std),
                **dict(checkpoints=[], contradictory=False, pool_of=[]),
                **asdict(Protocol(sample_step=plain(item.sample_step))),
            }
        )
    return records


def summary_table(records: Sequence[Record]) -> Tuple[List[str], List[List[str]]]:
    """Return the names of the summary's columns, and its rows as text of cells."""
    columns = ['experiment', *_SHOWN, *PROTOCOL_FIELDS]
    rows = [dict(_cells(r), experiment=_name(r)) for r in records]
    return columns, [[r[c] for c in columns] for r in rows]


def render_summary(
    records: Sequence[Record], problems: Sequence[str], metric: str, style: str
) -> str:
    """Write the summary as text.

    Args:
        records (Sequence[Record]): The records of :func:`summary_records`.
        problems (Sequence[str]): Problems, which are a part of JSON only. Else they
            are for the error stream.
        metric (str): The name of the metric, for the heading.
        style (str): One of :data:`~mmdiffdet.reports.text.FORMATS`.
    """
    if style == 'json':
        return json.dumps(
            dict(metric=metric, experiments=list(records), problems=list(problems)), indent=2
        )
    if style != 'table':
        columns, cells = summary_table(records)
        return render_table(cells, columns, style)
    shown = [*_SHOWN, 'experiment']
    body = [[dict(_cells(r), experiment=_name(r))[c] for c in shown] for r in records]
    head, *lines = render_table(body, shown, 'table').split('\n')
    # the same protocol in neighbouring lines, whatever the files' order
    order: Dict[Protocol, List[str]] = {}
    for record, line in zip(records, lines):
        protocol = Protocol(**{k: record[k] for k in PROTOCOL_FIELDS})
        order.setdefault(protocol, []).append(line)
    text = [f'{metric}; deviations are of the population', head]
    for protocol, lines in order.items():
        text += ['', one_line(f'protocol: {protocol}'), *lines]
    return '\n'.join(text)


def render_manifest(
    experiments: Sequence[Experiment], records: Sequence[Record], metrics: Sequence[str]
) -> str:
    """Write the index of all experiments, a TSV file.

    Args:
        experiments (Sequence[Experiment]): The experiments, in the order of the records.
        records (Sequence[Record]): The records of :func:`summary_records` for AP.
        metrics (Sequence[str]): The other metrics whose means are listed.
    """
    columns = ['experiment', 'n', 'seeds', *_DIGITS, *(f'mean_{m}' for m in metrics)]
    columns += ['checkpoint_sha256', 'config', *PROTOCOL_FIELDS, 'pool_of', 'sources']
    rows = []
    for record, experiment in zip_longest(records, experiments):
        cells = dict.fromkeys(columns, NOT_AVAILABLE)
        cells.update(_cells(record))
        cells.update(
            experiment=record['experiment'],
            checkpoint_sha256=_join(record['checkpoints']),
            pool_of=_join(record['pool_of']),
        )
        if experiment is not None:
            runs = experiment.runs
            cells.update({f'mean_{m}': number(summarise(runs, m).mean, 4) for m in metrics})
            cells.update(
                config=_join(map(plain, tested_config(runs).unique())),
                sources=_join(map(str, runs.source.unique())),
            )
        rows.append([cells[c] for c in columns])
    return render_table(rows, columns, 'tsv') + '\n'


def _name(record: Record) -> str:
    text = record['experiment']
    if record['pool_of']:
        text += f' (pool of {len(record["pool_of"])})'
    return text + (' (contradictory)' if record['contradictory'] else '')


def _cells(record: Record) -> Dict[str, str]:
    """Return each value as text."""
    cells = {k: number(v, _DIGITS.get(k)) for k, v in record.items() if not isinstance(v, list)}
    shas = [s[:8] for s in record['checkpoints'] if s]
    cells['checkpoint'] = shas[0] if shas else NOT_AVAILABLE
    if len(record['checkpoints']) > 1:
        cells['checkpoint'] += f' +{len(record["checkpoints"]) - 1}'
    return cells


def number(value: Any, digits: Any = None) -> str:
    """Return a value as text, with so many digits after the point."""
    if value is None:
        return NOT_AVAILABLE
    return str(value) if digits is None else f'{value:.{digits}f}'


def _join(values: Any) -> str:
    return ','.join(v for v in values if v) or NOT_AVAILABLE
