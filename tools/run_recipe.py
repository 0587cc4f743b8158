"""Run the trainings of a recipe for several train seeds, and test them.

    python tools/run_recipe.py RECIPE [--train-seeds 0 1 2]
        [--trainings baseline warmstart no_teacher 20to1 geo_feat]
        [--eval-seeds 0 1 2 --steps 1 4 20 [--ledger FILE.tsv]
            [--test-cfg-options test_cfg.precision=bf16]]
        [--processes N] [--executor local|slurm [--submitit KEY=VALUE ...]]
        [--train-args ...]

RECIPE: demo, bccd, pcb and repro10k are chains of baseline, warm start, control
without teacher, distillation and geometry features; demo_models and
repro10k_models train DiffusionDet, D3PM + quality and DETR next to each
other; few_steps is a study, which tests each training in many ways and leaves a
page with a Pareto front and verdicts beside its ledger; or a folder of yours with
NAME.py, NAME_warmstart.py, ... in it.
Finished trainings are skipped and a training that was killed goes on: repeat the
command until it is done. With --eval-seeds each training is tested when it is
trained, and all are summarised. Train seeds are independent: one after the
other here, or a job each through submitit.
"""

import argparse
import os.path as osp
import subprocess
import sys
from typing import Any, List, Optional

from mmdiffdet.command import OptionsAction, make_parser, run_command
from mmdiffdet.paths import TOOLS


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('recipe', help='its name, or a folder')
    parser.add_argument('--train-seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--trainings', nargs='+', help='all by default')
    parser.add_argument('--eval-seeds', nargs='+', help='test each training with these')
    parser.add_argument('--steps', nargs='+', help='numbers of sampling steps of the tests')
    parser.add_argument(
        '--ledger',
        help='where the tests append their rows; by default work_dirs/ledger/results.tsv, of a '
        'study work_dirs/ledger/RECIPE.tsv',
    )
    parser.add_argument(
        '--test-cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='changes of the config in all tests, as --cfg-options of tools/test.py',
    )
    parser.add_argument('--processes', type=int, default=1, help='GPUs of a training')
    parser.add_argument(
        '--executor',
        choices=['local', 'slurm'],
        help='submit a job for each train seed through submitit',
    )
    parser.add_argument(
        '--submitit',
        nargs='+',
        action=OptionsAction,
        default={},
        help='parameters of submitit, e.g. slurm_partition=gpu gpus_per_node=4 timeout_min=600',
    )
    parser.add_argument(
        '--train-args', nargs=argparse.REMAINDER, default=[], help='the rest goes to tools/train.py'
    )
    args = parser.parse_args()
    for option in ('steps', 'test_cfg_options'):
        if getattr(args, option) and not args.eval_seeds:
            parser.error(f'--{option.replace("_", "-")} needs --eval-seeds')
    for pair in args.test_cfg_options or ():
        if not pair.partition('=')[1]:
            parser.error(f'--test-cfg-options {pair}: must be KEY=VALUE')
    return args


def test_arguments(args: argparse.Namespace) -> Optional[List[str]]:
    if not args.eval_seeds:
        return None
    steps = ['--steps', *args.steps] if args.steps else []
    options = ['--cfg-options', *args.test_cfg_options] if args.test_cfg_options else []
    return ['--eval-seeds', *args.eval_seeds, *steps, *options, '--ledger', args.ledger]


class Job:
    """A chain of trainings that is submitted again when the time of its Slurm job is over."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __call__(self) -> Any:
        """Run the chain."""
        from mmdiffdet.engine.recipe import run_chain

        return run_chain(*self.call)

    def checkpoint(self, *_: Any) -> Any:
        """The job that submitit submits again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit(args: argparse.Namespace, calls: List[tuple]) -> List[Any]:
    """A job for each train seed; their logs are in work_dirs/jobs."""
    try:
        import submitit
    except ImportError as error:
        raise ImportError('--executor needs submitit: pip install submitit') from error
    import torch

    executor = submitit.AutoExecutor(folder='work_dirs/jobs/%j', cluster=args.executor)
    # without it submitit hides the GPUs from local jobs
    gpus = args.processes if torch.cuda.is_available() else 0
    defaults = dict(timeout_min=24 * 60, name=osp.basename(args.recipe), gpus_per_node=gpus)
    executor.update_parameters(**{**defaults, **args.submitit})
    jobs = [executor.submit(Job(*call)) for call in calls]
    for seed, job in zip(args.train_seeds, jobs):
        print(f'seed {seed}  job {job.job_id}: {job.paths.stdout}', flush=True)
    return jobs


def main() -> None:
    args = parse_args()
    from mmdiffdet.engine.recipe import STUDIES, check_train_arguments, recipe, run_chain

    study = STUDIES.get(args.recipe)
    if args.ledger is None:
        args.ledger = f'work_dirs/ledger/{args.recipe if study else "results"}.tsv'
    try:
        check_train_arguments(args.train_args)
        for seed in args.train_seeds:
            trainings = recipe(args.recipe, seed, args.trainings)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'run_recipe: {error}')
    calls = [
        (args.recipe, seed, args.trainings, args.train_args, test_arguments(args), args.processes)
        for seed in args.train_seeds
    ]
    jobs = submit(args, calls) if args.executor else [None] * len(calls)
    failed = []
    for seed, call, job in zip(args.train_seeds, calls, jobs):
        try:
            if job is None:
                run_chain(*call)
            else:
                for training, path in job.result().items():
                    print(f'seed {seed}  {training:10}  {path}', flush=True)
        except Exception as error:  # the other seeds go on
            print(f'seed {seed}  FAILED: {error}', file=sys.stderr)
            failed.append(seed)
    if args.eval_seeds and osp.exists(args.ledger):
        subprocess.run([sys.executable, str(TOOLS / 'summarize.py'), args.ledger], check=True)
    if study and args.eval_seeds and not failed:
        names = args.trainings or [training.name for training in trainings]
        pairs = study.comparisons(names, args.steps or study.STEPS)
        command = [sys.executable, str(TOOLS / 'analysis_tools/result_page.py'), args.ledger]
        command += ['--pareto', '--title', f'mmdiffdet: {args.recipe}', '--out']
        command += [f'{osp.splitext(args.ledger)[0]}.html']
        subprocess.run(
            command + [part for pair in pairs for part in ('--compare', *pair)], check=True
        )
    if failed:
        sys.exit(
            f'run_recipe: train seeds {failed} failed; the same command goes on where they stopped'
        )


if __name__ == '__main__':
    run_command(main)
