"""Check the evidence of a result.

    python tools/verify.py FOLDER [--rerun N --trust] [--checkpoints DIR]
        [--digest SHA256] [--tolerance 0.1]

Checks the hash of every file and checkpoint, recomputes the manifest from the
runs, and checks that the configs are those that were tested. --rerun tests N
rows again with tools/test.py: the metrics must be equal to the last digit on
the same device and versions, within the tolerance elsewhere. A config of
MMEngine is a program: --rerun executes those of the folder, so it asks for
--trust, once you have read them. --digest is what tools/freeze.py printed.
Exit status 1 if anything does not agree.
"""

import sys
from pathlib import Path

from mmdiffdet.command import make_parser, run_command


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--rerun', type=int, default=0, metavar='N')
    parser.add_argument(
        '--trust', action='store_true', help='let the configs of the folder be executed'
    )
    parser.add_argument('--checkpoints', type=Path, help='folder that holds them now')
    parser.add_argument('--digest', help='that the folder must have')
    parser.add_argument('--tolerance', type=float, default=0.1, help='AP points')
    args = parser.parse_args()
    if args.rerun < 0 or not 0 <= args.tolerance <= 100:
        parser.error('--rerun must not be negative, --tolerance from 0 to 100 AP points')
    if args.rerun and not args.trust:
        parser.error(
            f'--rerun executes the config files in {args.folder}/configs, which are programs; '
            'read them, then add --trust'
        )
    from mmdiffdet.ledger.verify import verify
    from mmdiffdet.reports.text import one_line

    test = Path(__file__).with_name('test.py')
    result = verify(
        args.folder,
        args.rerun,
        [sys.executable, str(test)],
        args.checkpoints,
        args.digest,
        args.tolerance,
    )
    for problem in result.problems:
        print(one_line(problem), file=sys.stderr)
    print(f'checked {", ".join(result.checked)}\ndigest: {result.digest}')
    return 1 if result.problems else 0


if __name__ == '__main__':
    run_command(main)
