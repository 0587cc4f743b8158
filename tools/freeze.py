"""Make a folder of the evidence of a result.

    python tools/freeze.py NAME --rows FILE-or-FOLDER ...
        [--select EXPERIMENT ...] [--out work_dirs/deliverables]

Takes all rows of the ledgers, or those of the selected experiments (labels as
tools/summarize.py prints them). The folder OUT/NAME holds the runs, a
manifest with the checkpoints' hashes, the resolved configs, the environment
and the sum of each file. Nothing is written if a checkpoint or config is
missing or not the one that was tested. Keep the printed digest: tools/verify.py --digest takes it.
"""

from pathlib import Path

from mmdiffdet.command import make_parser, run_command


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('name', help='of the folder')
    parser.add_argument('--rows', nargs='+', required=True, help='ledgers')
    parser.add_argument('--select', nargs='+', metavar='EXPERIMENT', help='all by default')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/deliverables'))
    args = parser.parse_args()
    from mmdiffdet.convert.detectron2_tables import read_detectron2_table
    from mmdiffdet.ledger.experiments import group, select
    from mmdiffdet.ledger.freeze import freeze
    from mmdiffdet.ledger.reader import read_results

    experiments = group(read_results(args.rows, [read_detectron2_table]).runs)
    if args.select:
        experiments = [select(experiments, name) for name in args.select]
    folder = args.out / args.name
    digest = freeze(experiments, folder)
    print(f'wrote {folder}\ndigest: {digest}')


if __name__ == '__main__':
    run_command(main)
