"""A row in the ledger for every test."""

import os.path as osp
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
from ..device import uses_tf32
from ..ledger import Ledger, Row
from ..ledger.hashing import sha256_of_test
from ..ledger.row import FORMULA, METRICS
from ..registry import HOOKS, LOOPS
from ..utils import atomic_path, remove_left
from .checkpoint import sha256_of_checkpoint
from .data_identity import name_of_data, sha256_of_annotations
from .download import is_address
from .images_per_pass import images_per_pass
from .stopwatch import device_name
from .test_case import TestCase, experiment_of

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


@HOOKS.register_module()
class LedgerHook(Hook):
    """Which ledger the rows of a test go to, and what they say of it.

    :class:`MultiSeedTestLoop` asks it which tests the ledger has already (the
    same checkpoint, model config, protocol and eval seed), leaves those out,
    and hands it the rows of the others.

    Args:
        path (str): The ledger, a TSV file.
        config (str, optional): Path of the config file, to be noted; by
            default that of the copy beside the log.
        exp_name (str, optional): The same for all train seeds of an
            experiment; by default the name of the checkpoint's folder less
            ``_seed<n>``, ``@`` and the stem of its file, ``bccd_20to1@iter_200``.
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
        """Write down what all rows of this test share.

        Raises:
            ValueError: If no checkpoint was loaded or the loop is another.
            OSError: If the ledger cannot be written.
        """
        if not isinstance(runner.test_loop, LOOPS.get('MultiSeedTestLoop')):
            raise ValueError("LedgerHook needs test_cfg.type='MultiSeedTestLoop'")
        if runner._load_from is None:
            raise ValueError('LedgerHook: a row needs a checkpoint; give one as load_from')
        self._describe(runner)
        if runner.rank == 0:
            self.ledger.append(())  # rows can be written: not told after hours
            for other in Path(runner.work_dir).iterdir():  # of tests that were killed
                remove_left(other / 'config.py')
            # what freeze.py collects
            with atomic_path(Path(runner.log_dir) / 'config.py') as path:
                runner.cfg.dump(path)

    def find(self, runner: Runner, cases: Sequence[TestCase]) -> Dict[str, Dict[str, float]]:
        """What the ledger knows already, by the case's name.

        Args:
            runner (Runner): The test's runner.
            cases (Sequence[TestCase]): Cases that are asked for.

        Returns:
            dict[str, dict]: The metrics as an evaluator reports them, from 0
            to 1, and -1 for what there is not; none with ``force`` or
            ``always``.

        Raises:
            ValueError: If a row could not be written after the test, or the
                ledger cannot be read.
        """
        keys = {case.name: self._row(case, {'AP': 0.0}, None).key for case in cases}
        found = [self.ledger.find(keys.values())]
        broadcast_object_list(found)  # all processes leave out the same
        if self.force or self.always:
            return {}
        columns = _METRICS[isinstance(runner.test_dataloader.dataset, LVISV1Dataset)]
        known = {}
        for name, row in ((name, found[0].get(key)) for name, key in keys.items()):
            if row is None:
                continue
            known[name] = {
                key: -1.0 if row.metrics[column] is None else row.metrics[column] / 100
                for column, key in columns.items()
            }
            mine = self._shared['exp_name']
            runner.logger.info(
                f'{name}: in {self.ledger.path} since {row.time} as {row.exp_name}, '
                f'AP {row.AP:.4f}; --force tests again'
                + (f' and names it {mine}' if row.exp_name != mine else '')
            )
        more = [type(m).__name__ for m in runner.test_loop.evaluator.metrics if _reports_more(m)]
        if known and more:
            runner.logger.warning(
                f'rows hold {", ".join(METRICS)}: what else {", ".join(more)} report is missing '
                f'for the {len(known)} tests that {self.ledger.path} has; --force tests them again'
            )
        return known

    def row(self, case: TestCase, metrics: Dict[str, float], seconds: float) -> Optional[Row]:
        """A case's result as a row; None if there is no COCO AP in it.

        Args:
            case (TestCase): What was tested.
            metrics (dict[str, float]): What its evaluator reports.
            seconds (float): Seconds an image.
        """
        keys = next((keys for keys in _METRICS if keys['AP'] in metrics), None)
        if keys is None:
            return None
        percent = {k: _percent(metrics[key]) for k, key in keys.items()}
        return None if percent['AP'] is None else self._row(case, percent, seconds)

    @master_only
    def append(self, runner: Runner, rows: Sequence[Optional[Row]]) -> None:
        """Add a test's rows to the ledger, and tell what became of them.

        Args:
            runner (Runner): The test's runner.
            rows (Sequence[Row | None]): Of :meth:`row`.
        """
        if None in rows:
            runner.logger.warning(
                f'no row for {self.ledger.path}: the evaluator reports none of '
                + ', '.join(keys['AP'] for keys in _METRICS)
                + ' or found no object in the annotations'
            )
        done = self.ledger.append(filter(None, rows), force=self.force)
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
        self._shared = dict(
            exp_name=(
                self.exp_name
                or '+'.join([experiment_of(checkpoint, self._meta.get('exp_name')), *self.changes])
            )
            + ('+tta' if loop.tta else ''),
            train_seed=self._meta.get('seed'),
            checkpoint=checkpoint if is_address(checkpoint) else _plain_path(checkpoint),
            checkpoint_sha256=sha256_of_checkpoint(checkpoint),
            config=_plain_path(self.config or osp.join(runner.log_dir, 'config.py')),
            dataset=name_of_data(dataset),
            annotation_sha256=sha256_of_annotations(dataset),
            model_family=runner.cfg.model.type.split('.')[-1],
            device=device_name(next(runner.model.parameters()).device),
            torch=torch.__version__,
            mmdet=mmdet.__version__,
            diffusers=diffusers.__version__,
            mmdiffdet=__version__,
            out_dir=_plain_path(_from_here(runner.log_dir)),
        )
        self._model_cfg = runner.cfg.to_dict()
        number = images_per_pass(runner, runner.test_dataloader)
        if number > 1:  # as if the config said so: it rounds differently
            self._model_cfg['model'].setdefault('test_cfg', {})['images_per_pass'] = number

    def _row(
        self, case: TestCase, percent: Dict[str, Optional[float]], seconds: Optional[float]
    ) -> Row:
        try:
            return Row(
                **self._shared,
                config_sha256=sha256_of_test(
                    self._model_cfg,
                    case.sampler_cfg.to_dict(),
                    case.variant and case.variant.num_proposals,
                ),
                eval_seed=case.eval_seed,
                **case.protocol,
                precision=_precision(self._model_cfg),
                **{name: percent.get(name) for name in METRICS},
                seconds_per_image=seconds,
                images_per_second=seconds and get_world_size() / seconds,
            )
        except ValueError as error:
            raise ValueError(f'no row could be written to {self.ledger.path}: {error}') from None


def _reports_more(metric: Any) -> bool:
    """Whether an evaluator gives other numbers than the six of a row."""
    more = getattr(metric, 'classwise', False) or getattr(metric, 'metric_items', None)
    return type(metric).__name__ != 'CocoMetric' or bool(more)


def _from_here(path: str) -> str:
    """Relative to the working directory where it is below it, as checkpoints are."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _plain_path(path: str) -> str:
    """The path, so that no spreadsheet takes it for a formula."""
    return f'./{path}' if path.startswith((*FORMULA,)) else path


def _percent(value: float) -> Optional[float]:
    return None if value < 0 else 100 * value


def _precision(cfg: dict) -> str:
    precision = cfg['test_cfg'].get('precision', 'fp32')
    return 'tf32' if precision == 'fp32' and uses_tf32() else precision
