"""One pass over the data for every way to sample."""

import copy
import logging
from functools import cached_property
from typing import Any, Dict, List, Optional, Sequence

import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.runner import Runner, TestLoop
from torch.distributed.fsdp import FullyShardedDataParallel

from ..device import channels_last_on_gpu
from ..diffusion.box_schedulers import same_process
from ..diffusion.sampling import SamplingVariant
from ..evaluation.dump_detections import DumpDetections
from ..ledger.hashing import merge
from ..registry import LOOPS, MODELS, TASK_UTILS
from .check_detections import FiniteWatch, check_detections
from .images_per_pass import in_passes
from .ledger_hook import LedgerHook
from .precision import check_precision, in_precision
from .stopwatch import Stopwatch
from .test_case import TestCase
from .unwrap import unwrap


@LOOPS.register_module()
class MultiSeedTestLoop(TestLoop):
    """Test with several eval seeds and sampler settings at once.

    Images are decoded and the backbone runs once; each case samples from the
    same features with the noise that it would have alone, so that its
    detections are those of a test of its own. Without arguments it is the
    ordinary test; so it is for detectors that do not sample.

    With a :class:`LedgerHook` the cases that its ledger has are not tested;
    their metrics are those of the ledger's rows. The others are handed to it.

    Attributes:
        cases (List[TestCase]): All that was asked for.
        tested (List[TestCase]): Those of them that the ledger did not have.
        metrics (dict[str, dict]): What each case's evaluator reports, or would
            have reported, by the case's name; in the order of the cases.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader | dict): Test data.
        evaluator (dict | list): Config; each case has metrics of its own.
        eval_seeds (Sequence[int], optional): By default the one of
            ``model.test_cfg``.
        variants (Sequence[dict]): Each is merged into ``model.sampler``, e.g.
            ``dict(sampling_timesteps=4)``, but for ``num_proposals``, which
            replaces that of ``model.test_cfg``. Defaults to one without
            changes.
        precision (str): ``fp32``, ``bf16`` or ``fp16`` (autocast).
        warmup (int): Passes of the network (of one image on CPUs) whose times are
            not counted. Defaults to 1.
        out (str, optional): Pickle file for the detections; with several
            cases their names are put before its ending.
        tta (dict, optional): Merges views of an image, e.g.
            ``DiffusionDetTTA``; the detector becomes its ``module``. See
            :func:`~mmdiffdet.engine.test_time_aug.use_tta`.

    Raises:
        ValueError: If ``precision`` is unknown, or a case stands twice.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: Any,
        evaluator: Any,
        eval_seeds: Optional[Sequence[int]] = None,
        variants: Sequence[dict] = ({},),
        precision: str = 'fp32',
        warmup: int = 1,
        out: Optional[str] = None,
        tta: Optional[dict] = None,
    ) -> None:
        check_precision(precision, 'test_cfg.precision')
        super().__init__(runner, dataloader, evaluator)
        self.precision = precision
        self.out = out
        self.stopwatch = Stopwatch(warmup)
        self.metrics: Dict[str, dict] = {}
        self.tested: List[TestCase] = []
        self.tta = tta
        self._ways = eval_seeds, variants

    @property
    def model(self) -> torch.nn.Module:
        """The detector without a wrapper for processes.

        Raises:
            ValueError: If its weights are divided among processes.
        """
        model = self.runner.model
        if isinstance(model, FullyShardedDataParallel):
            raise ValueError(
                'FSDP is for training: test by tools/test.py, '
                'or without runner_type and strategy; the '
                'checkpoint is a whole one'
            )
        return unwrap(model)

    @cached_property
    def tester(self) -> torch.nn.Module:
        """The detector, or what tests it with augmentation."""
        if self.tta is None:
            return self.model
        return MODELS.build(self.tta, default_args=dict(module=self.model))

    @cached_property
    def cases(self) -> List[TestCase]:
        """What is tested; made when a strategy has built the detector."""
        eval_seeds, variants = self._ways
        if not hasattr(self.model, 'test_variants'):
            if len(variants) > 1 or len(eval_seeds or ()) > 1:
                print_log(
                    f'{type(self.model).__name__} does not sample: it is tested once',
                    'current',
                    logging.WARNING,
                )
            return [TestCase('seed0_step1', ConfigDict())]
        if eval_seeds is None:
            eval_seeds = [self.model.test_cfg['eval_seed']]
        cases = []
        for number, change in enumerate(variants):
            cfg = ConfigDict(copy.deepcopy(self.runner.cfg.model.sampler))
            sampler_change = dict(change)
            num_proposals = sampler_change.pop('num_proposals', None)
            if num_proposals is not None and num_proposals < 1:
                raise ValueError(
                    f'test_cfg.variants: num_proposals must be at least 1, got {num_proposals}'
                )
            merge(cfg, sampler_change)
            sampler = TASK_UTILS.build(cfg)
            if not same_process(sampler.scheduler, self.model.sampler.scheduler):
                raise ValueError(
                    f'test_cfg.variants: {type(sampler.scheduler).__name__} has another forward '
                    f'process than {type(self.model.sampler.scheduler).__name__}, for which the '
                    'model was trained: diffusion and flow matching cannot take the place of '
                    'each other'
                )
            for seed in eval_seeds:
                name = f'seed{seed}_step{sampler.sampling_timesteps}'
                if set(change) - {'sampling_timesteps'}:
                    name += f'_variant{number}'
                cases.append(TestCase(name, cfg, SamplingVariant(sampler, seed, num_proposals)))
        names = [case.name for case in cases]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f'test_cfg: {", ".join(twice)} stand twice; name each eval seed and variant once'
            )
        return cases

    def run(self) -> dict:
        """Test; gives the metrics, with the case's name if there are several."""
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        ledgers = [hook for hook in self.runner.hooks if isinstance(hook, LedgerHook)]
        if len(ledgers) > 1:
            raise ValueError('custom_hooks: a test has one LedgerHook; name one ledger')
        ledger = ledgers[0] if ledgers else None
        known = ledger.find(self.runner, self.cases) if ledger else {}
        self.tested = [case for case in self.cases if case.name not in known]
        evaluators = [self._evaluator_of(case) for case in self.tested]
        # workers begin outside: what they compute stays in float32
        batches = iter(self.dataloader if self.tested else ())
        # around all images: autocast keeps the weights that it has cast
        self.watch = FiniteWatch(self.model)
        channels_last_on_gpu(self.model)
        with (
            torch.no_grad(),
            in_precision(self.model, self.precision),
            self.watch(),
            in_passes(self.runner, self.dataloader),
        ):
            for idx, data_batch in enumerate(batches):
                self.run_iter(idx, data_batch, evaluators)
        size = len(self.dataloader.dataset)
        found = {case.name: e.evaluate(size) for case, e in zip(self.tested, evaluators)}
        self.metrics = {case.name: {**known, **found}[case.name] for case in self.cases}
        if ledger:
            ledger.append(
                self.runner,
                [ledger.row(c, found[c.name], self._seconds(i)) for i, c in enumerate(self.tested)],
            )
        metrics = dict(next(iter(self.metrics.values()), {}))
        if len(self.metrics) > 1:
            metrics = {
                f'{name}/{key}': value
                for name, values in self.metrics.items()
                for key, value in values.items()
            }
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics

    def run_iter(self, idx: int, data_batch: dict, evaluators: Sequence[Evaluator]) -> None:
        """Test a batch in all cases; hooks see the first case's detections."""
        self.runner.call_hook('before_test_iter', batch_idx=idx, data_batch=data_batch)
        if self.tested[0].variant is None:
            count = self._num_images(data_batch)
            with self.stopwatch('features', count):  # and all the rest
                outputs = [self.tester.test_step(data_batch)]
            self.stopwatch.add(0, 0.0, count)
        else:
            outputs = self.tester.test_variants(
                data_batch, [case.variant for case in self.tested], self.stopwatch
            )
        self.watch.check(outputs[0])
        # once for the check and the metrics
        outputs = [[sample.cpu() for sample in samples] for samples in outputs]
        for case, evaluator, samples in zip(self.tested, evaluators, outputs):
            check_detections(samples, case.name)
            evaluator.process(data_samples=samples, data_batch=data_batch)
        self.runner.call_hook(
            'after_test_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs[0]
        )

    def _seconds(self, index: int) -> float:
        """An image's share of the features and what the tested case took."""
        return self.stopwatch.per_image('features') + self.stopwatch.per_image(index)

    def _num_images(self, data_batch: dict) -> int:
        inputs = data_batch['inputs']  # with augmentation, by view
        return len(inputs if self.tta is None else inputs[0])

    def _evaluator_of(self, case: TestCase) -> Evaluator:
        """A copy that shares the ground truth but not the results."""
        metrics = [copy.copy(metric) for metric in self.evaluator.metrics]
        for metric in metrics:
            metric.results = []
        if self.out is not None:
            path = self.out
            if len(self.cases) > 1:
                stem, dot, ending = path.rpartition('.')
                path = f'{stem}_{case.name}{dot}{ending}'
            metrics.append(DumpDetections(out_file_path=path))
        evaluator = Evaluator(metrics)
        evaluator.dataset_meta = self.evaluator.dataset_meta
        return evaluator
