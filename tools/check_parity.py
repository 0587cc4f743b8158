"""Replay recorded files of the reference system and compare.

    python tools/check_parity.py DIR [--only PATTERN]

Prints a line a file: name, largest error of what was compared, ok / MISMATCH
/ not supported yet. The exit code is 0 only if all are ok.
"""

import sys
from pathlib import Path

from mmdiffdet.command import make_parser, run_command


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument('directory', type=Path)
    parser.add_argument('--only', default='*', help='pattern of file names, e.g. "head_*"')
    args = parser.parse_args()
    from mmdiffdet.convert.parity import replay

    pattern = args.only.removesuffix('.safetensors') + '.safetensors'
    paths = sorted(args.directory.glob(pattern))
    if not paths:
        print(f'no files {pattern} in {args.directory}', file=sys.stderr)
        return 2
    reports = []
    for path in paths:
        reports.append(replay(path))
        print(reports[-1], flush=True)
    good = sum(report.ok for report in reports)
    print(f'{good} of {len(reports)} ok')
    return 0 if good == len(reports) else 1


if __name__ == '__main__':
    run_command(main)
