"""A row in the ledger for every test."""

import os.path as osp
import re
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import diffusers
import mmdet
import torch
from mmengine.dist import broadcast_object_list, get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .. import __version__
from ..datasets import LVISV1Dataset
from ..datasets.checks import leaf_datasets
from ..ledger import (
    Ledger,
    Protocol,
    Row,
    RunKey,
    sha256_of_config,
    sha256_of_file,
)
from ..registry import HOOKS
from ..utils import atomic_path
from .checkpoint import sha256_of_checkpoint
from .download import is_address
from .multi_seed_test_loop import MultiSeedTestLoop, TestCase
from .stopwatch import device_name

# the first that a test reports is what the ledger holds
_METRICS = (
    dict(
        AP='coco/bbox_mAP',
        AP50='coco/bbox_mAP_50',
        AP75='coco/bbox_mAP_75',
        APs='coco/bbox_mAP_s',
        APm='coco/bbox_mAP_m',
        APl='coco/bbox_mAP_l',
    ),
    {name: f'lvis/bbox_{name}' for name in ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')},
)
# of the sampler, what the protocol says; of the test, what is data or seed
_IN_PROTOCOL = ('type', 'sampling_timesteps', 'eta')


@HOOKS.register_module()
class LedgerHook(Hook):
    """Append the results of a test, and do no test twice.

    A test of the same checkpoint, model config, protocol and eval seed that
    the ledger has already is left out, and its row reported.

    Args:
        path (str): The ledger, a TSV file.
        config (str, optional): Path of the config file, to be noted; by
            default that of the copy beside the log.
        exp_name (str, optional): The same for all train seeds of an
            experiment; by default the name of the checkpoint's folder less
            ``_seed<n>``, and its iteration if it is not the folder's last.
            With test-time augmentation, ``+tta`` is added to either.
        changes (Sequence[str]): What sets this test apart from that of the
            plain config, e.g. ``num_proposals=50``; part of the name that is
            made by default.
        force (bool): Test again and replace the row. Defaults to False.
        always (bool): Test even if the row is there, for the sake of other
            outputs. Defaults to False.
    """

    def __init__(
        self,
        path: str,
        config: Optional[str] = None,
        exp_name: Optional[str] = None,
        changes: Sequence[str] = (),
        force: bool = False,
        always: bool = False,
    ) -> None:
        self.ledger = Ledger(path)
        self.config = config
        self.exp_name = exp_name
        self.changes = changes
        self.force = force
        self.always = always
        self._meta: Dict[str, Any] = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        """Remember the seed of the training."""
        self._meta = dict(checkpoint.get('meta') or {})

    def before_test(self, runner: Runner) -> None:
        """Leave out what was tested before.

        Raises:
            ValueError: If no checkpoint was loaded or the loop is another.
        """
        loop = runner.test_loop
        if not isinstance(loop, MultiSeedTestLoop):
            raise ValueError("LedgerHook needs test_cfg.type='MultiSeedTestLoop'")
        if runner._load_from is None:
            raise ValueError('LedgerHook: a row needs a checkpoint; give one as load_from')
        self._describe(runner)
        if runner.rank == 0:  # what freeze.py collects
            with atomic_path(Path(runner.log_dir) / 'config.py') as path:
                runner.cfg.dump(path)
        if self.force or self.always:
            return
        keys = {case.name: self._key(case) for case in loop.cases}
        found = [self.ledger.find(keys.values())]
        broadcast_object_list(found)  # all processes leave out the same
        for case in list(loop.cases):
            row = found[0].get(keys[case.name])
            if row is not None:
                loop.cases.remove(case)
                columns = _METRICS[isinstance(runner.test_dataloader.dataset, LVISV1Dataset)]
                loop.metrics[case.name] = {
                    key: -1.0 if row.metrics[name] is None else row.metrics[name] / 100
                    for name, key in columns.items()
                }
                runner.logger.info(
                    f'{case.name}: in {self.ledger.path} since {row.time} as '
                    f'{row.exp_name}, AP {row.AP:.4f}; --force tests again'
                    + (
                        ' and names it ' + self._shared['exp_name']
                        if row.exp_name != self._shared['exp_name']
                        else ''
                    )
                )

    @master_only
    def after_test_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        """Append a row a case."""
        loop = runner.test_loop
        rows = [self._row(runner, case) for case in loop.cases if _keys(loop.metrics[case.name])]
        done = self.ledger.append(rows, force=self.force)
        for row in done.written:
            runner.logger.info(
                f'step {row.sample_step}, eval seed {row.eval_seed}: AP '
                f'{row.AP:.4f}, {row.seconds_per_image:.4f} s/image -> '
                f'{self.ledger.path}'
            )
        for row in done.skipped:
            kept = self.ledger.find([row.key])[row.key]
            if kept.metrics != row.metrics:
                runner.logger.warning(
                    f'eval seed {row.eval_seed}: AP {row.AP} now, {kept.AP} '
                    f'in {self.ledger.path} ({kept.device}); the row was '
                    'kept, --force replaces it'
                )

    def _describe(self, runner: Runner) -> None:
        """What all rows of this test share."""
        loop = runner.test_loop
        checkpoint = runner._load_from
        if not is_address(checkpoint):
            checkpoint = osp.normpath(checkpoint)
        dataset = runner.test_dataloader.dataset
        files = getattr(dataset, 'annotation_files', [dataset.ann_file])
        hashes = [sha256_of_file(path) for path in files]
        self._shared = dict(
            exp_name=(
                self.exp_name
                or '+'.join([experiment_of(checkpoint, self._meta.get('exp_name')), *self.changes])
            )
            + ('+tta' if loop.tta else ''),
            train_seed=self._meta.get('seed'),
            checkpoint=checkpoint,
            checkpoint_sha256=sha256_of_checkpoint(checkpoint),
            config=self.config or osp.join(runner.log_dir, 'config.py'),
            dataset=type(dataset).__name__.removesuffix('Dataset')
            + ' '
            + osp.relpath(dataset.ann_file, dataset.data_root or '.'),
            annotation_sha256=hashes[0]
            if len(hashes) == 1
            else sha256_of_config(dict(files=hashes)),
            model_family=runner.cfg.model.type.split('.')[-1],
            device=device_name(next(runner.model.parameters()).device),
            torch=torch.__version__,
            mmdet=mmdet.__version__,
            diffusers=diffusers.__version__,
            mmdiffdet=__version__,
            out_dir=_from_here(runner.log_dir),
        )
        self._model_cfg = runner.cfg.to_dict()

    def _protocol(self, case: TestCase) -> Protocol:
        return Protocol(
            **{k: self._shared[k] for k in ('model_family', 'dataset', 'annotation_sha256')},
            **case.protocol,
            precision=self._model_cfg['test_cfg'].get('precision', 'fp32'),
        )

    def _config_sha256(self, case: TestCase) -> str:
        """Of the model and how it is tested, less protocol, seeds, paths."""
        cfg = self._model_cfg
        model = {k: v for k, v in cfg['model'].items() if k != 'train_cfg'}
        model['backbone'] = {k: v for k, v in model['backbone'].items() if k != 'init_cfg'}
        model['test_cfg'] = {
            k: v for k, v in (model.get('test_cfg') or {}).items() if k != 'eval_seed'
        }
        if case.variant and case.variant.num_proposals:
            model['test_cfg']['num_proposals'] = case.variant.num_proposals
        sampler = case.sampler_cfg.to_dict()
        if sampler:
            model['sampler'] = {k: v for k, v in sampler.items() if k not in _IN_PROTOCOL}
            model['sampler']['scheduler'] = {
                k: v for k, v in sampler['scheduler'].items() if k != 'type'
            }
        pipelines = [
            leaf.get('pipeline', []) for leaf in leaf_datasets(cfg['test_dataloader']['dataset'])
        ]
        tested = dict(model=model, pipeline=pipelines[0] if len(pipelines) == 1 else pipelines)
        if cfg['test_cfg'].get('tta'):
            tested['tta'] = cfg['test_cfg']['tta']
        compiled = [hook for hook in cfg.get('custom_hooks') or [] if hook['type'] == 'CompileHook']
        if compiled:  # which rounds differently
            tested['compile'] = compiled
        return sha256_of_config(tested)

    def _key(self, case: TestCase) -> RunKey:
        return RunKey(
            self._shared['checkpoint_sha256'],
            self._config_sha256(case),
            self._protocol(case),
            case.eval_seed,
        )

    def _row(self, runner: Runner, case: TestCase) -> Row:
        loop = runner.test_loop
        found = loop.metrics[case.name]
        index = loop.cases.index(case)
        seconds = loop.stopwatch.per_image('features') + loop.stopwatch.per_image(index)
        protocol = self._protocol(case)
        return Row(
            **self._shared,
            config_sha256=self._config_sha256(case),
            eval_seed=case.eval_seed,
            **{k: getattr(protocol, k) for k in ('sample_step', 'scheduler', 'eta', 'precision')},
            **{name: _percent(found[key]) for name, key in _keys(found).items()},
            seconds_per_image=seconds,
            images_per_second=get_world_size() / seconds,
        )


def experiment_of(checkpoint: str, name: Optional[str] = None) -> str:
    """Name of a checkpoint's experiment, the same for all train seeds.

    ``work_dirs/distill_20to1_seed3/iter_2500.pth`` is
    ``distill_20to1@iter_2500``. A finalised checkpoint brings the name of the
    one that it was made from.

    Args:
        checkpoint (str): Path.
        name (str, optional): What it says of itself.
    """
    if name is None:
        folder = osp.basename(osp.dirname(osp.abspath(checkpoint)))
        stem = osp.splitext(osp.basename(checkpoint))[0]
        name = f'{folder}@{stem}'
    return re.sub(r'_?seed\d+', '', name)


def _from_here(path: str) -> str:
    """Relative to the working directory where it is below it, as checkpoints are."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _keys(metrics: Dict[str, float]) -> Dict[str, str]:
    """Where the ledger's columns are; empty if they are not there."""
    return next((keys for keys in _METRICS if keys['AP'] in metrics), {})


def _percent(value: float) -> Optional[float]:
    return None if value < 0 else 100 * value
