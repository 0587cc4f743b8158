"""Whether one experiment is better than another."""

from dataclasses import dataclass, replace
from typing import List, Optional, Sequence, Tuple

import numpy as np

from .experiments import Experiment, describe
from .pairing import sides_of
from .planning import more_runs
from .power import ALPHA, MIN_UNITS
from .problems import contradicts_itself
from .protocol import PROTOCOL_FIELDS
from .resampling import (
    Components,
    Test,
    bootstrap_means,
    components,
    interval,
    paired_tests,
    unpaired_tests,
)
from .statistics import Summary, summarise

UNDECIDED = 'not distinguishable'
FEW = 10
"""Below this many train seeds a bootstrap interval is clearly too narrow."""


@dataclass(frozen=True)
class Comparison:
    """B against A; a positive difference means that B has the larger metric.

    Args:
        a (Experiment): The one to compare with.
        b (Experiment): The one in question.
        metric (str): Name of the metric.
        summaries (tuple): Of A and of B, over all of their runs.
        pairing (str): What was paired, and how much of it.
        used (tuple): Number of runs of A and of B that were compared.
        unit (str): Replicate of the test: ``train seed``, ``eval seed`` or
            ``none``.
        units (tuple): Number of replicates of A and of B.
        difference (float): Between the means of the train seeds' means.
        low (float, optional): Lower end of the 95 % bootstrap interval.
        high (float, optional): Upper end.
        tests (List[Test]): The p-values there are.
        decisive (Test, optional): The one of them that counts: the
            permutation test where it can reach 0.05, otherwise the t-test;
            none with two replicates.
        spread (Components): Variances of the (paired) differences, or the
            sums of those of A and B.
        verdict (str): ``better``, ``worse`` or ``not distinguishable``.
        scope (str): What the verdict speaks of.
        more (str): About how many more runs would settle it.
        notes (List[str]): What limits the answer.
        corrected (float, optional): p-value of the decisive test, corrected
            for the number of comparisons that were made together.
    """

    a: Experiment
    b: Experiment
    metric: str
    summaries: Tuple[Summary, Summary]
    pairing: str
    used: Tuple[int, int]
    unit: str
    units: Tuple[int, int]
    difference: float
    low: Optional[float]
    high: Optional[float]
    tests: List[Test]
    decisive: Optional[Test]
    spread: Components
    verdict: str
    scope: str
    more: str
    notes: List[str]
    corrected: Optional[float] = None


def compare(
    a: Experiment,
    b: Experiment,
    metric: str = 'AP',
    across: Optional[str] = None,
    resamples: int = 10000,
) -> Comparison:
    """Compare B with A.

    Runs are paired by (train seed, eval seed), so that what the two
    trainings and the sampling noise have in common cancels. The unit of the
    test is the train seed: the eval seeds of one model are no independent
    replicates of its training, so their differences are averaged first. With
    one train seed on each side the unit is the eval seed, and the verdict
    speaks of these two checkpoints only.

    B is better (worse) if the decisive test has p <= 0.05 and the bootstrap
    interval lies above (below) zero. The decisive test is the permutation
    test if it can reach 0.05 (paired: from six replicates), else, from three
    replicates, the t-test, which has the right level if their means are
    normal; with two nothing is decided.

    Args:
        a (Experiment): The one to compare with.
        b (Experiment): The one in question.
        metric (str): Which to compare.
        across (str, optional): The protocol field that is being studied,
            which may differ. With ``model_family``, if one side does not
            sample, so may what only the other has: steps, scheduler, eta.
        resamples (int): Of the bootstrap.

    Raises:
        ValueError: If the protocols differ otherwise, if the field is none
            or does not differ, or if an experiment contradicts itself or
            lacks the metric.
    """
    notes = check_protocols(a, b, across)
    sides, pairing, more_notes = sides_of(a, b, metric)
    notes += more_notes
    rng = np.random.default_rng(0)
    # B's draws first, then A's; a pair is one side
    boot = [bootstrap_means(side, resamples, rng) for side in reversed(sides)]
    means = [np.mean([g.mean() for g in side]) for side in reversed(sides)]
    difference = float(means[0] - means[1] if len(sides) == 2 else means[0])
    if all(len(side) > 1 for side in sides):
        unit = 'train seed'
        units = [np.array([g.mean() for g in side]) for side in sides]
    else:
        unit = 'eval seed'
        units = [side[0] for side in sides]
        if any(len(side) > 1 for side in sides):
            unit = 'none'
            notes.append(
                'one side has one train seed, so how much its '
                'training varies is unknown and nothing is tested'
            )
        elif any(len(values) < 2 for values in units):
            unit = 'none'
            notes.append('one run cannot show how much runs vary')
    tests: List[Test] = []
    low = high = None
    if unit != 'none':
        tests = (paired_tests if len(units) == 1 else unpaired_tests)(*units)
        low, high = interval(boot[0] - boot[1] if len(boot) == 2 else boot[0], 1 - ALPHA)
    counts = (len(units[0]), len(units[-1]))
    decisive = None
    if min(counts) >= MIN_UNITS:
        decisive = next((t for t in tests if t.smallest <= ALPHA), None)
    verdict = _verdict(difference, low, high, decisive and decisive.p)
    parts = zip(*(components(side) for side in sides))
    return Comparison(
        a,
        b,
        metric,
        summaries=(summarise(a.runs, metric), summarise(b.runs, metric)),
        pairing=pairing,
        used=tuple(sum(map(len, side)) for side in (sides[0], sides[-1])),
        unit=unit,
        units=counts,
        difference=difference,
        low=low,
        high=high,
        tests=tests,
        decisive=decisive,
        spread=Components(*(None if None in values else sum(values) for values in parts)),
        verdict=verdict,
        scope=_scope(unit, counts),
        more=more_runs(unit, sides, difference) if verdict == UNDECIDED else 'none needed',
        notes=notes + _limits(unit, min(counts), tests, decisive, low, high, verdict),
    )


def correct(comparisons: Sequence[Comparison]) -> List[Comparison]:
    """Correct the verdicts of several comparisons for their number (Holm, 1979).

    The probability that any verdict is wrong where there is no difference
    stays at 5 %: the smallest of n p-values is multiplied by n, the next one
    by n - 1, and so on, and none becomes smaller than the one before it.
    Comparisons without a decisive test count as none.

    Args:
        comparisons (Sequence[Comparison]): All that were made together.
    """
    tested = [c for c in comparisons if c.decisive]
    order = np.argsort([c.decisive.p for c in tested], kind='stable')
    corrected, p = {}, 0.0
    for rank, i in enumerate(order):
        p = max(p, min(1.0, (len(tested) - rank) * tested[i].decisive.p))
        corrected[id(tested[i])] = p
    done = []
    for c in comparisons:
        p = corrected.get(id(c))
        verdict = _verdict(c.difference, c.low, c.high, p)
        if verdict != c.verdict:
            note = (
                f'alone it would be {c.verdict}; among {len(tested)} comparisons a p of '
                f'{c.decisive.p:.4f} is no rare chance'
            )
            more = f'more {c.unit}s than for one comparison, or fewer comparisons'
            c = replace(c, verdict=verdict, notes=[*c.notes, note], more=more)
        done.append(replace(c, corrected=p))
    return done


def check_protocols(a: Experiment, b: Experiment, across: Optional[str]) -> List[str]:
    """Refuse what must not be compared; notes on what is not known."""
    for experiment in (a, b):
        for problem in contradicts_itself(experiment):
            raise ValueError(f'cannot compare: {problem}')
    if across is not None and across not in PROTOCOL_FIELDS:
        raise ValueError(
            f'--across {across}: not a field of the protocol; '
            f'choose from {", ".join(PROTOCOL_FIELDS)}'
        )
    differs = a.protocol.differs(b.protocol)
    if across is not None and across not in differs:
        raise ValueError(f'--across {across}: {a.label} and {b.label} do not differ in it')
    studied = {across}
    if across == 'scheduler' and None in differs.get('eta', ()):
        studied.add('eta')  # which not every scheduler has
    if across == 'model_family' and a.protocol.samples != b.protocol.samples:
        studied.update(('sample_step', 'scheduler', 'eta'))
    refused = {k: v for k, v in differs.items() if k not in studied}
    if refused:
        raise ValueError(
            f'{a.label} and {b.label} were tested by different protocols: '
            f'{describe(refused)}. Test them alike, or name the one field '
            f'that is being studied by --across\n  A: {a.protocol}\n  '
            f'B: {b.protocol}'
        )
    notes = []
    unknown = [k for k in a.protocol.unrecorded if k not in differs]
    if unknown:
        notes.append(
            f'not recorded on either side: {", ".join(unknown)}; that they are equal is not checked'
        )
    for side, experiment in (('A', a), ('B', b)):
        if len(experiment.recipes) > 1:
            notes.append(
                f'{side} mixes {len(experiment.recipes)} recipes: if they '
                'were chosen by these same results, it looks better than it '
                'is'
            )
    return notes


def _verdict(
    difference: float, low: Optional[float], high: Optional[float], p: Optional[float]
) -> str:
    if p is not None and p <= ALPHA:
        if difference > 0 and low > 0:
            return 'better'
        if difference < 0 and high < 0:
            return 'worse'
    return UNDECIDED


def _scope(unit: str, counts: Tuple[int, int]) -> str:
    if unit == 'train seed':
        return (
            'training with any seed, judged by '
            + (f'{counts[0]}' if counts[0] == counts[1] else f'{counts[0]} and {counts[1]}')
            + ' train seeds of each'
        )
    if unit == 'eval seed':
        return (
            'these two checkpoints only: from one train seed, how much training varies is unknown'
        )
    return 'these runs only'


def _limits(
    unit: str,
    count: int,
    tests: List[Test],
    decisive: Optional[Test],
    low: Optional[float],
    high: Optional[float],
    verdict: str,
) -> List[str]:
    notes: List[str] = []
    if unit == 'none':
        return notes
    if count < FEW:
        notes.append(
            f'a bootstrap over {count} {unit}s gives too narrow an interval '
            f'(about {np.sqrt((count - 1) / count):.0%} of its width)'
        )
    if ALPHA < tests[0].smallest < 1:
        notes.append(
            f'{tests[0].name} cannot give p below {tests[0].smallest:.2g} '
            f'with {count} {unit}s, so '
            + (
                'nothing is decided'
                if decisive is None
                else f'{decisive.name} decides, which takes their means as normal'
            )
        )
    if verdict == UNDECIDED and low * high > 0:
        notes.append(
            'the interval leaves out zero, but no test that allows for few seeds confirms it'
        )
    return notes
