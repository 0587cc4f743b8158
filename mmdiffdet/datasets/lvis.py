"""LVIS v1."""

from typing import List

import mmdet.datasets

from ..registry import DATASETS
from .loading import NeverEmpty, require_file


@DATASETS.register_module()
class LVISV1Dataset(NeverEmpty, mmdet.datasets.LVISV1Dataset):
    """MMDetection's; needs ``pip install lvis``."""

    def load_data_list(self) -> List[dict]:
        """Read the annotation file.

        Raises:
            FileNotFoundError: If it does not exist.
            ImportError: If the package ``lvis`` is missing.
            ValueError: If it has another number of classes than
                ``metainfo.classes``.
        """
        require_file(self.ann_file, type(self).__name__)
        try:
            data_list = super().load_data_list()
        except ImportError as error:
            raise ImportError('LVIS needs its package: pip install lvis') from error
        if len(self.cat_ids) != len(self.metainfo['classes']):
            raise ValueError(
                f'{self.ann_file} has {len(self.cat_ids)} categories, metainfo'
                f'.classes {len(self.metainfo["classes"])}: labels are '
                'positions in both, so they must be the same'
            )
        return data_list
