"""A test's end without its beginning: do the metrics take these annotations?"""

import contextlib
import io
from typing import Any, Dict, List, Union

import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData


def rehearse(evaluator: Union[dict, List[dict]], dataset: BaseDataset) -> Dict[str, float]:
    """Evaluate a data set's own objects as if they had been detected.

    Whatever a metric stumbles over in the annotations comes out here, and average
    precisions are 1 where a detector could reach 1.

    Args:
        evaluator (dict | list[dict]): ``val_evaluator`` or ``test_evaluator``.
        dataset (BaseDataset): The data set that it is for, without a wrapper.

    Raises:
        Exception: Whatever a metric raises.
    """
    MMLogger.get_instance('rehearsal', log_level='ERROR')  # the current one from here on
    judge = Evaluator(evaluator)
    judge.dataset_meta = dataset.metainfo
    with contextlib.redirect_stdout(io.StringIO()):
        for index in range(len(dataset)):
            judge.process([_sample(dataset.get_data_info(index))])
        return judge.evaluate(len(dataset))


def _sample(info: Dict[str, Any]) -> DetDataSample:
    size = (info['height'], info['width'])
    sample = DetDataSample(
        metainfo=dict(
            img_id=info['img_id'],
            img_path=info['img_path'],
            ori_shape=size,
            img_shape=size,
            scale_factor=(1.0, 1.0),
            instances=info['instances'],
        )
    )
    objects = [i for i in info['instances'] if not i['ignore_flag']]
    ignored = [i for i in info['instances'] if i['ignore_flag']]
    sample.gt_instances = _instances(objects)
    sample.ignored_instances = _instances(ignored)
    sample.pred_instances = _instances(objects)
    sample.pred_instances.scores = torch.ones(len(objects))
    return sample


def _instances(instances: List[dict]) -> InstanceData:
    boxes = torch.tensor([i['bbox'] for i in instances], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([i['bbox_label'] for i in instances], dtype=torch.long)
    return InstanceData(bboxes=boxes, labels=labels)
