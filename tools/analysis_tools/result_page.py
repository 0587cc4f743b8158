"""Put results, comparisons and pictures on one self-contained HTML page.

    python tools/analysis_tools/result_page.py FILES-or-FOLDERS --out PAGE.html
        [--compare A B [FIELD]] [--pictures A.png B.png] [--title TEXT]
        [--trajectories A.json B.json] [--metric AP] [--pareto]

--compare can be given several times; A and B are labels as
tools/summarize.py prints them, FIELD is the protocol field that is studied.
The verdicts of several are corrected for their number (Holm). --pareto shows the
settings that no other beats in both metric and time, in place of the charts of
all. Trajectories are
files that tools/analysis_tools/plot_trajectory.py writes, one a model: the page
plays them side by side.
"""

import argparse
from pathlib import Path

from mmdiffdet.command import add_traceback_argument, run_command
from mmdiffdet.convert.detectron2_tables import read_detectron2_table
from mmdiffdet.ledger.comparison import compare, correct
from mmdiffdet.ledger.experiments import group, select
from mmdiffdet.ledger.pareto import pareto_fronts
from mmdiffdet.ledger.problems import find_problems
from mmdiffdet.ledger.reader import read_results
from mmdiffdet.ledger.row import METRICS
from mmdiffdet.reports.page import render_page
from mmdiffdet.utils import atomic_path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('paths', nargs='+', help='ledgers, or their folders')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--title', default='mmdiffdet: results')
    parser.add_argument('--metric', choices=METRICS, default='AP')
    parser.add_argument('--compare', nargs='+', action='append', default=[], metavar=('A', 'B'))
    parser.add_argument(
        '--pareto', action='store_true', help='the settings that no other beats, not charts of all'
    )
    parser.add_argument('--pictures', nargs='+', type=Path, default=[])
    parser.add_argument('--trajectories', nargs='+', type=Path, default=[])
    add_traceback_argument(parser)
    args = parser.parse_args()
    for names in args.compare:
        if len(names) not in (2, 3):
            parser.error('--compare takes A, B and perhaps a field')
    return args


def main() -> None:
    args = parse_args()
    results = read_results(args.paths, [read_detectron2_table])
    experiments = group(results.runs)
    comparisons = [
        compare(select(experiments, a), select(experiments, b), args.metric, *across)
        for a, b, *across in args.compare
    ]
    if len(comparisons) > 1:
        comparisons = correct(comparisons)
    page = render_page(
        args.title,
        experiments,
        comparisons,
        find_problems(results),
        args.pictures,
        args.metric,
        args.trajectories,
        pareto_fronts(experiments, args.metric)[0] if args.pareto else (),
    )
    with atomic_path(args.out) as path:
        path.write_text(page, encoding='utf-8')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_command(main)
