"""The smallest difference that a study could show, before anybody trains for it."""

import math
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from scipy import stats

from .comparison import check_protocols
from .experiments import Experiment
from .pairing import side_of, sides_of
from .power import detectable, variance_of_difference
from .problems import contradicts_itself


@dataclass(frozen=True)
class Plan:
    """The smallest differences that a comparison could show.

    Args:
        label (str): What is compared.
        metric (str): The name of the metric.
        paired (bool): Whether runs are paired by train seed and eval seed.
        seen (tuple): The numbers of train seeds, and of eval seeds of each, that the
            spread is known from.
        deviation (float): The standard deviation, between train seeds, of the
            difference of two models' means over their eval seeds.
        factor (tuple): The 95 % interval of the true deviation in units of that one,
            if differences are normal.
        smallest (dict[int, float]): The smallest difference by the number of train
            seeds on each side, with as many eval seeds as were seen.
        notes (List[str]): Sentences on what limits the answer.
    """

    label: str
    metric: str
    paired: bool
    seen: Tuple[int, int]
    deviation: float
    factor: Tuple[float, float]
    smallest: Dict[int, float]
    notes: List[str]


def plan_study(
    a: Experiment, b: Optional[Experiment] = None, metric: str = 'AP', across: Optional[str] = None
) -> Plan:
    """Find the smallest difference that numbers of train seeds could show.

    The test that decides in :func:`~mmdiffdet.ledger.comparison.compare` finds it
    four times in five. The spread is that of the paired differences of A and B. Of
    one experiment alone it is what two unpaired ones that vary like it would have.

    Args:
        a (Experiment): An experiment whose trainings vary as those of the study will.
        b (Experiment, optional): An experiment with the other method.
        metric (str): The name of the metric.
        across (str, optional): The protocol field in which A and B differ.

    Raises:
        ValueError: If fewer than two train seeds tell how trainings vary, an
            experiment contradicts itself, or A and B were tested by
            different protocols.
    """
    if b is None:
        for problem in contradicts_itself(a):
            raise ValueError(f'cannot plan: {problem}')
        sides, label = [side_of(a, metric)] * 2, f'two like {a.label}'
        notes = ['pairs by train seed may differ less: give two experiments to --plan']
    else:
        notes = check_protocols(a, b, across)
        found = sides_of(a, b, metric)
        sides, label = found.groups, f'{a.label} and {b.label}'
        notes += [*found.notes, found.pairing]
    trains = [len(side) for side in sides]
    if min(trains) < 2:
        raise ValueError(
            f'--plan: {label}: one train seed cannot show how '
            'much trainings vary; train two more at least'
        )
    if any(all(len(g) == 1 for g in side) for side in sides):
        notes.append('one eval seed a model: its share counts as that of training')
    evals = min(len(g) for side in sides for g in side)
    parts = [variance_of_difference([side], evals) for side in sides]
    # of a sum of variances that are known from their own seeds (Satterthwaite,
    # 1946); of one experiment that stands for both there is one
    freedom = trains[0] - 1.0
    if b is not None and len(sides) == 2 and any(parts):
        freedom = sum(parts) ** 2 / sum(v**2 / (n - 1) for v, n in zip(parts, trains))
    low, high = (math.sqrt(freedom / q) for q in stats.chi2.ppf([0.975, 0.025], freedom))
    return Plan(
        label=label,
        metric=metric,
        paired=len(sides) == 1,
        seen=(min(trains), evals),
        deviation=math.sqrt(sum(parts)),
        factor=(low, high),
        smallest=detectable(sides, evals),
        notes=notes,
    )
