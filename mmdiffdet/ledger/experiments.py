"""Experiments, which are runs that may be averaged, and pools that the user names."""

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Dict, List, Optional, Sequence, Tuple

import pandas as pd

from .protocol import PROTOCOL_FIELDS, Protocol
from .reader import plain, where
from .row import METRICS


@dataclass
class Experiment:
    """Runs of one name, protocol and config, or a pool of such runs.

    Args:
        name (str): The name of the experiment.
        protocol (Protocol): The protocol of all runs.
        runs (DataFrame): One run or more, see :class:`~.reader.Results`.
        selectors (dict): The fields that tell it from others of its name.
        label (str): The name, with the selectors that are needed to find it.
        members (tuple): The labels of what a pool is made of.
    """

    name: str
    protocol: Protocol
    runs: pd.DataFrame
    selectors: Dict[str, str]
    label: str = ''
    members: Tuple[str, ...] = ()

    @property
    def checkpoints(self) -> List[Optional[str]]:
        """The different checkpoint hashes, in the order of the runs."""
        return list(map(plain, self.runs.checkpoint_sha256.unique()))

    @property
    def names(self) -> List[str]:
        """The different names of its runs, without seeds and steps."""
        names = self.runs.exp_name.fillna(self.runs.experiment)
        return list(names.str.replace(r'(?<=seed)\d+|_step\d+(?=_|$)', '', regex=True).unique())


def tested_config(runs: pd.DataFrame) -> pd.Series:
    """Return the hash of each run's config, or its path where there is no hash."""
    return runs.config_sha256.fillna(runs.config)


def group(runs: pd.DataFrame) -> List[Experiment]:
    """Put runs together that may be averaged, in the order of their first ones.

    A run that is there twice with the same numbers counts once.
    """
    # ledgers are one whole; any other table stands for itself, as its exp_name is
    # rarely more than a file name
    of = runs.assign(
        tested=tested_config(runs),
        table=runs.source.where(~runs.is_row.astype(bool), None),
        checked=runs.checkpoint_sha256.fillna(runs.checkpoint),
    )
    keys = ['experiment', 'variant', *PROTOCOL_FIELDS, 'tested', 'table']
    of = of.drop_duplicates([*keys, 'checked', 'train_seed', 'eval_seed', *METRICS])
    experiments = []
    for _, members in of.groupby(keys, dropna=False, sort=False):
        first = dict(zip(keys, map(plain, members[keys].iloc[0])))
        protocol = Protocol(**{k: first[k] for k in PROTOCOL_FIELDS})
        selectors = {**dict(first['variant']), **_texts(protocol), 'config': str(first['tested'])}
        selectors['source'] = str(first['table'] or 'ledger')
        members = members[runs.columns]
        experiments.append(Experiment(first['experiment'], protocol, members, selectors))
    _label(experiments)
    return experiments


def select(experiments: Sequence[Experiment], text: str) -> Experiment:
    """Find the experiment that ``NAME`` or ``NAME@field=value,...`` means.

    A hash may be shortened to its beginning.

    Raises:
        ValueError: If none or several match.
    """
    exact = [e for e in experiments if e.label == text]
    # names may have an @ themselves: baseline@iter_500
    name = max(
        (e.name for e in experiments if text == e.name or text.startswith(f'{e.name}@')),
        key=len,
        default=text.partition('@')[0],
    )
    wanted = text[len(name) + 1 :]
    found = exact or [e for e in experiments if e.name == name and _matches(e.selectors, wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        labels = ', '.join(e.label for e in found)
        raise ValueError(f'{text!r} means {len(found)} experiments; choose one of: {labels}')
    near = ', '.join(e.label for e in experiments if name in e.name)
    near = f'is: {near}' if near else 'is none with a name like it'
    raise ValueError(f'no experiment {text!r}; there {near}')


def pool(experiments: Sequence[Experiment], name: str, patterns: Sequence[str] = ()) -> Experiment:
    """Make one experiment out of several, because the user says so.

    Args:
        experiments (Sequence[Experiment]): The experiments to choose from.
        name (str): The name of the pool.
        patterns (Sequence[str]): Labels with ``*`` and ``?``. Without one, all
            experiments are chosen.

    Raises:
        ValueError: If a pattern finds nothing, if protocols differ, or if a
            (train seed, eval seed) would count twice.
    """
    chosen: List[Experiment] = []
    for pattern in patterns or ['*']:
        found = [e for e in experiments if fnmatchcase(e.label, pattern)]
        if not found:
            raise ValueError(f'pool {name}: no experiment matches {pattern!r}')
        chosen += [e for e in found if e.label not in {c.label for c in chosen}]
    if any(e.name == name for e in experiments):
        raise ValueError(f'pool {name}: an experiment has that name already')
    first = chosen[0]
    for member in chosen:
        differs = first.protocol.differs(member.protocol)
        if differs:
            raise ValueError(
                f'pool {name}: {first.label} and {member.label} have '
                f'different protocols: {describe(differs)}\n'
                f'  {first.protocol}\n  {member.protocol}'
            )
    runs = pd.concat([e.runs for e in chosen])
    for run in runs[runs.train_seed.isna()].itertuples():
        raise ValueError(f'pool {name}: {where(run)} has no train_seed, so it may count twice')
    seeds = ['train_seed', 'eval_seed']
    for run in runs[runs.duplicated(seeds)].itertuples():
        same = runs[(runs.train_seed == run.train_seed) & (runs.eval_seed == run.eval_seed)]
        raise ValueError(
            f'pool {name}: train seed {run.train_seed}, eval seed {run.eval_seed} '
            f'is in {where(same.iloc[0])} and in {where(run)}; choose '
            'one of the two by patterns after the name'
        )
    members = tuple(e.label for e in chosen)
    return Experiment(name, first.protocol, runs, _texts(first.protocol), name, members)


def describe(differs: Dict[str, tuple]) -> str:
    """Return fields that differ, with the values of both sides, as text."""
    return ', '.join(
        f'{name} ' + ' against '.join('not recorded' if v is None else str(v) for v in values)
        for name, values in differs.items()
    )


def _texts(protocol: Protocol) -> Dict[str, str]:
    return {k: str(v) for k, v in asdict(protocol).items()}


def _matches(selectors: Dict[str, str], wanted: str) -> bool:
    for part in filter(None, wanted.split(',')):
        key, _, value = part.partition('=')
        there = selectors.get(key)
        if value != there and not (_hashed(key) and value and (there or '').startswith(value)):
            return False
    return True


def _hashed(key: str) -> bool:
    """Whether a selector is a hash, which may be shortened to its beginning."""
    return key == 'config' or key.endswith('sha256')


def _label(experiments: Sequence[Experiment]) -> None:
    """Give labels with the fewest selectors that keep experiments of a name apart."""
    for name in dict.fromkeys(e.name for e in experiments):
        same = [e for e in experiments if e.name == name]
        if len(same) == 1:
            same[0].label = name
            continue
        table = pd.DataFrame([e.selectors for e in same])
        # the longest ones go first, e.g. a path that repeats a number
        for key in sorted(table, key=lambda k: -table[k].str.len().max()):
            rest = table.drop(columns=key)
            if len(rest.columns) and not rest.duplicated().any():
                table = rest
        # eight digits of a hash do, unless two begin alike
        short = table.apply(lambda column: column.str[:8] if _hashed(column.name) else column)
        shown = table if short.duplicated().any() else short
        for experiment, row in zip(same, shown.to_dict('records')):
            selected = ','.join(f'{k}={v}' for k, v in row.items() if plain(v) is not None)
            experiment.label = f'{name}@{selected}'
