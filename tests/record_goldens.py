"""Record tests/data/*.safetensors, which tests/test_parity.py replays.

    python tests/record_goldens.py

The files have the form of the reference system's (see
``mmdiffdet/convert/parity.py``) and hold what this code computed when all of
that system's files agreed. Record anew only when results are meant to move,
or inputs: the maps are smooth because on noise a change of 1e-7 in them moves
boxes by up to 1e-3 pixels, more than kernels that round otherwise may differ.
When inputs change, record with the code from before the kernels.
"""

import json
from pathlib import Path
from typing import Any, Dict

import safetensors.torch
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from tiny import build, tiny_config
from tiny_detectron2 import SIZES, detectron2_name
from torch import Tensor

from mmdiffdet.convert.detectron2_model import model_config
from mmdiffdet.convert.golden import Golden
from mmdiffdet.convert.parity import _run_head
from mmdiffdet.diffusion import D3PMScheduler, PerImageNoise, sample
from mmdiffdet.diffusion.box_schedulers import training_scheduler
from mmdiffdet.losses import PaddedObjects
from mmdiffdet.losses.assigner import assign
from mmdiffdet.models import HeadOutput
from mmdiffdet.registry import MODELS

DATA = Path(__file__).parent / 'data'
HW = '48,64'
PARTS = dict(
    LABEL_STATE=True,
    QUALITY_HEAD=True,
    GEO_BIAS=True,
    GEO_BIAS_TYPE='mlp',
    GEO_BIAS_REL_INCLUDE_IOU=True,
    GEO_FEAT=True,
    GEO_FEAT_REL=True,
    GEO_FEAT_SCHEDULE='constant',
)
GUIDED = dict(
    LABEL_STATE=True,
    LABEL_D3PM=True,
    LABEL_STATE_SCALE=2.0,
    QUALITY_HEAD=True,
    QUALITY_GUIDANCE_SCALE=0.5,
    QUALITY_GUIDANCE_TOPK=6,
    QUALITY_GUIDANCE_MODE='all',
)
LOSSES = dict(
    CLS_LOSS_TYPE='qfl',
    BOX_LOSS_IOU_WEIGHT_POWER=2.0,
    QUALITY_HEAD=True,
    GRAPH_TOPO_LOSS_WEIGHT=1.0,
)


def write(name: str, tensors: Dict[str, Tensor], **metadata: Any) -> None:
    """Write one file."""
    safetensors.torch.save_file(
        {
            k: v.detach().contiguous().float() if v.is_floating_point() else v
            for k, v in tensors.items()
        },
        DATA / f'{name}.safetensors',
        {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()},
    )


def weights(**options: Any) -> Dict[str, Tensor]:
    """A head with no zero in it, under Detectron2's names."""
    options = dict(SIZES, HIDDEN_DIM=8, DIM_DYNAMIC=4, **options)
    head = build({**tiny_config(), **model_config(options)}).bbox_head
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if parameter.dim() != 2 or 'mlp.2' in name or 'proj' in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return {f'head.{detectron2_name(k)}': v for k, v in head.state_dict().items()}


def features() -> Dict[str, Tensor]:
    """Four maps of two images, smooth: noise would amplify rounding."""
    return {
        f'in.feat{i}': F.interpolate(
            torch.randn(2, 8, 3, 4), (-(-48 // s), -(-64 // s)), mode='bilinear'
        )
        for i, s in enumerate((4, 8, 16, 32))
    }


def boxes(*shape: int) -> Tensor:
    """Random boxes of every size."""
    low = torch.rand(*shape, 2) * torch.tensor([50.0, 35.0])
    return torch.cat([low, low + torch.rand(*shape, 2) * 40], -1)


def main() -> None:
    DATA.mkdir(exist_ok=True)
    torch.manual_seed(11)
    common = dict(
        features(),
        **{
            'in.boxes': boxes(2, 12),
            'in.t': torch.tensor([700, 40]),
            'in.label_state': torch.randint(4, (2, 12)),
        },
    )
    head = Golden(
        'head', {**common, **weights(**PARTS)}, dict(knobs=json.dumps(PARTS), image_hw=HW)
    )
    with torch.no_grad():
        output = _run_head(head, head.model(), head.features())
    write(
        'head_parts',
        {
            **head.tensors,
            'out.logits': output.logits,
            'out.boxes': output.boxes,
            'out.quality': output.extras['quality'],
        },
        knobs=PARTS,
        image_hw=HW,
    )

    model = head.model().train()
    feats = [f.requires_grad_() for f in head.features()]
    output = _run_head(head, model, feats)
    values = dict(logits=output.logits, boxes=output.boxes, **output.extras)
    factors = {k: torch.randn_like(v) for k, v in values.items()}
    scalar = sum((values[k] * factors[k]).sum() for k in values)
    scalar.backward()
    write(
        'grad_parts',
        {
            **head.tensors,
            'out.scalar': scalar,
            **{f'in.weight_{k}': v for k, v in factors.items()},
            **{f'grad.feat{i}': f.grad for i, f in enumerate(feats)},
            **{
                f'grad.head.{detectron2_name(k)}': v.grad
                for k, v in model.bbox_head.named_parameters()
                if v.grad is not None
            },
        },
        knobs=PARTS,
        image_hw=HW,
        mode='train',
    )

    golden = Golden(
        'sample',
        {**features(), **weights(**GUIDED), 'in.noise': torch.randn(2, 12, 4)},
        dict(knobs=json.dumps(GUIDED), image_hw='48,64;40,52'),
    )
    model = golden.model()
    model.sampler.scheduler.set_timesteps(2)
    with torch.no_grad():
        prediction = sample(
            model.denoiser(model.bbox_head.tabulate(golden.features())),
            model.sampler.scheduler,
            golden.tensors['in.noise'],
            PerImageNoise.from_seed(0, range(2)),
            model.box_codec,
            golden.image_sizes(2),
            eta=0.0,
            label_scheduler=model.label_scheduler,
            guidance=model.sampler.guidance,
        )
    write(
        'sample_guided_2',
        {
            **golden.tensors,
            'out.boxes': prediction.boxes,
            'out.logits': prediction.logits,
            'out.quality': prediction.quality,
        },
        knobs=GUIDED,
        steps='2',
        eta='0.0',
        image_hw=golden.metadata['image_hw'],
    )

    criterion = MODELS.build(model_config(dict(SIZES, **LOSSES))['criterion'])
    for loss in criterion.children():
        loss.loss_weight = 1.0
    inputs = {
        'in.logits': torch.randn(2, 2, 12, 3),
        'in.boxes': boxes(2, 2, 12),
        'in.quality': torch.randn(2, 2, 12),
        'in.attn': torch.rand(2, 12, 12).softmax(-1),
    }
    for i, count in enumerate((5, 3)):
        inputs[f'in.gt{i}.bboxes'] = boxes(count)
        inputs[f'in.gt{i}.labels'] = torch.randint(3, (count,))
    objects = [
        InstanceData(bboxes=inputs[f'in.gt{i}.bboxes'], labels=inputs[f'in.gt{i}.labels'])
        for i in range(2)
    ]
    sizes = torch.tensor([[48.0, 64.0]] * 2)
    output = HeadOutput(
        inputs['in.logits'],
        inputs['in.boxes'],
        dict(quality=inputs['in.quality']),
        None,
        inputs['in.attn'],
    )
    result = criterion(output, objects, sizes)
    index = assign(
        criterion.assigner, output.logits, output.boxes, PaddedObjects.pad(objects), sizes
    ).index[-1]
    names = dict(loss_cls='loss_ce', loss_topology='loss_graph')
    write(
        'loss_mixed',
        {
            **inputs,
            **{f'out.{names.get(k, k)}': v for k, v in result.items() if not k.startswith('s0.')},
            **{
                f'out.{names.get(k[3:], k[3:])}_0': v
                for k, v in result.items()
                if k.startswith('s0.')
            },
            **{f'out.assigned_gt{i}': found for i, found in enumerate(index)},
        },
        knobs=LOSSES,
        image_hw=HW,
    )

    labels = torch.tensor([0, 2, 3])
    scheduler = build(tiny_config()).sampler.scheduler
    tensors = dict(c0=labels, alphas_cumprod=training_scheduler(scheduler).alphas_cumprod)
    for steps in (1, 4, 20):
        scheduler.set_timesteps(steps)
        tensors[f'timesteps.{steps}'] = scheduler.timesteps.clone()
    for kernel in ('mask', 'uniform'):
        for t in (0, 500, 999):
            tensors[f'{kernel}.linear.t{t}'] = D3PMScheduler(
                3, kernel=kernel, keep_schedule='linear'
            ).add_noise(labels[None], torch.tensor([t]))[0]
    write('schedules', tensors)


if __name__ == '__main__':
    main()
