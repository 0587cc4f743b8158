"""Train the chain baseline, warm start, distillation, geometry features.

    python tools/run_recipe.py RECIPE [--train-seeds 0 1 2]
        [--stages baseline warmstart 20to1 geo_feat]
        [--eval-seeds 0 1 2 --steps 1 4 20 [--ledger FILE.tsv]]
        [--processes N] [--executor local|slurm [--slurm KEY=VALUE ...]]
        [--train-args ...]

RECIPE is a data set: demo, bccd or repro10k. Finished stages are skipped and a
stage that was killed goes on, so the same command is repeated until it is
done. With --eval-seeds each stage is tested when it is trained. Seeds are
independent: one after the other here, or a job each through submitit.
"""
import argparse
import sys
from typing import Any, List, Optional

from mmengine.config import DictAction

from mmdiffdet.engine.recipe import STAGES, recipe, run_chain


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('recipe', help='demo, bccd, repro10k')
    parser.add_argument('--train-seeds', nargs='+', type=int, default=[0])
    parser.add_argument(
        '--stages', nargs='+', choices=STAGES, default=list(STAGES))
    parser.add_argument(
        '--eval-seeds', nargs='+', help='test each stage with these')
    parser.add_argument(
        '--steps', nargs='+', help='numbers of sampling steps of the tests')
    parser.add_argument('--ledger', help='where the tests append their rows')
    parser.add_argument(
        '--processes', type=int, default=1, help='GPUs of a training')
    parser.add_argument(
        '--executor',
        choices=['local', 'slurm'],
        help='submit a job for each train seed through submitit')
    parser.add_argument(
        '--slurm',
        nargs='+',
        action=DictAction,
        default={},
        help='parameters of submitit, e.g. slurm_partition=gpu '
        'gpus_per_node=4 timeout_min=600')
    parser.add_argument(
        '--train-args',
        nargs=argparse.REMAINDER,
        default=[],
        help='the rest goes to tools/train.py')
    args = parser.parse_args()
    if not args.eval_seeds and (args.steps or args.ledger):
        parser.error('--steps and --ledger need --eval-seeds')
    return args


def test_arguments(args: argparse.Namespace) -> Optional[List[str]]:
    if not args.eval_seeds:
        return None
    found = ['--eval-seeds', *args.eval_seeds]
    if args.steps:
        found += ['--steps', *args.steps]
    if args.ledger:
        found += ['--ledger', args.ledger]
    return found


def submit(args: argparse.Namespace, calls: List[tuple]) -> List[Any]:
    """A job for each train seed; their logs are in work_dirs/jobs."""
    try:
        import submitit
    except ImportError as error:
        raise ImportError('--executor needs submitit: pip install '
                          'submitit') from error
    executor = submitit.AutoExecutor(
        folder='work_dirs/jobs/%j', cluster=args.executor)
    executor.update_parameters(
        **{'timeout_min': 24 * 60, 'name': args.recipe, **args.slurm})
    return [executor.submit(run_chain, *call) for call in calls]


def main() -> None:
    args = parse_args()
    try:
        for seed in args.train_seeds:
            recipe(args.recipe, seed)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'run_recipe: {error}')
    calls = [(args.recipe, seed, args.stages, args.train_args,
              test_arguments(args), args.processes)
             for seed in args.train_seeds]
    jobs = submit(args, calls) if args.executor else [None] * len(calls)
    failed = []
    for seed, call, job in zip(args.train_seeds, calls, jobs):
        try:
            if job is None:
                run_chain(*call)
            else:
                print(f'seed {seed}  job {job.job_id}: {job.paths.stdout}',
                      flush=True)
                for stage, path in job.result().items():
                    print(f'seed {seed}  {stage:9}  {path}', flush=True)
        except Exception as error:  # the other seeds go on
            print(f'seed {seed}  FAILED: {error}', file=sys.stderr)
            failed.append(seed)
    if failed:
        sys.exit(f'run_recipe: train seeds {failed} failed; the same command '
                 'goes on where they stopped')


if __name__ == '__main__':
    main()
