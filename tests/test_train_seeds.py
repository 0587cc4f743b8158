"""What a train seed decides, one source held while another varies."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tiny import runner_config, write_coco


class Watch(Hook):
    """Keep the first weights, the images and the loss of each iteration."""

    def __init__(self):
        self.images = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.images += [(s.img_id, s.get('flip')) for s in data_batch['data_samples']]
        if batch_idx == 0:
            self.noise = torch.get_rng_state()
            self.weights = torch.cat([p.detach().flatten() for p in runner.model.parameters()])


def watched(data, work_dir, seed, **sources):
    cfg = runner_config(data, work_dir)
    cfg.randomness = dict(seed=seed)
    cfg.experiment_name = str(work_dir).replace('/', '_')
    if 'order' in sources:
        cfg.train_dataloader.sampler.seed = sources['order']
    cfg.default_hooks.iteration_seed.seed = sources.get('noise')
    runner = Runner.from_cfg(cfg)
    watch = Watch()
    runner.register_hook(watch, 'LOWEST')
    runner.train()
    return watch


def test_order_initialisation_and_noise_vary_apart(tmp_path):
    data = write_coco(tmp_path / 'coco')
    base = watched(data, tmp_path / 'base', 0)
    other = watched(data, tmp_path / 'other', 1)
    held = watched(data, tmp_path / 'held', 1, order=0, noise=0)
    noise = watched(data, tmp_path / 'noise', 0, noise=1)
    assert base.images != other.images and base.images == held.images == noise.images
    assert not torch.equal(base.weights, held.weights)
    assert torch.equal(held.weights, other.weights) and torch.equal(base.weights, noise.weights)
    assert torch.equal(base.noise, held.noise) and torch.equal(other.noise, noise.noise)
    assert not torch.equal(base.noise, other.noise)
