"""Training and tests on GPUs, as far as machines without one can tell."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor as MMDetDataPreprocessor
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from test_device import OPTIONS
from tiny import ROOT, Operators, batch, build, runner_config, tiny_config, write_coco

from mmdiffdet import device
from mmdiffdet.config.file import read_config
from mmdiffdet.device import use_device_options
from mmdiffdet.diffusion.label_scheduler import _cumulative
from mmdiffdet.engine import ledger_hook, part_optim
from mmdiffdet.engine.images_per_pass import images_per_pass, in_passes
from mmdiffdet.engine.part_optim import PartOptimWrapper
from mmdiffdet.engine.resume import check_resume
from mmdiffdet.engine.trainer import Trainer
from mmdiffdet.ledger import Ledger
from mmdiffdet.models import DetDataPreprocessor


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('data'))


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has one."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    before = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before)
    torch.backends.cudnn.allow_tf32 = convolutions


# ---- the data preprocessor ----------------------------------------------------


@pytest.mark.parametrize('sizes', [((64, 96), (64, 96)), ((40, 100), (64, 33))])
@pytest.mark.parametrize('options', [{}, dict(bgr_to_rgb=True), dict(rgb_to_bgr=True)])
def test_images_are_those_of_mmdetection(sizes, options):
    options = dict(mean=[103.5, 116.0, 123.0], std=[58.0, 57.0, 56.0], **options)
    for training in (False, True):
        ours, theirs = (
            kind(pad_size_divisor=32, pad_value=7, **options)(batch(sizes), training)
            for kind in (DetDataPreprocessor, MMDetDataPreprocessor)
        )
        assert torch.equal(ours['inputs'], theirs['inputs'])
        assert [s.metainfo for s in ours['data_samples']] == [
            s.metainfo for s in theirs['data_samples']
        ]


def test_recipes_have_our_data_preprocessor():
    init_default_scope('mmdiffdet')
    config = tiny_config()
    config.data_preprocessor.type = 'DetDataPreprocessor'
    assert type(build(config).data_preprocessor) is DetDataPreprocessor
    cfg = read_config(ROOT / 'configs/coco/coco.py')
    assert cfg.model.data_preprocessor.type == 'DetDataPreprocessor'


# ---- waits of an iteration ----------------------------------------------------


class Read(Operators):
    """Counts what the host reads of the device, too; ``wait`` by line of code."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensor = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if tensor is not None and tensor.device.type == 'meta':
            name = func.overloadpacket.__name__
            if name == '_local_scalar_dense':
                self.waits[name] += 1
                return 0.0
            if name == '_to_copy' and str((kwargs or {}).get('device')) == 'cpu':
                self.waits[name] += 1
                return torch.zeros(tensor.shape, dtype=tensor.dtype)
        return super().__torch_dispatch__(func, types, args, kwargs)


@pytest.fixture
def pretended(monkeypatch):
    """An iteration's parts that a device without data cannot do as they are."""
    monkeypatch.setattr(torch, 'autocast', lambda *args, **kwargs: nullcontext())
    monkeypatch.setattr(torch.Tensor, 'tolist', lambda self: [float(x) for x in self.cpu().numpy()])


@pytest.mark.parametrize('images', [1, 2, 4])
@pytest.mark.parametrize('name', ['plain', 'geo_feat', 'quality', 'd3pm'])
def test_an_iteration_waits_twice(images, name, pretended):
    config = tiny_config(**OPTIONS[name])
    config.data_preprocessor.type = 'DetDataPreprocessor'
    model = build(config).train().to('meta')
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='PartOptimWrapper',
            constructor='PartOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1e-4, foreach=False),
            clip_grad=dict(max_norm=1.0, foreach=False),
        ),
    )
    for _ in range(2):  # the first one copies schedules and makes states
        given = batch([(64, 96)] * images, [3] * images)
        with Read() as found:
            log = model.train_step(given, wrapper)
    assert sum(found.waits.values()) == 2, found.waits
    assert {v.device.type for v in log.values()} == {'cpu'}  # logging waits no more


# ---- losses that are not finite -----------------------------------------------


@pytest.fixture
def scaled(monkeypatch):
    """MMEngine's wrapper for float16, with PyTorch's scaler for CPUs."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(
        amp_optimizer_wrapper, 'GradScaler', partial(torch.amp.GradScaler, 'cpu'), raising=False
    )

    def make(model, loss_scale='dynamic', **optimizer):
        return build_optim_wrapper(
            model,
            dict(
                type='PartAmpOptimWrapper',
                constructor='PartOptimWrapperConstructor',
                loss_scale=loss_scale,
                dtype='bfloat16',
                optimizer=dict(type='AdamW', lr=1e-3, **optimizer),
                clip_grad=dict(max_norm=1.0),
            ),
        )

    return make


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def same(a, b):
    return all(map(torch.equal, a, b))


@pytest.mark.parametrize('options', [{}, dict(fused=True)])
@pytest.mark.parametrize('what', ['gradient', 'loss'])
def test_an_overflow_of_float16_leaves_out_a_step(scaled, what, options):
    model = build(tiny_config()).train()
    wrapper = scaled(model, **options)
    model.train_step(batch(), wrapper)
    before, scale = weights(model), wrapper.loss_scaler.get_scale()
    layer = model.bbox_head.head_series[1].class_logits
    if what == 'gradient':
        handle = layer.weight.register_hook(lambda grad: grad * float('inf'))
    else:
        handle = layer.register_forward_hook(lambda *args: args[-1] * float('nan'))
    log = model.train_step(batch(), wrapper)
    handle.remove()
    assert log['loss'].isfinite() == (what == 'gradient')
    assert same(before, weights(model))
    assert wrapper.loss_scaler.get_scale() == scale / 2
    model.train_step(batch(), wrapper)
    assert not same(before, weights(model))


def test_overflows_without_end_stop(scaled):
    model = build(tiny_config(bbox_head=dict(num_stages=1))).train()
    wrapper = scaled(model)
    parameter = next(p for p in model.parameters() if p.requires_grad)
    with pytest.raises(FloatingPointError, match='float16 are not finite.*bfloat16.*--resume'):
        for _ in range(100):
            wrapper.update_params((parameter * float('nan')).sum())


@pytest.mark.parametrize('kind', ['PartOptimWrapper', 'PartBf16OptimWrapper', 'static'])
def test_a_loss_that_is_not_finite_stops_elsewhere(scaled, kind):
    """A loss scale that is fixed could not fall."""
    model = build(tiny_config()).train()
    if kind == 'static':
        wrapper = scaled(model, loss_scale=128.0)
    else:
        optimizer = torch.optim.AdamW(model.parameters())
        wrapper = getattr(part_optim, kind)(optimizer=optimizer)
    before = weights(model)
    model.bbox_head.head_series[1].class_logits.register_forward_hook(
        lambda *args: args[-1] * float('nan')
    )
    with pytest.raises(FloatingPointError, match='loss_cls: not finite. Weights were not updated'):
        model.train_step(batch(), wrapper)
    assert same(before, weights(model))


# ---- options of the config ----------------------------------------------------


@pytest.mark.parametrize('options', [dict(fused=True), dict(foreach=True), dict(foreach=False)])
def test_kernels_of_the_optimiser_are_the_configs_after_resume(options):
    model = torch.nn.Linear(2, 1)

    def made(**options):
        wrapper = PartOptimWrapper(torch.optim.AdamW(model.parameters(), **options))
        wrapper.update_params(model(torch.ones(1, 2)).sum())
        return wrapper

    checkpoint = dict(
        meta=dict(epoch=0, iter=1),
        optimizer=made().state_dict(),
        param_schedulers=[],
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
    )
    wrapper = made(**options)
    runner = SimpleNamespace(optim_wrapper=wrapper, param_schedulers=[])
    check_resume(runner, checkpoint, 'x.pth')
    wrapper.load_state_dict(checkpoint['optimizer'])
    group = wrapper.optimizer.param_groups[0]
    assert {key: group[key] for key in options} == options
    wrapper.update_params(model(torch.ones(1, 2)).sum())


def test_options_of_gpus_do_nothing_without_one():
    cfg = read_config(ROOT / 'configs/coco/coco.py')
    use_device_options(cfg)
    assert 'pin_memory' not in cfg.train_dataloader
    assert torch.get_float32_matmul_precision() == 'highest'
    assert not device.uses_tf32()


def test_options_of_gpus(gpu):
    cfg = read_config(ROOT / 'configs/coco/coco.py')
    cfg.val_dataloader.pin_memory = False
    use_device_options(cfg)
    assert cfg.train_dataloader.pin_memory and cfg.test_dataloader.pin_memory
    assert not cfg.val_dataloader.pin_memory
    assert torch.get_float32_matmul_precision() == 'high' and device.uses_tf32()
    del cfg.env_cfg.float32_matmul_precision
    use_device_options(cfg)
    assert not device.uses_tf32() and not torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True  # as PyTorch has it: convolutions alone
    assert device.uses_tf32()


def test_an_unknown_matmul_precision():
    cfg = read_config(
        ROOT / 'configs/coco/coco.py', options={'env_cfg.float32_matmul_precision': 'low'}
    )
    with pytest.raises(ValueError, match="float32_matmul_precision: unknown 'low'; choose from"):
        use_device_options(cfg)


def test_parts_are_frozen_before_the_model_is_wrapped(data, tmp_path, monkeypatch):
    cfg = runner_config(data, tmp_path)
    cfg.optim_wrapper.paramwise_cfg = dict(backbone_lr_mult=0.0)
    seen = {}

    def wrap(self, wrapper, model):
        seen.update({name: p.requires_grad for name, p in model.named_parameters()})
        return model

    monkeypatch.setattr(Runner, 'wrap_model', wrap)
    runner = Trainer.from_cfg(cfg)
    assert not any(on for name, on in seen.items() if name.startswith('backbone'))
    assert all(on for name, on in seen.items() if name.startswith('bbox_head'))
    # a wrapper for processes that waits for all gradients has nothing to wait for
    runner.model.find_unused_parameters = False
    runner.build_optim_wrapper(cfg.optim_wrapper)


def test_weights_lie_as_their_inputs(gpu):
    model = device.channels_last_on_gpu(build(tiny_config()))
    assert model.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)


# ---- how many images at once --------------------------------------------------


def test_images_per_pass_are_chosen_by_the_device(monkeypatch):
    loader = SimpleNamespace(batch_size=8)
    model = build(tiny_config())
    runner = Mock(model=model, cfg=ConfigDict(model=dict(test_cfg={})))
    assert images_per_pass(runner, loader) == 1
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert images_per_pass(runner, loader) == 8
    with in_passes(runner, loader) as number:
        assert model.test_cfg['images_per_pass'] == number == 8
    assert model.test_cfg['images_per_pass'] == 1
    runner.cfg.randomness = dict(deterministic=True)
    assert images_per_pass(runner, loader) == 1
    runner.cfg.model = dict(test_cfg=dict(images_per_pass=4))
    assert images_per_pass(runner, loader) == 4
    runner.model = torch.nn.Linear(1, 1)  # a detector that has no such option
    with in_passes(runner, loader):
        pass


def test_what_a_gpu_rounds_differently_is_another_row(data, tmp_path, monkeypatch):
    """Images that go through together, and TF32; rows of CPUs stay as they are."""
    checkpoint = tmp_path / 'iter_2.pth'
    torch.save(dict(state_dict=build(tiny_config()).state_dict(), meta=dict(seed=0)), checkpoint)
    path = tmp_path / 'ledger.tsv'

    def row(name, passes, tf32, **options):
        monkeypatch.setattr(ledger_hook, 'images_per_pass', lambda *args: passes)
        monkeypatch.setattr(ledger_hook, 'uses_tf32', lambda: tf32)
        cfg = runner_config(data, tmp_path)
        cfg.load_from, cfg.experiment_name = str(checkpoint), f'device_{name}'
        cfg.custom_hooks.append(dict(type='LedgerHook', path=str(path)))
        cfg.test_cfg.update(options)
        Runner.from_cfg(cfg).test()
        return Ledger(path).read()[-1]

    cpu = row('cpu', 1, False)
    batched = row('batched', 2, False)
    tf32 = row('tf32', 1, True)
    assert len(Ledger(path).read()) == 3
    assert batched.config_sha256 != cpu.config_sha256 == tf32.config_sha256
    assert (cpu.precision, batched.precision, tf32.precision) == ('fp32', 'fp32', 'tf32')
    assert row('bf16', 1, True, precision='bf16').precision == 'bf16'


def test_cumulative_distributions_without_cumsum():
    p = torch.rand(2, 5, 1204).softmax(-1)
    torch.testing.assert_close(_cumulative(p, True), p.cumsum(-1), rtol=1e-5, atol=1e-6)
