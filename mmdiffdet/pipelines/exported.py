"""Writing detectors as ONNX or torch.export files, and running such files."""

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from ..utils import atomic_path
from .call_options import sampler_of_call
from .detection_pipeline import DiffusionDetPipeline
from .graph import DetectionGraph, draw_noise
from .images import Image, ImageProcessor

ENDINGS = ('.onnx', '.pt2')
MIN_SIDE, MAX_SIDE = 33, 8192
"""Of an image, in pixels; a padded side of one feature would be a special case."""

_META = 'mmdiffdet'


def export(
    pipe: DiffusionDetPipeline,
    path: Path,
    num_inference_steps: Optional[int] = None,
    num_proposals: Optional[int] = None,
    eta: Optional[float] = None,
    score_thr: Optional[float] = None,
) -> None:
    """Write a detector as one function of image and noise.

    Its inputs are ``image`` and ``noise``, its outputs ``boxes``, ``labels``
    and ``scores``, see :class:`DetectionGraph`. Height and width of the image
    are free; steps and proposals are fixed. What a program needs to know is
    JSON in the file, under ``mmdiffdet``: class names, test pipeline, and what
    the noise is made of.

    Args:
        pipe (DiffusionDetPipeline): A pipeline on the CPU.
        path (Path): The file, which ends in ``.onnx`` or ``.pt2``.
        num_inference_steps (int, optional): Sampling steps.
        num_proposals (int, optional): N, the number of boxes that start from noise.
        eta (float, optional): DDIM's eta.
        score_thr (float, optional): Only scores above it stay.

    Raises:
        ValueError: If the ending is another one, a package is missing, or
            something cannot be exported; says what.
    """
    _check_ending(path)
    if path.suffix == '.onnx':
        _need('onnx', 'onnxscript')
    detector = pipe.model.detector
    sampler = sampler_of_call(detector.sampler, pipe.scheduler, num_inference_steps, eta)
    if num_proposals is None:
        num_proposals = detector.test_cfg['num_proposals']
    if num_proposals < 1:
        raise ValueError(f'num_proposals must be at least 1, got {num_proposals}')
    graph = DetectionGraph(detector, sampler, num_proposals, score_thr)
    draws = {k: getattr(graph, k) for k in ('noise_shape', 'step_draws', 'renewal_draws')}
    meta = dict(
        classes=pipe.classes,
        test_pipeline=pipe.model.config.test_pipeline,
        num_inference_steps=sampler.sampling_timesteps,
        **draws,
        min_side=MIN_SIDE,
        max_side=MAX_SIDE,
    )
    example = torch.zeros(1, 3, 2 * MIN_SIDE, 3 * MIN_SIDE), torch.zeros(graph.noise_shape)
    sides = [torch.export.Dim(name, min=MIN_SIDE, max=MAX_SIDE) for name in ('height', 'width')]
    program = torch.export.export(
        graph, example, dynamic_shapes=dict(image=dict(zip((2, 3), sides)), noise=None)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        if path.suffix == '.pt2':
            torch.export.save(program, temporary, extra_files={_META: json.dumps(meta)})
        else:
            _save_onnx(program, meta, temporary)


def _save_onnx(program: torch.export.ExportedProgram, meta: Dict[str, Any], path: Path) -> None:
    import onnx

    # it tells of each node that it does not fold
    logging.getLogger('onnxscript').setLevel(logging.ERROR)
    made = torch.onnx.export(
        program, output_names=['boxes', 'labels', 'scores'], dynamo=True, verbose=False
    )
    made.model.metadata_props[_META] = json.dumps(meta)
    made.save(str(path), external_data=False)
    onnx.checker.check_model(str(path))


class ExportedDetector:
    """Runs a ``.pt2`` or ``.onnx`` file that :func:`export` wrote, by PyTorch or ONNX Runtime.

    ValueError if the file is of something else, or a package is missing.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f'{path} does not exist')
        _check_ending(path)
        load = _load_onnx if path.suffix == '.onnx' else _load_pt2
        self._run, text = load(path)
        if not text:
            raise ValueError(f'{path} was not written by tools/export.py')
        self.meta: Dict[str, Any] = json.loads(text)
        self.processor = ImageProcessor(self.meta['test_pipeline'])

    def __call__(self, image: Image, eval_seed: int = 0, image_id: object = 0) -> InstanceData:
        """Detect in an image, given as to the pipeline.

        ``eval_seed`` and ``image_id`` seed the noise. Returns ``bboxes``, xyxy in
        pixels of the image, ``labels`` and ``scores``. ValueError if the image cannot
        be read, or is too small or too large.
        """
        data = self.processor(image)
        inputs = data['inputs'][0].float()[None]
        low, high = self.meta['min_side'], self.meta['max_side']
        if not all(low <= side <= high for side in inputs.shape[-2:]):
            raise ValueError(
                f'the image is {tuple(inputs.shape[-2:])} when it is resized; sides must be '
                f'from {low} to {high} pixels'
            )
        noise = draw_noise(self.meta['noise_shape'], self.meta['step_draws'], eval_seed, image_id)
        boxes, labels, scores = self._run(inputs, noise)
        scale = data['data_samples'][0].metainfo.get('scale_factor', (1.0, 1.0))
        return InstanceData(
            bboxes=boxes / boxes.new_tensor(scale).repeat(2), labels=labels, scores=scores
        )


def differences(
    found: InstanceData, boxes: Tensor, labels: Tensor, scores: Tensor
) -> Optional[Tuple[Tensor, Tensor]]:
    """How far K detections are from K others of the same image, in pixels and score.

    Each is compared with the nearest one of its class, as rounding may swap
    neighbours in the order. The others are boxes (K, 4), xyxy in pixels, labels and
    scores (K,). Returns two tensors (K,), or None if there are other numbers of
    objects.
    """
    if found.labels.sort()[0].tolist() != labels.sort()[0].tolist():
        return None
    if not len(found):
        return boxes.new_zeros(0), boxes.new_zeros(0)
    pixels = torch.cdist(found.bboxes, boxes, p=torch.inf)
    pixels = pixels + (found.labels[:, None] != labels) * 1e9
    nearest = (pixels + 1e3 * (found.scores[:, None] - scores).abs()).argmin(1)
    return pixels.gather(1, nearest[:, None])[:, 0], (found.scores - scores[nearest]).abs()


Run = Callable[[Tensor, Tensor], Sequence[Tensor]]


def _load_pt2(path: Path) -> Tuple[Run, str]:
    extra = {_META: ''}
    try:
        program = torch.export.load(path, extra_files=extra)
    except Exception as error:  # of zip files, JSON, schemas, ...
        raise ValueError(f'{path} cannot be read: {str(error).splitlines()[0]}') from error
    text = extra[_META]
    return program.module(), text.decode() if isinstance(text, bytes) else text


def _load_onnx(path: Path) -> Tuple[Run, str]:
    _need('onnxruntime')
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime has a dozen classes of its own
        raise ValueError(f'{path} cannot be read: {str(error).splitlines()[0]}') from error

    def run(image: Tensor, noise: Tensor) -> Sequence[Tensor]:
        outputs = session.run(
            ['boxes', 'labels', 'scores'], dict(image=image.numpy(), noise=noise.numpy())
        )
        return [torch.from_numpy(output) for output in outputs]

    return run, session.get_modelmeta().custom_metadata_map.get(_META, '')


def _check_ending(path: Path) -> None:
    if path.suffix not in ENDINGS:
        raise ValueError(f'{path} must end in {" or ".join(ENDINGS)}')


def _need(*packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)}: not installed; pip install 'mmdiffdet[export]'")
