"""Replay recorded inputs and compare the outputs with the recorded ones.

A file is named ``<kind>_*.safetensors``; its kind says which function of this
module replays it. Metadata ``knobs`` are options of the Detectron2 system, read
through :mod:`~mmdiffdet.convert.detectron2_options`.
"""

from pathlib import Path
from typing import List, Tuple

import diffusers
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..diffusion import D3PMScheduler, sample
from ..diffusion.box_schedulers import training_scheduler
from ..diffusion.noise import PerImageNoise
from ..diffusion.sampling import SamplingStep
from ..losses.assigner import assign
from ..losses.objects import PaddedObjects
from ..models.detector import DiffusionDet
from ..models.structures import HeadOutput
from ..registry import MODELS, TASK_UTILS
from .detectron2_model import model_config
from .detectron2_weights import rename
from .golden import Golden, Report

# largest absolute error, by what is compared (losses: relative; gradients:
# relative to the tensor's largest value)
TOLERANCES = {
    'head': dict(boxes=5e-4, logits=1e-4, quality=1e-4, attention=1e-4),
    'grad': dict(gradients=2e-4, scalar=1e-4),
    'sample': dict(boxes=2e-3, logits=5e-4, quality=5e-4),
    'loss': dict(losses=1e-5, assignments=0.0),
    'schedules': dict(betas=1e-5, alphas_cumprod=1e-5, timesteps=0.0, labels=1e-5),
}
_LOSS_NAMES = dict(loss_ce='loss_cls', loss_graph='loss_topology')  # others are the same


def replay(path: Path) -> Report:
    """Replay one safetensors file; nothing is raised, the report tells of problems."""
    report = Report(path.stem)
    try:
        golden = Golden.load(path)
        function = _REPLAYS.get(golden.kind)
        if function is None:
            report.problem = f'not supported yet: kind {golden.kind!r}'
            return report
        report.tolerances = TOLERANCES[golden.kind]
        function(golden, report)
    except ValueError as error:  # an option or value that we do not know
        report.problem = f'not supported yet: {error}'
    except Exception as error:  # one file must not stop the others
        report.problem = f'MISMATCH ({type(error).__name__}: {error})'
    return report


def _run_head(golden: Golden, model: DiffusionDet, feats: List[Tensor]) -> HeadOutput:
    tensors = golden.tensors
    return model.bbox_head(
        model.bbox_head.tabulate(feats),
        tensors['in.boxes'],
        tensors['in.t'],
        tensors.get('in.label_state'),
        need_attention='out.attn' in tensors,
    )


@torch.no_grad()
def _replay_head(golden: Golden, report: Report) -> None:
    output = _run_head(golden, golden.model(), golden.features())
    for what, key, found in (
        ('boxes', 'boxes', output.boxes),
        ('logits', 'logits', output.logits),
        ('quality', 'quality', output.extras.get('quality')),
        ('attention', 'attn', output.attention),
    ):
        if f'out.{key}' in golden.tensors:
            report.compare(what, found, golden.tensors[f'out.{key}'])


def _replay_grad(golden: Golden, report: Report) -> None:
    model = golden.model().train()
    feats = [f.clone().requires_grad_() for f in golden.features()]
    output = _run_head(golden, model, feats)
    outputs = dict(logits=output.logits, boxes=output.boxes, **output.extras)
    scalar = sum(
        (value * golden.tensors[f'in.weight_{name}']).sum() for name, value in outputs.items()
    )
    expected = golden.tensors['out.scalar']
    report.compare('scalar', scalar.detach(), expected, expected.abs().item())
    scalar.backward()
    found = {f'feat{i}': f.grad for i, f in enumerate(feats)}
    parameters = dict(model.bbox_head.named_parameters())
    recorded = {k[5:]: v for k, v in golden.tensors.items() if k.startswith('grad.')}
    # a gradient that cancels (a shift of all logits of a softmax) is rounding alone
    rounding = 1e-7 * max(g.abs().max().item() for g in recorded.values())
    for name, gradient in recorded.items():
        mine = found.get(name)
        if name.startswith('head.'):
            parameter = parameters.get(rename(name[5:], parameters))
            mine = None if parameter is None else parameter.grad
        if mine is None:
            mine = torch.zeros_like(gradient)
        largest = gradient.abs().max().item()
        if max(largest, mine.abs().max().item()) < rounding:
            mine = gradient
        report.compare('gradients', mine, gradient, largest or 1.0)


@torch.no_grad()
def _replay_sample(golden: Golden, report: Report) -> None:
    model = golden.model()
    x = golden.tensors['in.noise']
    model.sampler.scheduler.set_timesteps(int(golden.metadata['steps']))
    steps: List[SamplingStep] = []
    sample(
        model.denoiser(model.bbox_head.tabulate(golden.features())),
        model.sampler.scheduler,
        x,
        PerImageNoise.from_seed(0, range(len(x))),
        model.box_codec,
        golden.image_sizes(len(x)),
        eta=float(golden.metadata['eta']),
        label_scheduler=model.label_scheduler,
        guidance=model.sampler.guidance,
        callback=steps.append,
    )
    prediction = steps[-1].prediction
    for what in ('boxes', 'logits', 'quality'):
        if f'out.{what}' in golden.tensors:
            report.compare(what, getattr(prediction, what), golden.tensors[f'out.{what}'])


def _replay_loss(golden: Golden, report: Report) -> None:
    config = model_config(golden.options())
    criterion = MODELS.build(config['criterion'])
    for loss in criterion.children():  # recorded without weights
        loss.loss_weight = 1.0
    tensors = golden.tensors
    output = HeadOutput(
        tensors['in.logits'],
        tensors['in.boxes'],
        dict(quality=tensors['in.quality']),
        modulated=None,
        attention=tensors['in.attn'],
    )
    batch = output.logits.size(1)
    image_sizes = golden.image_sizes(batch)
    objects = [
        InstanceData(bboxes=tensors[f'in.gt{i}.bboxes'], labels=tensors[f'in.gt{i}.labels'])
        for i in range(batch)
    ]
    losses = criterion(output, objects, image_sizes)
    for key, expected in tensors.items():
        if not key.startswith('out.loss'):
            continue
        name = key[4:].removesuffix('_0')
        name = _LOSS_NAMES.get(name, name)
        if key.endswith('_0'):
            name = 's0.' + name
        report.compare('losses', losses[name].detach(), expected, max(expected.abs().item(), 1e-6))
    index = assign(
        criterion.assigner, output.logits, output.boxes, PaddedObjects.pad(objects), image_sizes
    ).index[-1]
    for i, found in enumerate(index):
        report.compare('assignments', found, tensors[f'out.assigned_gt{i}'])


def _replay_schedules(golden: Golden, report: Report) -> None:
    sampler = TASK_UTILS.build(model_config({})['sampler'])
    forward: diffusers.DDPMScheduler = training_scheduler(sampler.scheduler)
    for key, expected in golden.tensors.items():
        parts: Tuple[str, ...] = tuple(key.split('.'))
        if key in ('betas', 'alphas_cumprod'):
            report.compare(key, getattr(forward, key), expected)
        elif parts[0] == 'timesteps':
            sampler.scheduler.set_timesteps(int(parts[1]))
            report.compare('timesteps', sampler.scheduler.timesteps, expected)
        elif len(parts) == 3:
            kernel, schedule, t = parts
            labels = D3PMScheduler(expected.size(-1) - 1, kernel=kernel, keep_schedule=schedule)
            found = labels.add_noise(golden.tensors['c0'][None], torch.tensor([int(t[1:])]))
            report.compare('labels', found[0], expected)


_REPLAYS = dict(
    head=_replay_head,
    grad=_replay_grad,
    sample=_replay_sample,
    loss=_replay_loss,
    schedules=_replay_schedules,
)
