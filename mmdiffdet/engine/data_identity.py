"""What a row of the ledger says of the data that were tested on."""

import os.path as osp
from typing import Any

from mmengine.dataset import BaseDataset

from ..datasets import YOLODataset
from ..datasets.counts import base_datasets
from ..ledger import sha256_of_config, sha256_of_file


def name_of_data(dataset: Any) -> str:
    """``Coco val.json``, or several with a plus between.

    Args:
        dataset (Any): A data set or a wrapper of data sets.
    """
    return ' + '.join(
        type(part).__name__.removesuffix('Dataset')
        + ' '
        + osp.relpath(part.ann_file, part.data_root or '.')
        for part in base_datasets(dataset)
    )


def sha256_of_annotations(dataset: Any) -> str:
    """SHA-256 of the annotation file, or of those of all files.

    Args:
        dataset (Any): A data set or a wrapper of data sets.
    """
    return _together([_sha256_of(part) for part in base_datasets(dataset)])


def _sha256_of(dataset: BaseDataset) -> str:
    if isinstance(dataset, YOLODataset):  # also which image has no label file
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        return sha256_of_config(
            {
                info['img_id']: sha256_of_file(info['label_path'])
                if osp.isfile(info['label_path'])
                else None
                for info in infos
            }
        )
    files = dataset.annotation_files if hasattr(dataset, 'annotation_files') else [dataset.ann_file]
    return _together([sha256_of_file(path) for path in files])


def _together(hashes: list) -> str:
    return hashes[0] if len(hashes) == 1 else sha256_of_config(dict(files=hashes))
