"""Tiny models, batches and data sets that the tests share."""

import copy
import functools
import json
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from mmdiffdet.config.file import add_parts
from mmdiffdet.models import DiffusionDet
from mmdiffdet.registry import MODELS

# init_weights would tell of every weight
MMLogger.get_instance('mmengine', log_level='WARNING')
ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / 'shared'
BACKBONE = dict(
    type='mmdet.ResNet',
    depth=18,
    # with 4, oneDNN 3.12's gradient of a strided 1x1 convolution writes out of
    # bounds on CPUs without AVX-512 (PyTorch 2.13)
    base_channels=8,
    norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=True,
)
# what makes a config of ours small, whatever its backbone
SMALL = dict(
    neck=dict(out_channels=16),
    bbox_head=dict(
        num_classes=3,
        feat_channels=16,
        num_stages=2,
        stage=dict(feedforward_channels=32, dynamic_dim=8),
        roi_extractor=dict(out_channels=16),
    ),
    train_cfg=dict(num_proposals=12),
    test_cfg=dict(num_proposals=12),
)


@functools.cache
def _base() -> Config:
    return Config.fromfile(ROOT / 'configs/_base_/models/diffusiondet_r50_fpn.py')


def tiny_config(parts: Sequence[str] = (), **changes: Any) -> ConfigDict:
    """The model of ``configs/_base_/models``, with a few thousand weights.

    Args:
        parts (Sequence[str]): Of ``configs/_base_/parts``, as ``--part``.
        changes (Any): Merged into the model, as a config does it with that
            of its ``_base_``.
    """
    init_default_scope('mmdiffdet')  # a model's types have no prefix
    cfg = copy.deepcopy(_base())
    add_parts(cfg, parts)
    tiny = dict(
        backbone=dict(BACKBONE, _delete_=True),
        neck=dict(in_channels=[8, 16, 32, 64]),
        bbox_head=dict(stage=dict(interaction=dict(num_heads=4))),
    )
    for change in (SMALL, tiny, changes):
        cfg.merge_from_dict(dict(model=change))
    return cfg.model


def stage(**changes: Any) -> Dict[str, Any]:
    """Changes of the stage, for :func:`tiny_config`."""
    return dict(bbox_head=dict(stage=changes))


def build(config: dict, seed: int = 0) -> DiffusionDet:
    """Build and initialise as the runner does."""
    init_default_scope('mmdiffdet')
    torch.manual_seed(seed)
    model = MODELS.build(ConfigDict(config))
    model.init_weights()
    return model


def batch(
    sizes: Sequence[Tuple[int, int]] = ((64, 96), (64, 96)),
    objects: Sequence[int] = (3, 2),
    seed: int = 0,
) -> Dict[str, List]:
    """Images of (height, width) with that many objects, as a data loader
    gives them."""
    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for i, ((height, width), count) in enumerate(zip(sizes, objects)):
        inputs.append(torch.randint(256, (3, height, width), generator=generator).byte())
        low = torch.rand(count, 2, generator=generator) * 0.5
        side = torch.rand(count, 2, generator=generator) * 0.4 + 0.1
        scale = torch.tensor([width, height] * 2)
        sample = DetDataSample(
            metainfo=dict(
                img_id=i,
                img_shape=(height, width),
                ori_shape=(height, width),
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([low, low + side], 1) * scale,
            labels=torch.randint(3, (count,), generator=generator),
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def pick(data: Dict[str, List], *index: int) -> Dict[str, List]:
    """Some images of a batch."""
    return {k: [v[i] for i in index] for k, v in data.items()}


def losses_of(model: DiffusionDet, data: Dict[str, List]) -> Dict[str, Any]:
    """Losses of a batch."""
    return model(**model.data_preprocessor(data, True), mode='loss')


def write_coco(folder: Path, count: int = 6) -> Path:
    """A COCO-format data set of coloured squares, 64x48; returns the root."""
    rng = np.random.default_rng(0)
    (folder / 'images').mkdir(parents=True)
    names = ('red', 'green', 'blue')
    coco = dict(
        images=[], annotations=[], categories=[dict(id=i + 1, name=n) for i, n in enumerate(names)]
    )
    for i in range(count):
        image = rng.integers(100, 150, (48, 64, 3), dtype=np.uint8)
        label = i % 3
        x, y, side = rng.integers(4, 30), rng.integers(4, 20), 16
        image[y : y + side, x : x + side] = 0
        image[y : y + side, x : x + side, 2 - label] = 255
        cv2.imwrite(str(folder / f'images/{i}.png'), image)
        coco['images'].append(dict(id=i, file_name=f'{i}.png', height=48, width=64))
        coco['annotations'].append(
            dict(
                id=i + 1,
                image_id=i,
                category_id=label + 1,
                bbox=[int(x), int(y), side, side],
                area=side * side,
                iscrowd=0,
            )
        )
    (folder / 'train.json').write_text(json.dumps(coco))
    return folder


def runner_config(root: Path, work_dir: Path, parts: Sequence[str] = (), **changes: Any) -> Config:
    """Everything to train and test a :func:`tiny_config` on :func:`write_coco`."""
    cfg = Config.fromfile(ROOT / 'configs/demo/demo.py')
    cfg.model = tiny_config(parts, **changes)
    cfg.work_dir = str(work_dir)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.num_workers = 0
        loader.persistent_workers = False
        loader.batch_size = 2
        loader.dataset.data_root = f'{root}/'
        loader.dataset.ann_file = 'train.json'
        loader.dataset.data_prefix = dict(img='images/')
        loader.dataset.metainfo = dict(classes=('red', 'green', 'blue'))
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(root / 'train.json')
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=100)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.logger.interval = 1
    return cfg


def shrink_model(model: ConfigDict, num_classes: int = 3) -> None:
    """The same architecture, a few thousand weights."""
    backbone = model.backbone
    backbone.init_cfg = None
    if backbone.type == 'ResNet':
        backbone.base_channels = 8
    elif backbone.type == 'SwinTransformer':
        backbone.update(embed_dims=8, depths=[1] * 4, num_heads=[2] * 4, window_size=4)
    elif backbone.type == 'MobileNetV2':
        backbone.widen_factor = 0.25
    maps = MODELS.build(backbone)(torch.zeros(1, 3, 64, 64))
    if model.type == 'mmdet.DETR':
        model.neck.in_channels = [m.size(1) for m in maps]
        model.encoder.num_layers = model.decoder.num_layers = 1
        model.bbox_head.num_classes = num_classes
        return
    small = Config(dict(model=model))
    small.merge_from_dict(dict(model=SMALL))
    model.update(small.model)
    model.neck.in_channels = [m.size(1) for m in maps]
    model.bbox_head.num_classes = num_classes
    stage = model.bbox_head.stage
    for part in stage.get('attention_parts', []):
        if part.get('topk'):
            part.topk = 4
    if stage.interaction.type == 'SelfAttention':
        stage.interaction.num_heads = 4


def shrink_scales(transforms: List[dict]) -> None:
    """A tenth of every scale of a pipeline."""
    for transform in transforms:
        if isinstance(transform, list):
            shrink_scales(transform)
            continue
        for key in ('scale', 'crop_size'):
            if key in transform:
                transform[key] = tuple(s // 10 for s in transform[key])
        if 'scales' in transform:
            transform['scales'] = [(w // 10, h // 10) for w, h in transform['scales']]
        shrink_scales(transform.get('transforms', []))


class Operators(TorchDispatchMode):
    """Counts PyTorch's operators by name while it lasts.

    ``waits`` are copies to a device of tensors without data (``meta``, which
    stands in for a GPU) for which the host would wait: those that are not
    ``non_blocking``. What reads numbers back, as ``item`` or a mask as index,
    raises there. ``launches`` are operators that would launch a kernel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter = Counter()
        self.waits: Counter = Counter()
        self.launches = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name.startswith('index') and any(
            t is not None and t.dtype == torch.bool
            for arg in args
            if isinstance(arg, (list, tuple))
            for t in arg
        ):
            name = 'masked_index'  # whose size depends on the data
        self.calls[name] += 1
        kwargs = kwargs or {}
        if name == '_to_copy' and str(kwargs.get('device')) == 'meta':
            if args[0].device.type != 'meta' and not kwargs.get('non_blocking'):
                self.waits[_line()] += 1
        if name not in _NO_KERNEL and not all(
            r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns
        ):
            self.launches += 1
        return func(*args, **kwargs)


_NO_KERNEL = ('detach', '_unsafe_view', 'empty', 'empty_like', 'new_empty', '_local_scalar_dense')


def _line() -> str:
    """Where in the package the caller is."""
    frames = [f for f in traceback.extract_stack() if '/mmdiffdet/' in f.filename]
    return f'{frames[-1].filename}:{frames[-1].lineno}' if frames else 'elsewhere'
