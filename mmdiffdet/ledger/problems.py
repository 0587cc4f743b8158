"""Rows that repeat or contradict each other."""

from typing import Dict, Iterable, List, Sequence, Tuple

from .experiments import Experiment, group
from .runs import Results, Run, Stated
from .statistics import summarise


def find_problems(results: Results) -> List[str]:
    """What a reader of the table should know, a sentence each.

    Args:
        results (Results): All that was read.
    """
    experiments = group(results.runs)
    names = {r.where: r.experiment for r in results.runs}
    names.update((r.where, e.label) for e in experiments for r in e.runs)
    return [
        *_same_test(results.runs, names),
        *_same_numbers(results.runs, names),
        *_checkpoints(experiments),
        *_train_seeds(results.runs),
        *_stated(results.stated, results.runs),
    ]


def contradicts_itself(experiment: Experiment) -> List[str]:
    """Why an experiment's mean means nothing; empty if it does."""
    problems = list(_checkpoints([experiment]))
    if not problems and len({(r.train_seed, r.eval_seed) for r in experiment.runs}) < len(
        experiment.runs
    ):
        problems.append(f'{experiment.label}: a (train seed, eval seed) has several results')
    return problems


def _test(run: Run) -> tuple:
    return (
        run.checkpoint_sha256,
        run.config_sha256 or run.config,
        run.variant,
        run.protocol,
        run.eval_seed,
    )


def _same_test(runs: Iterable[Run], names: Dict[str, str]) -> Iterable[str]:
    """Same checkpoint hash, config, protocol and eval seed."""
    tests: Dict[tuple, List[Run]] = {}
    for run in runs:
        if run.checkpoint_sha256 is not None:
            tests.setdefault(_test(run), []).append(run)
    found: Dict[tuple, List[List[Run]]] = {}
    for key, same in tests.items():
        if len(same) > 1:
            differ = len({tuple(r.metrics.values()) for r in same}) > 1
            where = tuple(dict.fromkeys(names[r.where] for r in same))
            found.setdefault((differ, key[0], where), []).append(same)
    for (differ, sha, where), tests_of in sorted(found.items(), key=lambda item: not item[0][0]):
        seeds = _list(same[0].eval_seed for same in tests_of)
        about = f'checkpoint {sha[:8]}, eval seed {seeds}, in {" and ".join(where)}'
        if differ:
            values = ' against '.join(f'{r.metrics["AP"]} ({r.where})' for r in tests_of[0])
            yield (
                f'contradiction: same checkpoint, protocol and seed, '
                f'different results: {about}; e.g. AP {values}. What set '
                'them apart was not recorded, or the test does not repeat'
            )
        else:
            places = ' and '.join(r.where for r in tests_of[0])
            yield f'duplicate: {about}; e.g. {places}'


def _same_numbers(runs: Iterable[Run], names: Dict[str, str]) -> Iterable[str]:
    """Equal in all metrics, though not known to be one test."""
    tests: Dict[tuple, List[Run]] = {}
    for run in runs:
        numbers = tuple(run.metrics.values())
        # a detector that finds nothing equals any other that does not
        if run.metrics['AP'] and None not in numbers:
            tests.setdefault((run.eval_seed, *numbers), []).append(run)
    found: Dict[tuple, List[int]] = {}
    for same in tests.values():
        no_hash = any(r.checkpoint_sha256 is None for r in same)
        if len(same) > 1 and (no_hash or len({_test(r) for r in same}) > 1):
            where = tuple(dict.fromkeys(names[r.where] for r in same))
            found.setdefault(where, []).append(same[0].eval_seed)
    for where, seeds in found.items():
        yield (
            f'same numbers to the last digit: eval seed {_list(seeds)} in '
            f'{" and ".join(where)}; either one is a copy, or what sets '
            'them apart had no effect'
        )


def _checkpoints(experiments: Sequence[Experiment]) -> Iterable[str]:
    for experiment in experiments:
        seeds: Dict[object, set] = {}
        for run in experiment.runs:
            if None not in (run.train_seed, run.checkpoint_sha256):
                seeds.setdefault(run.train_seed, set()).add(run.checkpoint_sha256)
        for seed, shas in seeds.items():
            if len(shas) > 1:
                yield (
                    f'{experiment.label}: train seed {seed} has '
                    f'{len(shas)} checkpoints '
                    f'({", ".join(sorted(s[:8] for s in shas))}); they are '
                    'no replicates, give each an exp_name of its own'
                )


def _train_seeds(runs: Iterable[Run]) -> Iterable[str]:
    seeds: Dict[str, Dict[int, Run]] = {}
    for run in runs:
        if None not in (run.train_seed, run.checkpoint_sha256):
            seeds.setdefault(run.checkpoint_sha256, {}).setdefault(run.train_seed, run)
    for sha, of_seed in seeds.items():
        if len(of_seed) > 1:
            yield (
                f'contradiction: checkpoint {sha[:8]} has several train '
                'seeds: ' + ', '.join(f'{s} ({r.where})' for s, r in of_seed.items())
            )


def _stated(stated: Sequence[Stated], runs: Sequence[Run]) -> Iterable[str]:
    """Stated means against the runs of the table they name."""
    for item in stated:
        path = item.source.parent / item.runs_file
        of_file = [r for r in runs if r.source.resolve() == path.resolve()]
        where = f'{item.source}:{item.line}'
        if not of_file:
            yield (
                f'{where}: states {item.mean} / {item.std} of {item.runs_file}, which was not read'
            )
            continue
        found = summarise(of_file)
        # half a unit of the fifth decimal, as the statement has five
        if any(
            a is None or abs(a - b) > 5.1e-6
            for a, b in ((found.mean, item.mean), (found.std, item.std))
        ):
            yield (
                f'contradiction: {where} states {item.mean} / {item.std}, '
                f'the runs of {item.runs_file} give {found.mean:.5f} / '
                f'{_round(found.std)}'
            )


def _round(value: object) -> str:
    return 'n/a' if value is None else f'{value:.5f}'


def _list(seeds: Iterable[int]) -> str:
    values: Tuple[int, ...] = tuple(sorted(set(seeds)))
    if len(values) > 2 and values == tuple(range(values[0], values[-1] + 1)):
        return f'{values[0]}-{values[-1]}'
    return ', '.join(map(str, values))
