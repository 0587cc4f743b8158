"""The distribution of a training set's boxes, as a prior of the noise."""

from typing import Tuple

import numpy as np
from mmengine.config import Config

from ..registry import DATASETS
from .loading import FROM_FILE

Numbers = Tuple[float, ...]


def use_box_prior(cfg: Config) -> None:
    """Replace ``model.box_codec.noise_mean='from_file'`` of a config by numbers.

    Mean and standard deviation of the training set's boxes become ``noise_mean``
    and ``noise_sigma``. ValueError if ``noise_sigma`` is given too, or the boxes
    are fewer than two or do not differ in place and size.
    """
    codec = cfg.get('model', {}).get('box_codec') or {}
    if codec.get('noise_mean') != FROM_FILE:
        return
    if 'noise_sigma' in codec:
        raise ValueError(
            "model.box_codec: noise_mean='from_file' takes noise_sigma from the training set too; "
            f'leave out noise_sigma={codec.noise_sigma}, or give both as numbers'
        )
    mean, sigma = box_prior(cfg.train_dataloader.dataset, codec.get('scale', 2.0))
    codec.update(noise_mean=mean, noise_sigma=sigma)


def box_prior(dataset: dict, scale: float) -> Tuple[Numbers, Numbers]:
    """Mean and standard deviation of a data set's boxes as ``BoxCodec``'s signal.

    The signal is (2 b - 1) * scale for cx, cy, w and h in units of the image.
    ``dataset`` is the config of a data set, ``scale`` that of ``BoxCodec``.
    """
    data = DATASETS.build(dict(dataset, pipeline=[]))
    boxes = []
    for info in map(data.get_data_info, range(len(data))):
        size = np.array([info['width'], info['height']] * 2, float)
        for one in info['instances']:
            if not one.get('ignore_flag'):
                left, top, right, bottom = np.asarray(one['bbox'], float)
                centre = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
                boxes.append(np.array(centre) / size)
    signal = (np.array(boxes).reshape(-1, 4) * 2 - 1) * scale
    if len(signal) < 2 or not (signal.std(0) > 0).all():
        raise ValueError(
            f"model.box_codec.noise_mean='from_file': {len(signal)} boxes of "
            f'{dataset.get("ann_file")} have no spread in place and size; give noise_mean and '
            'noise_sigma as numbers'
        )
    mean = np.clip(signal.mean(0), -scale, scale)
    return tuple(mean.tolist()), tuple(signal.std(0).tolist())
