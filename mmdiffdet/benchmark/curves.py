"""Accuracy against cost: solvers, proposals and stages of a trained model."""

from pathlib import Path
from statistics import mean
from typing import Dict, List, NamedTuple, Sequence, Tuple

import diffusers
from matplotlib.figure import Figure

from ..diffusion.flow import FlowMatchEulerDiscreteScheduler
from ..engine.multi_seed_test_loop import MultiSeedTestLoop
from ..utils import atomic_path

_SOLVERS = {
    'DDIM, eta 1': dict(scheduler=dict(type='DDIMScheduler'), eta=1.0),
    'DDIM, eta 0': dict(scheduler=dict(type='DDIMScheduler'), eta=0.0),
    'Euler': dict(scheduler=dict(type='EulerDiscreteScheduler')),
    'DPM-Solver': dict(scheduler=dict(type='DPMSolverMultistepScheduler'), renewal=None),
    'UniPC': dict(scheduler=dict(type='UniPCMultistepScheduler'), renewal=None),
    'DDIM, eta 0, no renewal': dict(scheduler=dict(type='DDIMScheduler'), eta=0.0, renewal=None),
}
_FLOW_SOLVERS = {
    'Euler': {},
    'Euler, shift 3': dict(scheduler=dict(shift=3.0)),
    'Euler, noise anew in each step': dict(scheduler=dict(stochastic_sampling=True)),
    'Euler, no renewal': dict(renewal=None),
}


class Point(NamedTuple):
    """A way to sample, measured.

    Args:
        panel (str): ``solver``, ``proposals`` or ``stages``.
        line (str): What is the same along a line.
        label (str): What is not.
        seconds (float): An image.
        AP (float): 0-100, mean over eval seeds.
        AP_by_seed (list[float]): Each.
    """

    panel: str
    line: str
    label: str
    seconds: float
    AP: float
    AP_by_seed: List[float]


def curve_variants(
    steps: Sequence[int],
    num_proposals: int,
    num_stages: int,
    scheduler: diffusers.SchedulerMixin,
) -> Dict[Tuple[str, str, str], dict]:
    """Variants of the test loop by (panel, line, label).

    Args:
        steps (Sequence[int]): Sampling steps of each line.
        num_proposals (int): The model's; less and more of them are tried.
        num_stages (int): Of the model's head.
        scheduler (SchedulerMixin): The model's; one of flow matching is
            compared with other ways to follow the flow, others with solvers
            of diffusion.
    """
    flow = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
    variants: Dict[Tuple[str, str, str], dict] = {}
    for name, change in (_FLOW_SOLVERS if flow else _SOLVERS).items():
        for step in steps:
            variants['solver', name, str(step)] = dict(change, sampling_timesteps=step)
    for number in (
        num_proposals // 4,
        num_proposals // 2,
        num_proposals,
        2 * num_proposals,
        4 * num_proposals,
    ):
        variants['proposals', 'one step', str(number)] = dict(
            sampling_timesteps=1, num_proposals=number
        )
    for step in steps:
        if step == 1:
            continue
        for stages in range(1, num_stages + 1):
            variants['stages', f'{step} steps', str(stages)] = dict(
                sampling_timesteps=step, stages_per_step=[num_stages, stages]
            )
    return variants


def points_of(loop: MultiSeedTestLoop, names: Sequence[Tuple[str, str, str]]) -> List[Point]:
    """What a test of all variants found.

    Args:
        loop (MultiSeedTestLoop): It has run, with the eval seeds of each
            variant next to each other.
        names (Sequence[tuple]): Keys of :func:`curve_variants`.

    Raises:
        KeyError: If a metric does not report COCO's AP.
    """
    seeds = len(loop.cases) // len(names)
    points = []
    for i, name in enumerate(names):
        index = range(i * seeds, (i + 1) * seeds)
        found = [100 * loop.metrics[loop.cases[j].name]['coco/bbox_mAP'] for j in index]
        seconds = loop.stopwatch.per_image('features') + mean(
            loop.stopwatch.per_image(j) for j in index
        )
        points.append(Point(*name, seconds, mean(found), found))
    return points


def plot_curves(points: Sequence[Point], path: Path, precision: str) -> None:
    """Draw AP against milliseconds an image, a panel a question.

    Args:
        points (Sequence[Point]): Measured.
        path (Path): .png, .svg or .pdf.
        precision (str): That they were measured in.
    """
    panels = list(dict.fromkeys(p.panel for p in points))
    figure = Figure(figsize=(6 * len(panels), 4.5), layout='constrained')
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        here = [p for p in points if p.panel == panel]
        for line in dict.fromkeys(p.line for p in here):
            on = [p for p in here if p.line == line]
            axes.plot([1000 * p.seconds for p in on], [p.AP for p in on], marker='o', label=line)
            for p in on:
                axes.annotate(f' {p.label}', (1000 * p.seconds, p.AP), fontsize=8)
        axes.set(
            xscale='log',
            ylabel='AP (0 to 100)',
            title={
                'solver': 'Solver (numbers: steps)',
                'proposals': 'Number of proposals',
                'stages': 'Stages after the first step',
            }[panel],
            xlabel=f'ms an image, {precision}',
        )
        for formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            formatter('{x:.0f}')
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
