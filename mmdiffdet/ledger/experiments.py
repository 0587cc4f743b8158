"""Runs that may be averaged, by name; pools that the user names."""

from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Dict, List, Optional, Sequence, Tuple

import pandas as pd

from .protocol import PROTOCOL_FIELDS, Protocol
from .reader import plain, where
from .row import METRICS


@dataclass
class Experiment:
    """Runs of one protocol and one config.

    Args:
        name (str): Name of the experiment.
        protocol (Protocol): What all runs share.
        runs (DataFrame): One or more, see :class:`~.reader.Results`.
        selectors (dict): Fields that tell it from others of its name.
        label (str): Name, and the selectors that are needed to find it.
        members (tuple): Labels of what a pool is made of.
    """

    name: str
    protocol: Protocol
    runs: pd.DataFrame
    selectors: Dict[str, str]
    label: str = ''
    members: Tuple[str, ...] = ()

    @property
    def checkpoints(self) -> List[Optional[str]]:
        """The different checkpoint hashes, as they first occur."""
        return list(map(plain, self.runs.checkpoint_sha256.unique()))

    @property
    def recipes(self) -> List[str]:
        """The different names in it, apart from seeds and steps."""
        names = self.runs.exp_name.fillna(self.runs.experiment)
        return list(names.str.replace(r'(?<=seed)\d+|_step\d+(?=_|$)', '', regex=True).unique())


def tested_config(runs: pd.DataFrame) -> pd.Series:
    """The hash of each run's config, or its path where that is all there is."""
    return runs.config_sha256.fillna(runs.config)


def group(runs: pd.DataFrame) -> List[Experiment]:
    """Put runs together that may be averaged, in the order of the first one of
    each experiment. A run that is there twice with the same numbers counts once."""
    # a ledger is one whole with other ledgers; any other table stands for
    # itself, as its exp_name is rarely more than a file name
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
        selectors = {
            **dict(first['variant']),
            **{k: str(v) for k, v in asdict(protocol).items()},
            'config': str(first['tested']),
            'source': str(first['table'] or 'ledger'),
        }
        members = members[runs.columns]
        experiments.append(Experiment(first['experiment'], protocol, members, selectors))
    _label(experiments)
    return experiments


def select(experiments: Sequence[Experiment], text: str) -> Experiment:
    """The experiment that ``NAME`` or ``NAME@field=value,...`` means.

    Hashes may be shortened to their beginning.

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
        raise ValueError(
            f'{text!r} means {len(found)} experiments; choose one of: '
            + ', '.join(e.label for e in found)
        )
    near = [e.label for e in experiments if name in e.name]
    raise ValueError(
        f'no experiment {text!r}; there '
        + (f'is: {", ".join(near)}' if near else 'is none with a name like it')
    )


def pool(experiments: Sequence[Experiment], name: str, patterns: Sequence[str] = ()) -> Experiment:
    """One experiment out of several, because the user says so.

    Args:
        experiments (Sequence[Experiment]): Experiments to choose from.
        name (str): Name of the pool.
        patterns (Sequence[str]): Labels with ``*`` and ``?``; all if there is
            none.

    Raises:
        ValueError: If a pattern finds nothing, if protocols differ, or if a
            (train seed, eval seed) would count twice.
    """
    chosen: List[Experiment] = []
    for pattern in patterns or ['*']:
        found = [e for e in experiments if fnmatchcase(e.label, pattern)]
        if not found:
            raise ValueError(f'pool {name}: no experiment matches {pattern!r}')
        chosen += [e for e in found if not any(e is c for c in chosen)]
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
    selectors = {k: str(v) for k, v in asdict(first.protocol).items()}
    members = tuple(e.label for e in chosen)
    return replace(first, name=name, label=name, runs=runs, selectors=selectors, members=members)


def describe(differs: Dict[str, tuple]) -> str:
    """Fields that differ, as text."""
    return ', '.join(
        f'{name} ' + ' against '.join('not recorded' if v is None else str(v) for v in values)
        for name, values in differs.items()
    )


def _matches(selectors: Dict[str, str], wanted: str) -> bool:
    for part in filter(None, wanted.split(',')):
        key, _, value = part.partition('=')
        if value != selectors.get(key):
            if not (_hashed(key) and value and selectors.get(key, '').startswith(value)):
                return False
    return True


def _hashed(key: str) -> bool:
    """Whether a selector may be shortened to its beginning."""
    return key == 'config' or key.endswith('sha256')


def _label(experiments: Sequence[Experiment]) -> None:
    """Labels with the fewest selectors that keep them apart."""
    by_name: Dict[str, List[Experiment]] = {}
    for experiment in experiments:
        by_name.setdefault(experiment.name, []).append(experiment)
    for name, same in by_name.items():
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
        for experiment, row in zip(
            same, (table if short.duplicated().any() else short).to_dict('records')
        ):
            selected = ','.join(f'{k}={v}' for k, v in row.items() if plain(v) is not None)
            experiment.label = f'{name}@{selected}'
