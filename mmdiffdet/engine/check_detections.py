"""Detections must be numbers."""

from typing import Sequence

from mmdet.structures import DetDataSample


def check_detections(samples: Sequence[DetDataSample], what: str = '') -> None:
    """Stop at boxes and scores that are NaN or infinite.

    Such detections would be dropped or ranked at random, and end as an AP that
    looks like a poor model's.

    Args:
        samples (Sequence[DetDataSample]): With ``pred_instances``, of which
            ``bboxes`` (N, 4) and ``scores`` (N,) are looked at.
        what (str): The test case, to be named.

    Raises:
        FloatingPointError: Names the image and what is not finite.
    """
    for sample in samples:
        found = getattr(sample, 'pred_instances', None)
        for name in ('bboxes', 'scores'):
            values = None if found is None else found.get(name)
            if values is not None and not values.isfinite().all():
                bad = int((~values.isfinite()).reshape(len(values), -1).any(1).sum())
                image = sample.get('img_path', sample.get('img_id', '?'))
                raise FloatingPointError(
                    f'{name} of {bad} of {len(values)} detections of image {image} are not finite'
                    f'{f" ({what})" if what else ""}: the checkpoint is damaged or diverged, or '
                    'the precision is too low (test_cfg.precision). Nothing was written'
                )
