"""Mean and spread of experiments, and whether one is better than another.

    python tools/summarize.py FILES-or-FOLDERS [--metric AP]
        [--pool NAME [PATTERN ...]] [--compare A B ... [--across FIELD]]
        [--plan A [B]] [--pareto]
        [--format table|tsv|md|json|html] [--manifest OUT.tsv]

Reads ledgers of ours and the tables of the Detectron2 system. Runs are
averaged only if they share experiment, variant, config and protocol; --pool
joins the experiments whose labels match the patterns (all, without one) under
a name of yours, if their protocols agree (several configs are told). A and B
are labels as printed, such as NAME or NAME@sample_step=4; --across names the
protocol field in which they may differ. --compare can be given several times:
the verdicts are then corrected for their number (Holm). --pareto tells the
settings that no other beats in both metric and seconds an image. --plan tells,
before a study, the smallest difference that numbers of train seeds could show
at the spread of A, or of the paired differences of A and B. Repeated and
contradicting rows are told on the error stream.
"""

import argparse
import itertools
import re
import sys
from pathlib import Path
from typing import Iterable

from mmdiffdet.command import make_parser, run_command
from mmdiffdet.convert.detectron2_tables import read_detectron2_table
from mmdiffdet.ledger.comparison import compare, correct
from mmdiffdet.ledger.experiments import Experiment, group, pool, select
from mmdiffdet.ledger.ledger import read_lines
from mmdiffdet.ledger.pareto import pareto_fronts
from mmdiffdet.ledger.plan import plan_study
from mmdiffdet.ledger.problems import find_problems, mixed_configs
from mmdiffdet.ledger.reader import MANIFEST_MARK, read_results
from mmdiffdet.ledger.row import METRICS
from mmdiffdet.reports.summary import render_manifest, render_summary, summary_records
from mmdiffdet.reports.text import FORMATS, one_line
from mmdiffdet.reports.verdicts import render_comparisons, render_pareto, render_plan
from mmdiffdet.utils import atomic_path


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('paths', nargs='+', help='files and folders')
    parser.add_argument('--metric', choices=METRICS, default='AP')
    parser.add_argument(
        '--pool',
        nargs='+',
        action='append',
        default=[],
        metavar=('NAME', 'PATTERN'),
        help='average several experiments; can be given several times',
    )
    parser.add_argument(
        '--compare',
        nargs=2,
        action='append',
        default=[],
        metavar=('A', 'B'),
        help='is B better than A; can be given several times',
    )
    parser.add_argument(
        '--pareto',
        action='store_true',
        help='the settings that no other beats in both metric and cost',
    )
    parser.add_argument(
        '--plan',
        nargs='+',
        metavar=('A', 'B'),
        help='the smallest difference that a comparison could show',
    )
    parser.add_argument('--across', metavar='FIELD', help='protocol field that is studied')
    parser.add_argument('--format', choices=FORMATS, default='table')
    parser.add_argument('--manifest', metavar='OUT.tsv', help='write the index here')
    args = parser.parse_args()
    asked = [f'--{k}' for k in ('compare', 'plan', 'pareto') if getattr(args, k)]
    if len(asked) > 1:
        parser.error(f'{" and ".join(asked)} are different questions: ask one')
    if args.plan and len(args.plan) > 2:
        parser.error('--plan takes one experiment or two')
    if args.across and not (args.compare or len(args.plan or ()) == 2):
        parser.error('--across needs --compare, or --plan with A and B')
    return args


def tell(problems: Iterable[str], *experiments: Experiment) -> None:
    """Problems that name one of the experiments, on the error stream."""
    names = {name for e in experiments for name in (e.label, *e.members)}
    named = re.compile(rf'(?<!\S)({"|".join(map(re.escape, names))})(?=[;,:]?(\s|$))')
    for problem in problems:
        if named.search(problem):
            print(one_line(problem), file=sys.stderr)


def write_manifest(path: Path, text: str) -> None:
    """Write the index; nothing else is overwritten by it."""
    if path.exists() and not read_lines(path)[0].startswith(MANIFEST_MARK):
        raise ValueError(f'--manifest {path}: is there and no index; choose another name')
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def main() -> None:
    args = parse_args()
    results = read_results(args.paths, [read_detectron2_table])
    experiments = group(results.runs)
    pools = [pool(experiments, name, patterns) for name, *patterns in args.pool]
    if len({p.name for p in pools}) < len(pools):
        raise ValueError('--pool: a name is given twice')
    problems = find_problems(results) + [told for p in pools for told in mixed_configs(p)]
    experiments += pools
    if args.manifest:
        text = render_manifest(
            experiments, summary_records(experiments, results.stated, 'AP'), METRICS[1:]
        )
        write_manifest(Path(args.manifest), text)
    if args.compare:
        pairs = [[select(experiments, name) for name in names] for names in args.compare]
        found = [compare(a, b, args.metric, args.across) for a, b in pairs]
        if len(found) > 1:
            found = correct(found)
        print(render_comparisons(found, args.format))
        tell(problems, *itertools.chain(*pairs))
        return
    if args.pareto:
        fronts, left_out = pareto_fronts(experiments, args.metric)
        print(render_pareto(fronts, args.format))
        for sentence in left_out:
            print(one_line(sentence), file=sys.stderr)
        tell(problems, *experiments)
        return
    if args.plan:
        chosen = [select(experiments, name) for name in args.plan]
        plan = plan_study(*chosen, metric=args.metric, across=args.across)
        print(render_plan(plan, args.format))
        tell(problems, *chosen)
        return
    records = summary_records(experiments, results.stated, args.metric)
    print(render_summary(records, problems, args.metric, args.format))
    sys.stdout.flush()
    for problem in problems if args.format != 'json' else ():
        print(one_line(problem), file=sys.stderr)


if __name__ == '__main__':
    run_command(main)
