"""Whether one experiment is better than another."""

from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

from .experiments import Experiment, describe
from .pairing import sides_of, spread_of
from .planning import MIN_UNITS, more_runs
from .power import ALPHA
from .problems import contradicts_itself
from .protocol import PROTOCOL_FIELDS
from .resampling import (
    Components,
    Test,
    bootstrap_means,
    interval,
    paired_tests,
    unpaired_tests,
)
from .statistics import Summary, summarise

FEW = 10
"""Below this many train seeds a bootstrap interval is clearly too narrow."""


@dataclass(frozen=True)
class Comparison:
    """B against A; a positive difference means that B has the larger metric.

    Args:
        a (Experiment): The one compared with.
        b (Experiment): The one in question.
        metric (str): Which was compared.
        summaries (tuple): Of A and of B, over all of their runs.
        pairing (str): What was paired, and how much of it.
        used (tuple): Number of runs of A and of B that were compared.
        unit (str): Replicate of the test: ``train seed``, ``eval seed`` or
            ``none``.
        units (tuple): Number of replicates of A and of B.
        difference (float): Between the means of the train seeds' means.
        low (float, optional): Lower end of the 95 % bootstrap interval.
        high (float, optional): Upper end.
        tests (List[Test]): The p-values there are, of which ``decisive``
            counts.
        decisive (Test, optional): The permutation test where it can reach
            0.05, otherwise the t-test; none with two replicates.
        spread (Components): Variances of the (paired) differences, or the
            sums of those of A and B.
        verdict (str): ``better``, ``worse`` or ``not distinguishable``.
        scope (str): What the verdict speaks of.
        more (str): About how many more runs would settle it.
        notes (List[str]): What limits the answer.
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
    sides, pairing = sides_of(a, b, metric, notes)
    rng = np.random.default_rng(0)
    tests: List[Test] = []
    if len(sides) == 1:
        boot = bootstrap_means(sides[0], resamples, rng)
        difference = float(np.mean([g.mean() for g in sides[0]]))
    else:
        boot = bootstrap_means(sides[1], resamples, rng) - bootstrap_means(sides[0], resamples, rng)
        means = [np.mean([g.mean() for g in side]) for side in sides]
        difference = float(means[1] - means[0])
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
    low = high = None
    if unit != 'none':
        tests = (paired_tests if len(units) == 1 else unpaired_tests)(*units)
        low, high = interval(boot, 1 - ALPHA)
    counts = (len(units[0]), len(units[-1]))
    used = tuple(sum(map(len, side)) for side in (sides[0], sides[-1]))
    decisive = None
    if min(counts) >= MIN_UNITS:
        decisive = next((t for t in tests if t.smallest <= ALPHA), None)
    verdict = _verdict(difference, low, high, decisive)
    spread = spread_of(sides)
    notes += _limits(unit, min(counts), tests, decisive, low, high, verdict)
    return Comparison(
        a,
        b,
        metric,
        (summarise(a.runs, metric), summarise(b.runs, metric)),
        pairing,
        used,
        unit,
        counts,
        difference,
        low,
        high,
        tests,
        decisive,
        spread,
        verdict,
        _scope(unit, counts),
        'none needed' if verdict != 'not distinguishable' else more_runs(unit, sides, difference),
        notes,
    )


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
    difference: float, low: Optional[float], high: Optional[float], decisive: Optional[Test]
) -> str:
    if decisive is not None and decisive.p <= ALPHA:
        if difference > 0 and low > 0:
            return 'better'
        if difference < 0 and high < 0:
            return 'worse'
    return 'not distinguishable'


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
    if verdict == 'not distinguishable' and low * high > 0:
        notes.append(
            'the interval leaves out zero, but no test that allows for few seeds confirms it'
        )
    return notes
