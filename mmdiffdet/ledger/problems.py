"""Rows that repeat or contradict each other, or should not be averaged."""

from typing import Dict, Iterable, Iterator, List, Sequence

import pandas as pd

from .experiments import Experiment, group, tested_config
from .protocol import PROTOCOL_FIELDS
from .reader import Results, listed, plain, where
from .row import METRICS
from .statistics import summarise

_TEST = ['checkpoint_sha256', 'tested', 'variant', *PROTOCOL_FIELDS, 'eval_seed']
"""What makes two runs the same test."""


def find_problems(results: Results) -> List[str]:
    """Return what a reader of all these results should know, a sentence each."""
    experiments = group(results.runs)
    labels = pd.concat([e.runs.assign(label=e.label).label for e in experiments] or [pd.Series()])
    runs = results.runs.assign(
        label=labels.reindex(results.runs.index).fillna(results.runs.experiment),
        tested=tested_config(results.runs),
    )
    return [
        *_same_test(runs),
        *_same_numbers(runs),
        *_checkpoints(experiments),
        *_train_seeds(runs),
        *_stated(results),
    ]


def contradicts_itself(experiment: Experiment) -> List[str]:
    """Return sentences on why an experiment's mean means nothing, or none."""
    runs = experiment.runs.assign(label=experiment.label)
    problems = [*_checkpoints([experiment]), *_train_seeds(runs)]
    if not problems and experiment.runs.duplicated(['train_seed', 'eval_seed']).any():
        problems.append(f'{experiment.label}: a (train seed, eval seed) has several results')
    return problems


def mixed_configs(experiment: Experiment) -> List[str]:
    """Return a sentence if a pool has runs of several configs, or none."""
    configs = tested_config(experiment.runs).dropna().unique()
    if len(configs) < 2:
        return []
    known = experiment.runs.config_sha256.notna().all()
    shown = sorted(config[:8] if known else config for config in configs)
    return [
        f'{experiment.label} mixes runs of {len(configs)} configs, '
        f'{", ".join(shown[:-1])} and {shown[-1]}: its mean and spread are of no one setting'
    ]


def _repeated(runs: pd.DataFrame, keys: List[str]) -> Iterator[pd.DataFrame]:
    """Yield the runs that are equal in all keys, two or more at a time."""
    repeated = runs[runs.duplicated(keys, keep=False)]
    yield from (same for _, same in repeated.groupby(keys, dropna=False, sort=False))


def _same_test(runs: pd.DataFrame) -> Iterable[str]:
    """Tell of runs with the same checkpoint hash, config, protocol and eval seed."""
    found: Dict[tuple, List[pd.DataFrame]] = {}
    for same in _repeated(runs.dropna(subset='checkpoint_sha256'), _TEST):
        differ = len(same.drop_duplicates(list(METRICS))) > 1
        key = (differ, same.checkpoint_sha256.iloc[0], tuple(same.label.unique()))
        found.setdefault(key, []).append(same)
    for (differ, sha, labels), tests in sorted(found.items(), key=lambda item: not item[0][0]):
        seeds = listed(pd.concat(tests).eval_seed)
        about = f'checkpoint {sha[:8]}, eval seed {seeds}, in {" and ".join(labels)}'
        if differ:
            values = ' against '.join(f'{r.AP} ({where(r)})' for r in tests[0].itertuples())
            yield (
                f'contradiction: same checkpoint, protocol and seed, '
                f'different results: {about}; e.g. AP {values}. What set '
                'them apart was not recorded, or the test does not repeat'
            )
        else:
            places = ' and '.join(where(r) for r in tests[0].itertuples())
            yield f'duplicate: {about}; e.g. {places}'


def _same_numbers(runs: pd.DataFrame) -> Iterable[str]:
    """Tell of runs that are equal in all metrics, though not known to be one test."""
    found: Dict[tuple, List[int]] = {}
    # a detector that finds nothing equals any other that does not, and one or
    # two numbers may be equal by chance
    scored = runs.dropna(subset=METRICS, thresh=3)[lambda r: r.AP != 0]
    for same in _repeated(scored, ['eval_seed', *METRICS]):
        no_hash = same.checkpoint_sha256.isna().any()
        if no_hash or len(same.drop_duplicates(_TEST)) > 1:
            found.setdefault(tuple(same.label.unique()), []).append(same.eval_seed.iloc[0])
    for labels, seeds in found.items():
        yield (
            f'same numbers to the last digit: eval seed {listed(seeds)} in '
            f'{" and ".join(labels)}; either one is a copy, or what sets '
            'them apart had no effect'
        )


def _checkpoints(experiments: Sequence[Experiment]) -> Iterable[str]:
    for experiment in experiments:
        runs = experiment.runs.dropna(subset='checkpoint_sha256')
        by_seed = runs.groupby('train_seed', sort=False, dropna=False).checkpoint_sha256.unique()
        for seed, shas in by_seed.items():
            if len(shas) > 1:
                who = f'train seed {seed} has'
                if plain(seed) is None:
                    who = 'its runs without a train seed have'
                yield (
                    f'{experiment.label}: {who} {len(shas)} checkpoints '
                    f'({", ".join(sorted(s[:8] for s in shas))}); they are '
                    'no replicates, give each an exp_name of its own'
                )
        unknown = experiment.runs[experiment.runs.train_seed.isna()]
        if 0 < len(unknown) < len(experiment.runs):
            yield (
                f'{experiment.label}: {len(unknown)} run{"s" * (len(unknown) > 1)} without a train '
                f'seed ({where(unknown.iloc[0])}) beside others that have one may be of the same '
                'training; give them an exp_name of their own'
            )


def _train_seeds(runs: pd.DataFrame) -> Iterable[str]:
    known = runs.dropna(subset=['train_seed', 'checkpoint_sha256'])
    first = known.drop_duplicates(['checkpoint_sha256', 'train_seed'])
    for same in _repeated(first, ['checkpoint_sha256']):
        yield (
            f'contradiction: checkpoint {same.checkpoint_sha256.iloc[0][:8]} has several train '
            'seeds: '
            + ', '.join(f'{r.train_seed} ({where(r)})' for r in same.itertuples())
            + f', in {" and ".join(same.label.unique())}; it is one training, not several'
        )


def _stated(results: Results) -> Iterable[str]:
    """Compare stated means with the runs of the table that they name."""
    files = results.runs.source.map(lambda path: path.resolve())
    for item in results.stated.itertuples():
        of_file = results.runs[files == (item.source.parent / item.runs_file).resolve()]
        said = f'states {item.mean} / {item.std}'
        if of_file.empty:
            yield f'{where(item)}: {said} of {item.runs_file}, which was not read'
            continue
        found = summarise(of_file)
        pairs = (found.mean, item.mean), (found.std, item.std)
        # half a unit of the fifth decimal, as the statement has five
        if any(a is None or abs(a - b) > 5.1e-6 for a, b in pairs):
            given = ' / '.join('n/a' if a is None else f'{a:.5f}' for a, _ in pairs)
            yield f'contradiction: {where(item)} {said}, the runs of {item.runs_file} give {given}'
