"""Runs that may be averaged, by name; pools that the user names."""

import re
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from .protocol import Protocol
from .runs import Run


@dataclass
class Experiment:
    """Runs of one protocol and one config.

    Args:
        name (str): Of the experiment.
        protocol (Protocol): Shared by all runs.
        runs (List[Run]): At least one.
        selectors (dict): Fields that tell it from others of its name.
        label (str): Name, and the selectors that are needed to find it.
        members (tuple): Labels of what a pool is made of.
    """

    name: str
    protocol: Protocol
    runs: List[Run]
    selectors: Dict[str, str]
    label: str = ''
    members: Tuple[str, ...] = ()

    @property
    def checkpoints(self) -> List[Optional[str]]:
        """The different checkpoint hashes, as they first occur."""
        return list(dict.fromkeys(r.checkpoint_sha256 for r in self.runs))

    @property
    def recipes(self) -> List[str]:
        """The different names in it, apart from seeds and steps."""
        return list(
            dict.fromkeys(
                re.sub(r'(?<=seed)\d+|_step\d+(?=_|$)', '', r.exp_name or r.experiment)
                for r in self.runs
            )
        )


@dataclass
class _Groups:
    members: Dict[tuple, List[Run]] = field(default_factory=dict)

    def add(self, run: Run) -> None:
        # a ledger is one whole with other ledgers; any other table stands
        # for itself, as its exp_name is rarely more than a file name
        source = None if run.row else run.source
        key = (run.experiment, run.variant, run.protocol, run.config_sha256 or run.config, source)
        self.members.setdefault(key, []).append(run)


def group(runs: Iterable[Run]) -> List[Experiment]:
    """Put runs together that may be averaged.

    Args:
        runs (Iterable[Run]): Of any number of experiments. A run that is
            there twice with the same numbers counts once.

    Returns:
        List[Experiment]: In the order of their first run.
    """
    groups = _Groups()
    for run in runs:
        groups.add(run)
    experiments = []
    for (name, variant, protocol, config, source), members in groups.members.items():
        selectors = {
            **dict(variant),
            **{k: str(v) for k, v in asdict(protocol).items()},
            'config': str(config),
            'source': str(source or 'ledger'),
        }
        experiments.append(Experiment(name, protocol, _once(members), selectors))
    _label(experiments)
    return experiments


def select(experiments: Sequence[Experiment], text: str) -> Experiment:
    """The experiment that ``NAME`` or ``NAME@field=value,...`` means.

    Args:
        experiments (Sequence[Experiment]): To choose from.
        text (str): A name or a label; values may be shortened to their
            beginning, as for hashes.

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
        experiments (Sequence[Experiment]): To choose from.
        name (str): Of the pool.
        patterns (Sequence[str]): Labels; ``*`` and ``?`` are wild cards. All
            experiments if there is none.

    Raises:
        ValueError: If a pattern finds nothing, if protocols differ, or if a
            (train seed, eval seed) would count twice.
    """
    chosen: List[Experiment] = []
    for pattern in patterns or ['*']:
        found = [e for e in experiments if fnmatchcase(e.label, pattern)]
        if not found:
            raise ValueError(f'pool {name}: no experiment matches {pattern!r}')
        chosen += [e for e in found if e not in chosen]
    if any(e.name == name for e in experiments):
        raise ValueError(f'pool {name}: an experiment has that name already')
    first = chosen[0]
    seeds: Dict[tuple, Run] = {}
    for member in chosen:
        differs = first.protocol.differs(member.protocol)
        if differs:
            raise ValueError(
                f'pool {name}: {first.label} and {member.label} have '
                f'different protocols: {describe(differs)}\n'
                f'  {first.protocol}\n  {member.protocol}'
            )
        for run in member.runs:
            seed = run.train_seed, run.eval_seed
            if run.train_seed is None:
                raise ValueError(
                    f'pool {name}: {run.where} has no train_seed, so it may count twice'
                )
            if seed in seeds:
                raise ValueError(
                    f'pool {name}: train seed {seed[0]}, eval seed {seed[1]} '
                    f'is in {seeds[seed].where} and in {run.where}; choose '
                    'one of the two by patterns after the name'
                )
            seeds[seed] = run
    selectors = {k: str(v) for k, v in asdict(first.protocol).items()}
    return replace(
        first,
        name=name,
        label=name,
        runs=[r for e in chosen for r in e.runs],
        selectors=selectors,
        members=tuple(e.label for e in chosen),
    )


def describe(differs: Dict[str, tuple]) -> str:
    """Fields that differ, as text."""
    return ', '.join(
        f'{name} ' + ' against '.join('not recorded' if v is None else str(v) for v in values)
        for name, values in differs.items()
    )


def _once(runs: Sequence[Run]) -> List[Run]:
    kept = {}
    for run in runs:
        checkpoint = run.checkpoint_sha256 or run.checkpoint
        key = (checkpoint, run.train_seed, run.eval_seed, tuple(run.metrics.values()))
        kept.setdefault(key, run)
    return list(kept.values())


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
    for same in by_name.values():
        keys = list(dict.fromkeys(k for e in same for k in e.selectors))

        def text(e: Experiment, keys: Sequence[str], short: bool = False) -> str:
            return ','.join(
                f'{k}={e.selectors[k][: 8 if short and _hashed(k) else None]}'
                for k in keys
                if k in e.selectors
            )

        # the longest ones go first, e.g. a path that repeats a number
        for key in sorted(keys, key=lambda k: -max(len(e.selectors.get(k, '')) for e in same)):
            rest = [k for k in keys if k != key]
            if len({text(e, rest) for e in same}) == len(same):
                keys = rest
        # eight digits of a hash do, unless two begin alike
        short = len({text(e, keys, True) for e in same}) == len(same)
        for experiment in same:
            selected = text(experiment, keys, short)
            experiment.label = experiment.name + (selected and f'@{selected}')
