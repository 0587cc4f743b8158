"""The detector: two walks, from objects to losses and from noise to boxes."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import OptSampleList, SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from ..diffusion.box_codec import sizes_of
from ..diffusion.box_schedulers import training_scheduler
from ..diffusion.corruption import corrupt, label_statistics
from ..diffusion.noise import PerImageNoise
from ..diffusion.sampling import SamplingStep, SamplingVariant
from ..diffusion.timesteps import draw_timesteps
from ..registry import LABEL_SCHEDULERS, MODELS, TASK_UTILS
from .checks import check_pieces, complete_test_cfg, complete_train_cfg, logged
from .denoiser import Denoiser
from .passes import Measure, passes, unmeasured
from .postprocess import merge_steps
from .roi_gather import FeatureTable
from .structures import TrainingStep, known_objects


@MODELS.register_module()
class DiffusionDet(BaseDetector):
    """DiffusionDet (arXiv 2211.09788): detection as denoising of boxes.

    Args:
        backbone (dict): Config of the backbone.
        neck (dict): Config of the feature pyramid.
        bbox_head (dict): E.g. ``DiffusionDetHead``.
        criterion (dict): E.g. ``DiffusionDetCriterion``; it and the label
            scheduler have the head's ``num_classes``.
        sampler (dict): E.g. ``DiffusionSampler``. The forward process in
            training has the schedule of its scheduler.
        box_codec (dict): Boxes to signal and back.
        label_scheduler (dict, optional): ``D3PMScheduler``, for stages with a
            ``LabelEmbedding``.
        train_cfg (dict, optional): ``num_proposals`` (500); ``timesteps``,
            ``all`` (default), ``sampling``: only those that the sampler
            visits, for a student of few steps, ``logit_normal`` or
            ``shifted``, see :func:`~mmdiffdet.diffusion.timesteps.draw_timesteps`;
            ``noise_pairing``, ``random`` or ``optimal_transport``.
        test_cfg (dict, optional): ``num_proposals`` (500), ``eval_seed`` (0),
            ``images_per_pass`` (images in one pass of ``test_step``: 1, but in
            tests on GPUs the loader's batch size; more differ by rounding),
            ``quality_power`` (0), ``nms`` (IoU 0.5 within a class), ``score_thr``
            (0) and ``max_per_img`` (-1, all).
        data_preprocessor (dict, optional): Normalisation and padding.
        init_cfg (dict, optional): Initialisation of mmengine.

    Raises:
        ValueError: If ``train_cfg`` or ``test_cfg`` has an unknown key, or
            one piece needs another that is not there (the quality head, the
            label scheduler, attention weights).
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        bbox_head: dict,
        criterion: dict,
        sampler: dict,
        box_codec: dict = dict(type='BoxCodec'),
        label_scheduler: Optional[dict] = None,
        train_cfg: Optional[dict] = None,
        test_cfg: Optional[dict] = None,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if isinstance(data_preprocessor, dict):
            # does not wait for each copy; a class of the user's own need not know the option
            self.data_preprocessor._non_blocking = data_preprocessor.get('non_blocking', True)
        self._backbone_frozen = False
        self.scales_losses = False  # PartAmpOptimWrapper leaves out steps that are not finite
        # set by a hook: (detector, TrainingStep) to more losses
        self.distiller: Optional[Callable] = None
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.bbox_head = MODELS.build(bbox_head)
        # told once, in bbox_head
        num_classes = self.bbox_head.num_classes
        self.criterion = MODELS.build({'num_classes': num_classes, **criterion})
        self.box_codec = TASK_UTILS.build(box_codec)
        self.sampler = TASK_UTILS.build(sampler)
        self.label_scheduler = label_scheduler and LABEL_SCHEDULERS.build(
            {'num_classes': num_classes, **label_scheduler}
        )
        self.forward_process = training_scheduler(self.sampler.scheduler)
        self.train_cfg = complete_train_cfg(train_cfg)
        self.test_cfg = complete_test_cfg(test_cfg)
        check_pieces(self)

    def freeze_backbone(self) -> None:
        """Train it no more: no gradients, and evaluation mode from now on."""
        self.backbone.requires_grad_(False)
        self._backbone_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> 'DiffusionDet':
        """Switch between training and evaluation, see ``freeze_backbone``."""
        super().train(mode)
        if self._backbone_frozen:
            self.backbone.eval()
        return self

    # ---- objects to losses -------------------------------------------------

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Dict[str, Tensor]:
        """Losses of a batch, and scalars to log whose names lack "loss".

        Images with ``labelled=False`` add what a distiller says of them, and no more.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), normalised and padded.
            batch_data_samples (list[DetDataSample]): With ``gt_instances``.
        """
        metas = [s.metainfo for s in batch_data_samples]
        objects, criterion_kwargs = known_objects(batch_data_samples, batch_inputs.device)
        maps = self.backbone_maps(batch_inputs)
        table = self.bbox_head.tabulate(self.neck(maps))
        image_sizes = sizes_of(metas, batch_inputs.device)
        noisy = corrupt(
            objects,
            image_sizes,
            self.train_cfg['num_proposals'],
            self.box_codec,
            self.forward_process,
            draw_timesteps(
                self.train_cfg['timesteps'], self.sampler, len(objects), image_sizes.device
            ),
            self.label_scheduler,
            self.train_cfg['noise_pairing'],
        )
        output = self.bbox_head(
            table,
            noisy.boxes,
            noisy.t,
            noisy.label_state,
            need_attention=self.criterion.needs_attention,
        )
        losses = self.criterion(output, objects, image_sizes, **criterion_kwargs)
        if noisy.label_state is not None:
            losses.update(label_statistics(noisy, self.label_scheduler))
        if self.distiller is not None:
            step = TrainingStep(batch_inputs, maps, table, noisy, output, image_sizes, metas)
            losses.update(self.distiller(self, step))
        return losses

    def parse_losses(self, losses: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        """Sum the losses, before any weight has been changed; logs are on the CPU.

        Raises:
            FloatingPointError: If the sum is not finite; names the losses
                that are not.
        """
        total, log_vars = super().parse_losses(losses)
        return total, logged(log_vars, finite=not self.scales_losses)

    # ---- noise to boxes ----------------------------------------------------

    def test_step(self, data: Any) -> SampleList:
        """Detections of a batch, as the config samples them."""
        return self.test_variants(data, [self.default_variant])[0]

    val_step = test_step

    @property
    def default_variant(self) -> SamplingVariant:
        """The sampler and the eval seed of the config."""
        return SamplingVariant(self.sampler, self.test_cfg['eval_seed'])

    def test_variants(
        self, data: Any, variants: Sequence[SamplingVariant], measure: Measure = unmeasured
    ) -> List[SampleList]:
        """Detections of a batch for each variant, on the same features.

        The network sees ``test_cfg.images_per_pass`` images at once, all of
        one padded shape. With 1, the detections of an image are the same to
        the last bit whatever batch it came in; with more, to rounding.
        Several variants in one call change no bit.

        Args:
            data (dict): ``inputs`` and ``data_samples`` of the data loader.
            variants (Sequence[SamplingVariant]): Ways to sample.
            measure (Callable): Called with ``features`` or the index of a
                variant, and the number of images; gives a context manager.

        Returns:
            list[list[DetDataSample]]: By variant, images in their order.
        """
        divisor = getattr(self.data_preprocessor, 'pad_size_divisor', 1)
        results = [[None] * len(data['inputs']) for _ in variants]
        for index in passes(data['inputs'], divisor, self.test_cfg['images_per_pass']):
            part = {k: [v[i] for i in index] for k, v in data.items()}
            part = self.data_preprocessor(part, False)
            samples = part['data_samples']
            metas = [s.metainfo for s in samples]
            with measure('features', len(index)):
                table = self.bbox_head.tabulate(self.extract_feat(part['inputs']))
            for v, variant in enumerate(variants):
                with measure(v, len(index)):
                    found = self.detect(table, metas, variant)
                copies = self.add_pred_to_datasample([s.new() for s in samples], found)
                for i, sample in zip(index, copies):
                    results[v][i] = sample
        return results

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Fill in ``pred_instances`` of each sample, all images in one pass.

        Args:
            batch_inputs (Tensor): (B, 3, H, W), normalised and padded.
            batch_data_samples (list[DetDataSample]): Their ``img_id`` seeds
                the noise, together with ``test_cfg.eval_seed``.
            rescale (bool): Whether boxes are in the original image.
        """
        table = self.bbox_head.tabulate(self.extract_feat(batch_inputs))
        results = self.detect(table, [s.metainfo for s in batch_data_samples], rescale=rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def detect(
        self,
        table: FeatureTable,
        img_metas: List[dict],
        variant: Optional[SamplingVariant] = None,
        rescale: bool = True,
        callback: Optional[Callable[[SamplingStep], None]] = None,
    ) -> List[InstanceData]:
        """Detections from features, which may be shared by several calls.

        Args:
            table (FeatureTable): Of ``bbox_head.tabulate``.
            img_metas (list[dict]): B of them, with ``img_shape`` and
                ``img_id``.
            variant (SamplingVariant, optional): How to sample; by default
                as the config says.
            rescale (bool): Whether boxes are in the original image.
            callback (Callable, optional): Called with each sampling step.
        """
        variant = variant or self.default_variant
        cfg = {
            k: v
            for k, v in self.test_cfg.items()
            if k not in ('eval_seed', 'images_per_pass', 'num_proposals')
        }
        device = next(self.bbox_head.parameters()).device
        noise = PerImageNoise.from_seed(
            variant.eval_seed, [m.get('img_id', 0) for m in img_metas], device
        )
        steps = variant.sampler(
            self.denoiser(table),
            self.box_codec,
            sizes_of(img_metas, device),
            self.test_cfg['num_proposals']
            if variant.num_proposals is None
            else variant.num_proposals,
            noise,
            label_scheduler=self.label_scheduler,
            callback=callback,
        )
        return merge_steps(steps, img_metas, rescale=rescale, **cfg)

    def denoiser(self, table: FeatureTable) -> Denoiser:
        """The head with its features, as the reverse process calls it."""
        return Denoiser(self.bbox_head, table)

    # ---- MMDetection's remaining interface -------------------------------

    def extract_feat(self, batch_inputs: Tensor) -> Tuple[Tensor, ...]:
        """(B, 3, H, W) images to the maps of the feature pyramid."""
        return self.neck(self.backbone_maps(batch_inputs))

    def backbone_maps(self, batch_inputs: Tensor) -> Tuple[Tensor, ...]:
        """(B, 3, H, W) images to the maps of the backbone."""
        return self.backbone(batch_inputs)

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None
    ) -> Tuple[Tensor, Tensor]:
        """One pass of the head over whole-image boxes, e.g. to count FLOPs.

        Returns:
            tuple: Logits (S, B, N, K) and boxes (S, B, N, 4).
        """
        batch, _, height, width = batch_inputs.shape
        table = self.bbox_head.tabulate(self.extract_feat(batch_inputs))
        boxes = batch_inputs.new_tensor([0, 0, width, height]).expand(
            batch, self.test_cfg['num_proposals'], 4
        )
        t = torch.zeros(batch, dtype=torch.long, device=boxes.device)
        state = self.label_scheduler and self.label_scheduler.prior(*boxes.shape[:2], boxes.device)
        output = self.bbox_head(table, boxes, t, state)
        return output.logits, output.boxes
