"""The pipeline from images to detections, used as Diffusers' pipelines are."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import List, Optional, Sequence, Union

import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from mmengine.config import Config
from torch import Tensor

from ..config.file import read_config
from ..diffusion.box_codec import sizes_of
from ..diffusion.label_scheduler import D3PMScheduler
from ..diffusion.sampling import SamplingStep
from ..engine.checkpoint import load_checkpoint_file, load_weights
from ..engine.precision import check_precision, in_precision
from ..models.postprocess import merge_steps
from .call_options import Generators, noises_of_call, sampler_of_call
from .components import load_schedulers
from .images import Image
from .inference_config import InferenceConfig
from .model import DiffusionDetModel

# options of test_cfg by which the steps' predictions become detections
_MERGE = ('quality_power', 'nms', 'score_thr', 'max_per_img')


@dataclass
class DetectionPipelineOutput(BaseOutput):
    """Detections, one entry an image, best score first.

    Args:
        boxes (list[Tensor]): (M, 4), xyxy in pixels of the image.
        labels (list[Tensor]): (M,) long, indices of ``pipe.classes``.
        scores (list[Tensor]): (M,).
        trajectory (list[list[SamplingStep]], optional): The steps of each
            image, boxes in pixels of the image.
    """

    boxes: List[Tensor]
    labels: List[Tensor]
    scores: List[Tensor]
    trajectory: Optional[List[List[SamplingStep]]] = None


class DiffusionDetPipeline(DiffusionPipeline):
    """Detect objects in images.

    Images are treated one at a time, so that the detections of an image are
    those of tools/test.py, to the last bit, for the same eval seed and image
    id, and do not depend on which other images there are.

    Args:
        model (DiffusionDetModel): The detector.
        scheduler (SchedulerMixin): Of the boxes; one of the classes in
            ``BOX_SCHEDULERS``.
        label_scheduler (D3PMScheduler, optional): Of the labels, for models
            that diffuse them.
    """

    model_cpu_offload_seq = 'model'
    _optional_components = ['label_scheduler']

    def __init__(
        self,
        model: DiffusionDetModel,
        scheduler: SchedulerMixin,
        label_scheduler: Optional[D3PMScheduler] = None,
    ) -> None:
        super().__init__()
        self.register_modules(model=model, scheduler=scheduler, label_scheduler=label_scheduler)

    @classmethod
    def from_single_file(
        cls,
        checkpoint: Union[str, os.PathLike],
        config: Union[str, os.PathLike, Config, None] = None,
    ) -> 'DiffusionDetPipeline':
        """Make a pipeline of a checkpoint, ``.pth`` or ``.safetensors``.

        ``config`` is a config file, which is executed, or one that was read. By
        default it is the config that the checkpoint carries, which is only parsed.
        ValueError if the checkpoint has none, is of another model, or the config
        names what is no part of a detector.
        """
        content = load_checkpoint_file(checkpoint)
        meta = content.get('meta') or {}
        try:
            if config is None:
                found = InferenceConfig.from_checkpoint(meta)
            else:
                read = config if isinstance(config, Config) else read_config(os.fspath(config))
                found = InferenceConfig.from_config(read, meta.get('dataset_meta'))
        except ValueError as error:
            raise ValueError(f'checkpoint {checkpoint}: {error}') from error
        model = DiffusionDetModel(**found.to_dict())
        load_weights(
            model.detector, checkpoint, 'give the config that it was trained with', content
        )
        return cls(model, model.detector.sampler.scheduler, model.detector.label_scheduler)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Union[str, os.PathLike],
        scheduler: Optional[SchedulerMixin] = None,
        torch_dtype: Optional[torch.dtype] = None,
    ) -> 'DiffusionDetPipeline':
        """Load a local folder that ``save_pretrained`` wrote.

        Nothing in it is executed: its parts must be known classes, weights are
        safetensors. ``scheduler`` takes the place of the folder's; ``torch_dtype`` is
        None or float32. ValueError if the folder is of another pipeline or damaged.
        """
        folder = Path(pretrained_model_name_or_path)
        parts = load_schedulers(folder)
        if scheduler is not None:
            parts['scheduler'] = scheduler
        pipe = cls(DiffusionDetModel.from_pretrained(folder / 'model', None, torch_dtype), **parts)
        pipe.register_to_config(_name_or_path=str(folder))
        return pipe

    @property
    def classes(self) -> List[str]:
        """Class names, by label."""
        return list(self.model.config.classes)

    @torch.no_grad()
    def __call__(
        self,
        images: Union[Image, Sequence[Image]],
        num_inference_steps: Optional[int] = None,
        num_proposals: Optional[int] = None,
        generator: Optional[Generators] = None,
        eta: Optional[float] = None,
        eval_seed: Optional[int] = None,
        image_ids: Optional[Sequence[object]] = None,
        score_thr: Optional[float] = None,
        renewal: Optional[bool] = None,
        precision: Optional[str] = None,
        output_trajectory: bool = False,
        return_dict: bool = True,
    ) -> Union[DetectionPipelineOutput, tuple]:
        """Detect. What is left out is as in the model's config.

        Args:
            images (Image | Sequence[Image]): Paths, PIL images, or (H, W, 3)
                uint8 arrays in BGR order.
            num_inference_steps (int, optional): Sampling steps.
            num_proposals (int, optional): Boxes that start from noise.
            generator (Generator | Sequence[Generator], optional): One an
                image, or one that a seed for each image is drawn from. By
                default the noise depends on ``eval_seed`` and image id.
            eta (float, optional): Of DDIM; other schedulers ignore it.
            eval_seed (int, optional): Seed of the noise.
            image_ids (Sequence, optional): One an image; by default 0 for
                all, so that its detections do not depend on its place.
            score_thr (float, optional): Only scores above it stay; 0 keeps
                all.
            renewal (bool, optional): Whether box renewal is used. By default
                as in the config, but not with a multistep solver.
            precision (str, optional): ``fp32``, ``bf16`` or ``fp16``.
            output_trajectory (bool): Whether every step is returned.
            return_dict (bool): Whether to return the output class instead of
                a tuple.

        Raises:
            FileNotFoundError: If an image does not exist.
            ImageError: If a file cannot be decoded as an image.
            ValueError: If an argument is wrong.
        """
        images = list(images) if isinstance(images, (list, tuple)) else [images]
        detector = self.model.detector
        sampler = sampler_of_call(
            detector.sampler, self.scheduler, num_inference_steps, eta, renewal
        )
        precision = precision or self.model.config.precision
        check_precision(precision, 'precision')
        if num_proposals is None:
            num_proposals = detector.test_cfg['num_proposals']
        if type(num_proposals) is not int or num_proposals < 1:
            raise ValueError(f'num_proposals must be a whole number from 1, got {num_proposals!r}')
        if generator is not None and not (eval_seed is None and image_ids is None):
            raise ValueError('generator takes the place of eval_seed and image_ids')
        seed = detector.test_cfg['eval_seed'] if eval_seed is None else eval_seed
        noises = noises_of_call(len(images), self.model.device, seed, image_ids, generator)
        merging = {k: detector.test_cfg[k] for k in _MERGE}
        if score_thr is not None:
            merging['score_thr'] = score_thr
        output = DetectionPipelineOutput([], [], [], [] if output_trajectory else None)
        with in_precision(detector, precision):
            for image, noise in zip(self.progress_bar(images), noises):
                data = detector.data_preprocessor(self.model.processor(image), False)
                meta = data['data_samples'][0].metainfo
                steps: List[SamplingStep] = []
                table = detector.bbox_head.tabulate(detector.extract_feat(data['inputs']))
                predictions = sampler(
                    detector.denoiser(table),
                    detector.box_codec,
                    sizes_of([meta], self.model.device),
                    num_proposals,
                    noise,
                    label_scheduler=self.label_scheduler,
                    callback=steps.append if output_trajectory else None,
                )
                found = merge_steps(predictions, [meta], **merging)[0]
                output.boxes.append(found.bboxes)
                output.labels.append(found.labels)
                output.scores.append(found.scores)
                if output_trajectory:
                    output.trajectory.append([_in_image(step, meta) for step in steps])
        return output if return_dict else output.to_tuple()


def _in_image(step: SamplingStep, meta: dict) -> SamplingStep:
    """A step with boxes in pixels of the image, and without its features."""
    scale = step.boxes.new_tensor(meta.get('scale_factor', (1.0, 1.0))).repeat(2)
    prediction = replace(step.prediction, boxes=step.prediction.boxes / scale, quality_of=None)
    return replace(step, boxes=step.boxes / scale, prediction=prediction)
