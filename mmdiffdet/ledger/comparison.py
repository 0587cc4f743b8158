"""The verdict on whether one experiment is better than another."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import List, Optional, Sequence, Tuple

import numpy as np

from .experiments import Experiment, describe
from .pairing import Sides, sides_of
from .power import ALPHA, MIN_UNITS, more_runs
from .problems import contradicts_itself, mixed_configs
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
    """The comparison of B with A.

    Args:
        a, b (Experiment): A is the one to compare with, B the one in question.
        metric (str): The name of the metric.
        sides (Sides): The values that were compared with each other.
        difference (float): B minus A, of the means of the train seeds' means.
        low, high (float, optional): The ends of the 95 % bootstrap interval.
        tests (List[Test]): The tests that could be made.
        doubts (List[str]): Sentences on what is not known of the experiments.
        corrected (float, optional): The p-value of the decisive test, corrected
            for the number of comparisons.
        together (int): The number of comparisons that were made together.
    """

    a: Experiment
    b: Experiment
    metric: str
    sides: Sides
    difference: float
    low: Optional[float]
    high: Optional[float]
    tests: List[Test]
    doubts: List[str]
    corrected: Optional[float] = None
    together: int = 1

    @cached_property
    def summaries(self) -> Tuple[Summary, Summary]:
        """Means and spreads of A and of B over all of their runs."""
        return summarise(self.a.runs, self.metric), summarise(self.b.runs, self.metric)

    @property
    def pairing(self) -> str:
        """A sentence on what was paired and how much of it."""
        return self.sides.pairing

    @property
    def used(self) -> Tuple[int, int]:
        """The numbers of runs of A and of B that were compared."""
        return tuple(sum(map(len, self.sides.groups[side])) for side in (0, -1))

    @property
    def unit(self) -> str:
        """What a replicate of the test is: ``train seed``, ``eval seed`` or ``none``."""
        return self.sides.unit

    @property
    def replicates(self) -> Tuple[int, int]:
        """The numbers of replicates of A and of B."""
        return len(self.sides.units[0]), len(self.sides.units[-1])

    @property
    def decisive(self) -> Optional[Test]:
        """The test that decides. It is the permutation test where that can reach the
        p that is needed, 0.05 over the number of comparisons made together, and
        else the t-test. With two replicates there is none."""
        if min(self.replicates) < MIN_UNITS:
            return None
        needed = ALPHA / self.together
        return next((test for test in self.tests if test.smallest <= needed), None)

    @property
    def verdict(self) -> str:
        """The verdict on B: ``better``, ``worse`` or ``not distinguishable``."""
        if self.decisive is None:
            return UNDECIDED
        p = self.decisive.p if self.corrected is None else self.corrected
        if p > ALPHA:
            return UNDECIDED
        if self.low > 0:
            return 'better'
        return 'worse' if self.high < 0 else UNDECIDED

    @cached_property
    def alone(self) -> 'Comparison':
        """The comparison as it would be if it had been the only one."""
        return replace(self, corrected=None, together=1)

    @property
    def scope(self) -> str:
        """What the verdict speaks of, as the rest of a sentence."""
        if self.unit == 'train seed':
            counts = ' and '.join(map(str, dict.fromkeys(self.replicates)))
            return f'training with any seed, judged by {counts} train seeds of each'
        if self.unit == 'eval seed':
            return (
                'these two checkpoints only: from one train seed, how much training varies is '
                'unknown'
            )
        return 'these runs only'

    @property
    def spread(self) -> Components:
        """The variances of the paired differences, or the sums of those of A and B."""
        parts = zip(*map(components, self.sides.groups))
        return Components(*(None if None in values else sum(values) for values in parts))

    @cached_property
    def more(self) -> str:
        """A sentence on about how many more runs would settle the comparison."""
        if self.verdict != UNDECIDED:
            return 'none needed'
        if self.alone.verdict != UNDECIDED:
            return f'more {self.unit}s than for one comparison, or fewer comparisons'
        return more_runs(self.unit, self.sides.groups, self.difference)

    @property
    def notes(self) -> List[str]:
        """Sentences on what limits the answer."""
        notes, count = [*self.doubts, *self.sides.notes], min(self.replicates)
        if self.unit == 'none':
            return notes
        if count < FEW:
            notes.append(
                f'a bootstrap over {count} {self.unit}s gives too narrow an interval '
                f'(about {np.sqrt((count - 1) / count):.0%} of its width)'
            )
        first = self.tests[0]
        if ALPHA / self.together < first.smallest < 1:
            among = f' among {self.together} comparisons' if self.together > 1 else ''
            notes.append(
                f'{first.name} cannot give p below {first.smallest:.2g} with {count} '
                f'{self.unit}s{among}, '
                + (
                    f'so {self.decisive.name} decides, which takes their means as normal'
                    if self.decisive
                    else 'so nothing is decided'
                )
            )
        if self.decisive and self.verdict != self.alone.verdict:
            notes.append(
                f'alone it would be {self.alone.verdict}; among {self.together} comparisons a p '
                f'of {self.decisive.p:.4f} is no rare chance'
            )
        elif self.verdict == UNDECIDED and self.low * self.high > 0:
            notes.append(
                'the interval leaves out zero, but no test that allows for few seeds confirms it'
            )
        return notes


def compare(
    a: Experiment,
    b: Experiment,
    metric: str = 'AP',
    across: Optional[str] = None,
    resamples: int = 10000,
) -> Comparison:
    """Compare experiment B with experiment A.

    Runs are paired by (train seed, eval seed), so that what the two trainings and
    the sampling noise have in common cancels. The unit of the test is the train
    seed: the eval seeds of one model are no independent replicates of its training,
    so their differences are averaged first. With one train seed on each side the
    unit is the eval seed, and the verdict speaks of these two checkpoints only.

    B is better (worse) if the decisive test has p <= 0.05 and the bootstrap interval
    lies above (below) zero. The decisive test is the permutation test if it can
    reach 0.05 (paired: from six replicates). Else it is, from three replicates, the
    t-test, which has the right level if their means are normal.

    Args:
        a (Experiment): The experiment to compare with.
        b (Experiment): The experiment in question.
        metric (str): The name of the metric.
        across (str, optional): The protocol field that is studied, which may
            differ. With ``model_family``, if one side does not sample, so may what
            only the other has: steps, scheduler and eta.
        resamples (int): The number of bootstrap samples.

    Raises:
        ValueError: If the protocols differ otherwise, if the field is none
            or does not differ, or if an experiment contradicts itself or
            lacks the metric.
    """
    doubts = check_protocols(a, b, across)
    sides = sides_of(a, b, metric)
    rng = np.random.default_rng(0)
    # B's draws first, then A's; a pair is one side
    boot = [bootstrap_means(side, resamples, rng) for side in reversed(sides.groups)]
    means = [np.mean([g.mean() for g in side]) for side in reversed(sides.groups)]
    if len(means) == 2:
        boot, means = [boot[0] - boot[1]], [means[0] - means[1]]
    tests, low, high = [], None, None
    if sides.unit != 'none':
        tests = (paired_tests if len(sides.units) == 1 else unpaired_tests)(*sides.units)
        low, high = interval(boot[0], 1 - ALPHA)
    return Comparison(a, b, metric, sides, float(means[0]), low, high, tests, doubts)


def correct(comparisons: Sequence[Comparison]) -> List[Comparison]:
    """Correct the verdicts of several comparisons for their number.

    The method is Holm's (1979, 'A simple sequentially rejective multiple test
    procedure'): the smallest of n p-values is multiplied by n, the next one by
    n - 1, and so on, and none becomes smaller than the one before it. The
    probability that any verdict is wrong where there is no difference then stays at
    5 %. Comparisons without a decisive test do not count. Which test decides depends
    on the number too, see :attr:`Comparison.decisive`.

    Args:
        comparisons (Sequence[Comparison]): All comparisons that were made together.
    """
    done = list(comparisons)
    tested = [i for i, c in enumerate(done) if c.decisive]
    for i in tested:
        done[i] = replace(done[i], together=len(tested))
    tested = [i for i in tested if done[i].decisive]
    p = 0.0
    for rank, i in enumerate(sorted(tested, key=lambda i: done[i].decisive.p)):
        p = max(p, min(1.0, (len(tested) - rank) * done[i].decisive.p))
        done[i] = replace(done[i], corrected=p)
    return done


def check_protocols(a: Experiment, b: Experiment, across: Optional[str]) -> List[str]:
    """Refuse experiments that must not be compared, see :func:`compare`.

    Returns:
        List[str]: Sentences on what is not known of them.
    """
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
    notes += mixed_configs(a) + mixed_configs(b)
    for side, names in (('A', a.names), ('B', b.names)):
        if len(names) > 1:
            notes.append(
                f'{side} pools {len(names)} experiments: if these same results chose them, '
                'it looks better than it is'
            )
    return notes
