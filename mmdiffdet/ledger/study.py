"""What a study could show, before anybody trains for it."""

import math
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from scipy import stats

from .comparison import ALPHA, check_protocols
from .experiments import Experiment
from .pairing import groups_of, sides_of, spread_of, values_of
from .planning import detectable
from .resampling import Components


@dataclass(frozen=True)
class Study:
    """The smallest differences that a comparison could show.

    Args:
        label (str): Of the experiment, or of both.
        metric (str): Which would be compared.
        paired (bool): Whether by train seed and eval seed.
        seen (tuple): Train seeds, and eval seeds of each, that the spread is
            known from.
        spread (Components): Variances of a difference between two runs.
        factor (tuple): 95 % interval of the true deviation between train
            seeds in units of the one that was found, if it is normal.
        smallest (dict[int, float]): Difference by number of train seeds on
            each side, with as many eval seeds as were seen.
        notes (List[str]): What limits the answer.
    """

    label: str
    metric: str
    paired: bool
    seen: Tuple[int, int]
    spread: Components
    factor: Tuple[float, float]
    smallest: Dict[int, float]
    notes: List[str]


def plan_study(
    a: Experiment, b: Optional[Experiment] = None, metric: str = 'AP', across: Optional[str] = None
) -> Study:
    """The smallest difference that numbers of train seeds could show.

    With a two-sided t-test at 0.05 that finds it four times in five. The
    spread is that of the paired differences of A and B or, of one experiment
    alone, what two unpaired ones that vary like it would have.

    Args:
        a (Experiment): Whose trainings vary as those of the study will.
        b (Experiment, optional): The same with another method.
        metric (str): Which would be compared.
        across (str, optional): The protocol field in which A and B differ.

    Raises:
        ValueError: If fewer than two train seeds tell how trainings vary, or
            A and B were tested by different protocols.
    """
    notes: List[str] = []
    if b is None:
        sides = [groups_of(values_of(a, metric))] * 2
        label = f'two like {a.label}'
        notes.append('pairs by train seed may differ less: give two experiments to --plan')
    else:
        notes += check_protocols(a, b, across)
        sides, pairing = sides_of(a, b, metric, notes)
        label = f'{a.label} and {b.label}'
        notes.append(pairing)
    trains = min(len(side) for side in sides)
    spread = spread_of(sides)
    if spread.train is None:
        raise ValueError(
            f'--plan: {label}: one train seed cannot show how '
            'much trainings vary; train two more at least'
        )
    if spread.evaluation is None:
        notes.append('one eval seed: its share counts as that of training')
    low, high = (math.sqrt((trains - 1) / q) for q in stats.chi2.ppf([0.975, 0.025], trains - 1))
    return Study(
        label,
        metric,
        len(sides) == 1,
        (trains, min(len(g) for side in sides for g in side)),
        spread,
        (low, high),
        detectable(sides, spread, ALPHA),
        notes,
    )
