"""What the benchmark times: an image, its parts, a training iteration."""

import copy
import tempfile
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import cv2
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper

from ..config.file import read_config
from ..diffusion.box_codec import sizes_of
from ..diffusion.noise import PerImageNoise
from ..diffusion.sampling import SamplingVariant
from ..distill import Teacher
from ..engine.precision import in_precision
from ..fast import disabled
from ..models.detector import DiffusionDet
from ..models.postprocess import merge_steps
from ..registry import HOOKS, MODELS, TASK_UTILS
from .measure import Way


@contextmanager
def testing(model: DiffusionDet, precision: str) -> Iterator[None]:
    """As the test loop calls a model: weights are cast once, before.

    Args:
        model (DiffusionDet): In evaluation mode from here on.
        precision (str): ``fp32``, ``bf16`` or ``fp16``.
    """
    model.eval()
    with torch.no_grad(), in_precision(model, precision):
        # a small image: autocast casts the weights that it sees, and keeps
        # them
        image = next(model.parameters()).new_zeros(1, 3, 64, 64)
        number = model.test_cfg['num_proposals']
        model.test_cfg['num_proposals'] = 1
        try:
            model(image, mode='tensor')
        finally:
            model.test_cfg['num_proposals'] = number
        yield


@contextmanager
def baseline_testing(model: DiffusionDet) -> Iterator[None]:
    """:func:`testing` of the plain model, in float32."""
    with disabled(), testing(model, 'fp32'):
        yield


def demo_batch(size: Sequence[int], batch_size: int, num_classes: int) -> Dict[str, list]:
    """Random images with 8 objects, as of a data loader.

    Args:
        size (Sequence[int]): Height and width, in pixels.
        batch_size (int): Number of images.
        num_classes (int): K.

    Returns:
        dict[str, list]: ``inputs``, (3, H, W) bytes, and ``data_samples``.
    """
    data = demo_mm_inputs(
        batch_size, (3, *size), num_items=[8] * batch_size, num_classes=num_classes + 1
    )
    for sample in data['data_samples']:
        sample.gt_instances.labels -= 1  # they are drawn from 1 on
    return data


def pinned(data: dict) -> dict:
    """The batch as data loaders give it where there is a GPU, see ``use_device_options``."""
    if not torch.cuda.is_available():
        return data
    return dict(data, inputs=[image.pin_memory() for image in data['inputs']])


def sampling_variants(
    cfg: Config, steps: int, seeds: Sequence[int] = (0,)
) -> List[SamplingVariant]:
    """The config's sampler with so many steps, for each eval seed."""
    sampler = TASK_UTILS.build(dict(cfg.model.sampler, sampling_timesteps=steps))
    return [SamplingVariant(sampler, seed) for seed in seeds]


def image_way(
    model: DiffusionDet, data: dict, variants: List[SamplingVariant], one_pass: bool
) -> Way:
    """Detect in a batch for each variant, all images in one pass.

    Args:
        model (DiffusionDet): See :func:`testing`.
        data (dict): A batch of the data loader.
        variants (list[SamplingVariant]): Ways to sample.
        one_pass (bool): Whether all share the features, or each has a pass
            of its own.
    """
    groups = [variants] if one_pass else [[v] for v in variants]

    def detect() -> None:
        before = model.test_cfg['images_per_pass']
        model.test_cfg['images_per_pass'] = len(data['inputs'])
        try:
            for group in groups:
                model.test_variants(data, group)
        finally:
            model.test_cfg['images_per_pass'] = before

    return detect


def inference_parts(model: DiffusionDet, data: dict) -> Dict[str, Way]:
    """Backbone and neck, one step of the head, and post-processing.

    Args:
        model (DiffusionDet): In the state that :func:`testing` makes, as are
            its features then.
        data (dict): A batch of the data loader.
    """
    prepared = model.data_preprocessor(copy.deepcopy(data), False)
    inputs = prepared['inputs']
    metas = [sample.metainfo for sample in prepared['data_samples']]
    sizes = sizes_of(metas, inputs.device)
    num = model.test_cfg['num_proposals']
    noise = PerImageNoise.from_seed(0, range(len(metas)), inputs.device)
    boxes = model.box_codec.decode(noise(num, 4), sizes)
    state = model.label_scheduler and model.label_scheduler.prior(len(metas), num, inputs.device)
    t = model.sampler.timesteps[0]
    table = model.bbox_head.tabulate(model.extract_feat(inputs))
    prediction = model.denoiser(table)(boxes, state, t)
    options = {
        k: v
        for k, v in model.test_cfg.items()
        if k in ('quality_power', 'nms', 'score_thr', 'max_per_img')
    }
    return {
        'backbone and neck': lambda: model.bbox_head.tabulate(model.extract_feat(inputs)),
        'head, one step': lambda: model.denoiser(table)(boxes, state, t),
        'post-processing': lambda: merge_steps([prediction], metas, **options),
    }


@contextmanager
def decoding_way(cfg: Config, size: Tuple[int, int]) -> Iterator[Way]:
    """Read and resize a JPEG file of that size, as the config's test does."""
    dataset = cfg.test_dataloader.dataset
    pipeline = Compose(
        [
            step
            for step in dataset.pipeline
            if not step['type'].split('.')[-1].startswith(('LoadAnn', 'Pack'))
        ]
    )
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(256, (size[0] // 16, size[1] // 16, 3), generator=generator).byte()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'image.jpg')
        cv2.imwrite(path, cv2.resize(coarse.numpy(), size[::-1]))
        yield lambda: pipeline(dict(img_path=path, instances=[]))


_WRAPPERS = dict(fp32='PartOptimWrapper', bf16='PartBf16OptimWrapper', fp16='PartAmpOptimWrapper')


def training_way(
    cfg: Config, model: DiffusionDet, data: dict, precision: str, baseline: bool = False
) -> Way:
    """A training iteration: losses, gradients, the optimiser's step.

    A distillation hook of the config takes part, in the same precision; its
    teacher has the model's own weights, or random ones if it has a config of
    its own.

    Args:
        cfg (Config): With ``optim_wrapper``.
        model (DiffusionDet): Trained a few iterations here.
        data (dict): A batch of the data loader.
        precision (str): ``fp32``, ``bf16`` or, on GPUs, ``fp16``.
        baseline (bool): Whether the model is the baseline: plain, and a
            teacher computes all features anew although the student's
            backbone is the same.

    Raises:
        ValueError: If float16 is asked of a CPU, or the config trains a
            consistency model, whose average only a runner keeps.
    """
    if precision == 'fp16' and not torch.cuda.is_available():
        raise ValueError('float16 training needs a GPU; use bf16')
    hooks = cfg.get('custom_hooks') or []
    if any(h['type'].split('.')[-1] == 'ConsistencyModelHook' for h in hooks):
        raise ValueError(
            'ConsistencyModelHook: training iterations with it are not timed here, as its average '
            "belongs to a runner's training; time the recipe that it is built on"
        )
    wrapper = copy.deepcopy(cfg.optim_wrapper)
    wrapper.type = _WRAPPERS[precision]
    for option in ('loss_scale', 'dtype'):
        wrapper.pop(option, None)
    if precision == 'fp16':
        wrapper.loss_scale = 'dynamic'
    optim_wrapper = build_optim_wrapper(model, wrapper)
    model.train()
    hook = next((h for h in hooks if 'teacher' in h), None)
    if hook is not None:
        options = {k: v for k, v in hook.items() if k not in ('type', 'teacher')}
        taught_by = copy.deepcopy(model)
        if hook.teacher.get('config'):
            other = read_config(hook.teacher.config).model
            other.backbone.init_cfg = None
            taught_by = MODELS.build(other).to(next(model.parameters()).device)
        teacher = Teacher(taught_by, precision)
        if not baseline:
            teacher.compare(model)
        model.distiller = HOOKS.get(hook.type).distiller(teacher, **options)

    def iteration() -> Dict[str, Any]:
        torch.manual_seed(0)
        with disabled() if baseline else nullcontext():
            samples = copy.deepcopy(data['data_samples'])
            return model.train_step(dict(data, data_samples=samples), optim_wrapper)

    return iteration
