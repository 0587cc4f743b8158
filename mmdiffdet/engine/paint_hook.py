"""Detections painted into a folder."""

from pathlib import Path, PurePosixPath
from typing import Dict, Optional, Sequence

import numpy as np
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.runner import Runner

from ..datasets.image_file import BadImage, read_image
from ..registry import HOOKS


@HOOKS.register_module()
class PaintHook(DetVisualizationHook):
    """MMDetection's hook, with a picture of its own for every image.

    That hook names pictures after the last part of an image's path, so that
    images of one name in several folders overwrite each other, and reads images
    in another way than our data sets (cut files, 16 bits, EXIF). Here pictures
    keep their images' folders below the data set's; a path that leaves that
    folder (``../x.png``, ``/data/x.png``) is kept inside all the same.

    Args:
        **kwargs: Of ``DetVisualizationHook``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._painted: Dict[str, str] = {}

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[DetDataSample],
    ) -> None:
        """Paint or show each image of a batch."""
        if not self.draw:
            return
        prefix = getattr(runner.test_dataloader.dataset, 'data_prefix', None) or {}
        for sample in outputs:
            self._test_index += 1
            name = self._name(sample.img_path, prefix.get('img') or prefix.get('img_path'))
            path = None
            if self.test_out_dir is not None:
                path = Path(runner.work_dir, runner.timestamp, self.test_out_dir, name)
                path.parent.mkdir(parents=True, exist_ok=True)
            self._visualizer.add_datasample(
                name.name if self.show else 'test_img',
                self._image(sample),
                data_sample=sample,
                show=self.show,
                wait_time=self.wait_time,
                pred_score_thr=self.score_thr,
                out_file=path and str(path),
                step=self._test_index,
            )

    def _image(self, sample: DetDataSample) -> np.ndarray:
        """(H, W, 3) RGB, read as the data set reads it."""
        try:
            image, _ = read_image(sample.img_path, sample.ori_shape, self.backend_args)
        except (BadImage, FileNotFoundError):  # on_bad_image='skip': a grey one was tested
            return np.full((*sample.ori_shape, 3), 128, np.uint8)
        return image[..., ::-1]

    def _name(self, image: str, prefix: Optional[str]) -> PurePosixPath:
        """Below the folder of pictures; the same for the same image."""
        path = Path(image)
        if prefix and path.is_relative_to(prefix):
            path = path.relative_to(prefix)
        parts = [p for p in path.parts if p not in ('..', '.', path.anchor)]
        name = PurePosixPath(*parts)
        while self._painted.setdefault(str(name), image) != image:
            name = PurePosixPath('_', name)  # from outside, beside one of that name
        return name


def use_painting(cfg: Config, show: bool, show_dir: Optional[str], wait_time: float) -> None:
    """Switch painting on.

    Args:
        cfg (Config): Changed in place.
        show (bool): In a window.
        show_dir (str, optional): Into this folder below the work directory.
        wait_time (float): Seconds that a window stays.

    Raises:
        ValueError: If the config has no visualizer.
    """
    if not cfg.get('visualizer'):
        raise ValueError(
            '--show and --show-dir need a visualizer in the config, e.g. visualizer='
            "dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])"
        )
    hook = cfg.setdefault('default_hooks', {}).get('visualization') or {}
    cfg.default_hooks.visualization = dict(
        hook, type='PaintHook', draw=True, show=show, wait_time=wait_time, test_out_dir=show_dir
    )
