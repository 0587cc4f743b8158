"""Train a small detector on composed photographs and look at what it does.

    python tools/demo.py [CONFIG]

Runs the tools one after another, printing each command, and skips what is
done: data, ImageNet weights, training (resumes), tests, pictures.
"""
import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, pstdev
from typing import List

from mmengine.config import Config

from mmdiffdet.ledger import Ledger, sha256_of_file

STEPS = (4, 1)  # pictures are of the first
EVAL_SEEDS = (0, 1, 2)


def run(command: List[str], log: Path, show: str = '') -> None:
    """Run one of the tools; its output goes to ``log``.

    Args:
        command (list[str]): Script and arguments.
        log (Path): All output.
        show (str): Of lines that match this regular expression, the groups
            (the match, if there are none) are printed.
    """
    print(f'$ python {" ".join(command)}', flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'w') as file:
        process = subprocess.Popen([sys.executable, *command],
                                   stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT,
                                   text=True)
        for line in process.stdout:
            file.write(line)
            found = re.search(show, line) if show else None
            if found:
                print('  ' + '  '.join(found.groups() or found[:1]),
                      flush=True)
    if process.wait():
        print(''.join(log.read_text().splitlines(True)[-15:]))
        sys.exit(f'failed; all output is in {log}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'config',
        nargs='?',
        default='configs/demo/demo.py')
    config = parser.parse_args().config
    cfg = Config.fromfile(config)
    work_dir = Path('work_dirs') / Path(config).stem
    checkpoint = work_dir / f'iter_{cfg.train_cfg.max_iters}.pth'

    run(['tools/fetch_mobilenet_v2.py'], work_dir / 'fetch.log', r'.*')
    run(['tools/dataset_converters/compose_demo.py',
         cfg.data_root.rstrip('/')], work_dir / 'compose.log', r'.*')
    if checkpoint.exists():
        print(f'{checkpoint} is there')
    else:
        start = time.time()
        run(['tools/train.py', config, '--work-dir', str(work_dir),
             '--resume'], work_dir / 'train.log',
            r'(Iter\(train\) \[ *\d+/\d+\]).*?(eta: \S+).*?(loss: \S+)')
        print(f'trained in {(time.time() - start) / 60:.1f} minutes')

    print('testing with '
          f'{len(EVAL_SEEDS)} eval seeds, {STEPS} steps: about two minutes')
    ledger = work_dir / 'ledger.tsv'
    folder = work_dir / 'test'
    run(['tools/test.py', config, str(checkpoint), '--work-dir', str(folder),
         '--steps', *map(str, STEPS), '--eval-seeds', *map(str, EVAL_SEEDS),
         '--ledger', str(ledger), '--exp-name', 'demo', '--show-dir',
         'pictures'], work_dir / 'test.log', r'step \d+, eval seed .*image')
    print('looking at one image on its way from noise')
    picture = work_dir / 'trajectory.png'
    run(['tools/analysis_tools/plot_trajectory.py', config, str(checkpoint),
         str(picture), '--steps', '7', '--image-index', '3'],
        work_dir / 'plot.log')

    sha256 = sha256_of_file(checkpoint)
    rows = [row for row in Ledger(ledger).read()
            if row.checkpoint_sha256 == sha256]
    print('\nsteps  eval seeds     AP   (std)   AP50   AP75   ms an image')
    for steps in sorted(STEPS):
        same = [row for row in rows if row.sample_step == steps]
        mean = {k: fmean(getattr(row, k) for row in same)
                for k in ('AP', 'AP50', 'AP75', 'seconds_per_image')}
        spread = pstdev(row.AP for row in same)
        print(f'{steps:5d}{len(same):12d}{mean["AP"]:7.1f}{spread:8.2f}'
              f'{mean["AP50"]:7.1f}{mean["AP75"]:7.1f}'
              f'{1000 * mean["seconds_per_image"]:14.0f}')
    pictures = sorted(folder.glob('*/pictures'))
    print(f'\ntruth and detections side by side: {pictures[-1]}\n'
          f'boxes on their way from noise:     {picture}\n'
          f'every test, a row each:            {ledger}')


if __name__ == '__main__':
    main()
