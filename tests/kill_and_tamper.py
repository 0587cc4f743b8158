"""Kill the tools at any moment, and change deliverables in any way.

    python tests/kill_and_tamper.py [--kills 20] [--tampers 60] [--seed 0]

A tool gets a SIGKILL after a random time, or before a random one of its
operations on files, and is then run again (a training with --resume). After the
kill no file under its final name may be half-written; after the second run, weights,
rows and files must be those of a run that nobody killed, and nothing else may
have been left. Each tampering with a deliverable must be found by verify with the
digest that freeze gave. Exit code 1 if anything was not so.

``tests/test_kill_and_tamper.py`` runs a few of each.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from kill_jobs import jobs_of
from mutate_inputs import Lab
from tamper import TAMPERINGS, Deliverable


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=20, help='of each tool')
    parser.add_argument('--tampers', type=int, default=60)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lab = Lab(folder)
        jobs = jobs_of(lab, folder)
        print('tool\truns\tkilled\tended before\twrong', flush=True)
        for job in jobs:
            rng = random.Random(f'{args.seed} {job.tool}')
            found = [job.kill(rng) for _ in range(args.kills)]
            wrong = [text for text in found if text not in ('', 'ended')]
            ended = found.count('ended')
            print(job.tool, len(found), len(found) - ended, ended, len(wrong), sep='\t')
            print(*(f'  {text}' for text in wrong), sep='\n', end='', flush=True)
            bad += len(wrong)
        deliverable = Deliverable(folder, jobs[1].reference / 'ledger.tsv')
        rng = random.Random(args.seed)
        missed = []
        for number in range(args.tampers):
            kind = list(TAMPERINGS)[number % len(TAMPERINGS)]
            hide = rng.random() < 0.5
            if not deliverable.tamper(kind, hide, rng):
                missed.append(f'{kind}, sums made anew: {hide}')
        print(f'{args.tampers} tamperings, {args.tampers - len(missed)} found')
        print(*(f'  not found: {text}' for text in missed), sep='\n', end='')
        bad += len(missed)
    return int(bad > 0)


if __name__ == '__main__':
    sys.exit(main())
