"""Training with the labels of a few images."""

from typing import Any, List, Optional, Union

import numpy as np


class FewLabels:
    """For data sets of MMDetection: only some images keep their labels.

    The others have no objects, and ``labelled=False`` in their metainfo says that
    this is not known to be so: they add nothing to the losses of a detector but
    what a teacher says of them (:class:`~mmdiffdet.distill.SetDistiller`). Of one
    seed, the images that keep them when there are few are among those that keep
    them when there are more.

    Args:
        labelled (int | float, optional): Number of images that keep their labels,
            or their share, below 1, of those that ``filter_cfg`` leaves. None, the
            default, keeps all.
        labelled_seed (int): Which ones. Defaults to 0.
        labelled_repeats (int): How often an image with labels stands in the data
            set, so that a batch has more of them. Defaults to 1.
        unlabelled (str): ``keep`` the other images, without labels, or ``drop``
            them. Defaults to ``keep``.

    Raises:
        ValueError: If a value is not one of these, there are fewer images, or the
            data set is for testing.
    """

    def __init__(
        self,
        *args: Any,
        labelled: Optional[Union[int, float]] = None,
        labelled_seed: int = 0,
        labelled_repeats: int = 1,
        unlabelled: str = 'keep',
        **kwargs: Any,
    ) -> None:
        if labelled is not None and (isinstance(labelled, bool) or not labelled > 0):
            raise ValueError(f'labelled must be a number of images or a share, got {labelled!r}')
        if isinstance(labelled_repeats, bool) or not labelled_repeats >= 1:
            raise ValueError(f'labelled_repeats must be at least 1, got {labelled_repeats!r}')
        if unlabelled not in ('keep', 'drop'):
            raise ValueError(f"unlabelled must be 'keep' or 'drop', got {unlabelled!r}")
        if labelled is None and (labelled_seed, labelled_repeats, unlabelled) != (0, 1, 'keep'):
            raise ValueError(
                'labelled_seed, labelled_repeats and unlabelled do nothing without labelled'
            )
        if labelled is not None and kwargs.get('test_mode'):
            raise ValueError('labelled is for training: a test needs all labels; leave it out')
        self.labelled = labelled
        self.labelled_seed = labelled_seed
        self.labelled_repeats = labelled_repeats
        self.unlabelled = unlabelled
        super().__init__(*args, **kwargs)

    def filter_data(self) -> List[dict]:
        """What ``filter_cfg`` leaves, of which some have lost their labels."""
        infos = super().filter_data()
        if self.labelled is None or not infos:
            return infos
        count = self.labelled
        if count < 1:
            count = max(1, round(count * len(infos)))
        if count != int(count) or count > len(infos):
            raise ValueError(
                f'{self.ann_file}: labelled={self.labelled}, but there are {len(infos)} images; '
                'give a whole number up to that, or a share below 1'
            )
        order = np.random.default_rng(self.labelled_seed).permutation(len(infos))
        chosen = set(order[: int(count)].tolist())
        return [
            dict(info, labelled=True) if i in chosen else dict(info, instances=[], labelled=False)
            for i, info in enumerate(infos)
            if i in chosen or self.unlabelled == 'keep'
            for _ in range(self.labelled_repeats if i in chosen else 1)
        ]

    def prepare_data(self, idx: int) -> Optional[dict]:
        """An image through the pipeline, with ``labelled`` in its metainfo.

        Raises:
            ValueError: If the pipeline does not end with a packed image.
        """
        packed = super().prepare_data(idx)
        if self.labelled is not None and packed is not None:
            if 'data_samples' not in packed:
                raise ValueError(
                    f'{self.ann_file}: with labelled={self.labelled} the pipeline has to end with '
                    'PackDetInputs: images with and without labels cannot be mixed into one'
                )
            known = self.get_data_info(idx)['labelled']
            packed['data_samples'].set_metainfo(dict(labelled=known))
        return packed
