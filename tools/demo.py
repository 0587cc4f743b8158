"""From nothing to a page of results, on composed photographs.

    python tools/demo.py [--eval-seeds 0 1 2] [--steps 1 20]

Trains a small detector, warm-starts label diffusion and the quality head,
distils twenty sampling steps into one (and trains a control without the
teacher), tests them, compares them and leaves a report page, on which boxes can
be watched on their way. Each command is printed; what is done is skipped.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, List

from mmdiffdet.command import make_parser, run_command
from mmdiffdet.paths import TOOLS

if TYPE_CHECKING:
    from mmdiffdet.engine.recipe import Training

TRAININGS = ('baseline', 'warmstart', 'no_teacher', '20to1')
FOLDER = Path('work_dirs/demo_report')
# indices of the images in the page's viewer
IMAGES = ('3', '7', '12', '20', '33')


def tool(name: str, *arguments: str, show: bool = True) -> None:
    """Run one of the tools; its output goes to a log, and is shown or not."""
    from mmdiffdet.engine.child_process import run

    print(f'$ python tools/{name} {" ".join(arguments)}', flush=True)
    run(
        [sys.executable, str(TOOLS / name), *arguments],
        FOLDER / f'{Path(name).stem}.log',
        (lambda line: print(f'  {line}', flush=True)) if show else None,
        r'\S.*',
    )


class Progress:
    """Prints a line of the training's output every half a minute."""

    last = 0.0

    def __call__(self, line: str) -> None:
        if time.time() - self.last > 30:
            self.last = time.time()
            parts = line.split('  ')
            kept = [p.strip() for p in parts if p.strip().startswith(('Iter', 'eta', 'loss:'))]
            print('  ' + '  '.join(kept), flush=True)


def test(
    training: 'Training', ledger: Path, seeds: List[str], steps: List[str], precision: str
) -> None:
    """Test what a training left, and add the rows to the ledger."""
    what = [training.config, training.checkpoint, *training.arguments]
    how = ['--eval-seeds', *seeds, '--steps', *steps, '--ledger', str(ledger)]
    names = ['--exp-name', training.name, '--work-dir', str(FOLDER / training.name)]
    options = ['--cfg-options', f'test_cfg.precision={precision}']
    tool('test.py', *what, *how, *names, *options, show=False)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('--eval-seeds', nargs='+', default=['0', '1', '2'])
    parser.add_argument('--steps', nargs=2, default=['1', '20'])
    args = parser.parse_args()
    from mmdiffdet.engine.precision import has_bf16
    from mmdiffdet.engine.recipe import recipe, train

    started = time.time()
    few, many = args.steps
    tool('fetch_mobilenet_v2.py')
    tool('dataset_converters/compose_demo.py', 'data/demo')
    amp = ['--amp'] if has_bf16() else []
    # each is tested below: a validation at its end would say nothing more
    options = [*amp, '--cfg-options', 'train_cfg.val_begin=1000000']
    trainings = [s for s in recipe('demo', 0) if s.name in TRAININGS]
    for training in trainings:
        command = f'tools/train.py {training.config} --train-seed 0 --resume {" ".join(options)}'
        print(f'$ python {command}', flush=True)
        train(training, options, progress=Progress())
    ledger = FOLDER / 'ledger.tsv'
    for training in trainings:
        # many steps are expensive, and only the teacher's are compared
        steps = args.steps if training.name == 'warmstart' else [few]
        test(training, ledger, args.eval_seeds, steps, 'bf16' if amp else 'fp32')
    student, teacher = (f'{name}@sample_step=' for name in ('20to1', 'warmstart'))
    pairs = [
        [teacher + few, student + few],
        [teacher + many, student + few, 'sample_step'],
        ['no_teacher@sample_step=' + few, student + few],
    ]
    tool('summarize.py', str(ledger))
    for a, b, *across in pairs:
        field = ['--across', *across] if across else []
        tool('summarize.py', str(ledger), '--compare', a, b, *field)
    trajectories = [str(FOLDER / f'{name}.json') for name in ('teacher', 'student')]
    for training, steps, data in zip((trainings[1], trainings[-1]), (many, few), trajectories):
        what = [training.config, training.checkpoint, data, '--steps', steps]
        tool('analysis_tools/plot_trajectory.py', *what, '--image-index', *IMAGES, show=False)
    page = [str(ledger), '--out', str(FOLDER / 'index.html'), '--title', 'mmdiffdet: demo']
    compare = [part for pair in pairs for part in ('--compare', *pair)]
    tool('analysis_tools/result_page.py', *page, *compare, '--trajectories', *trajectories)
    print(
        f'{(time.time() - started) / 60:.1f} minutes\n\n'
        f'report, boxes on their way to play with:   {FOLDER / "index.html"}\n'
        f'every test, a row each:                    {ledger}'
    )


if __name__ == '__main__':
    run_command(main)
