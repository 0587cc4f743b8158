"""Let the metrics of a config evaluate annotations before there are detections."""

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

    Whatever a metric raises because of the annotations is raised here, and average
    precisions are 1 where a detector could reach 1. ``evaluator`` is ``val_evaluator``
    or ``test_evaluator`` of a config, ``dataset`` a data set without a wrapper.
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
    meta = {key: info[key] for key in ('img_id', 'img_path', 'instances')}
    meta.update(ori_shape=size, img_shape=size, scale_factor=(1.0, 1.0))
    sample = DetDataSample(metainfo=meta)
    sample.gt_instances = _instances(info, ignored=False)
    sample.ignored_instances = _instances(info, ignored=True)
    sample.pred_instances = _instances(info, ignored=False)
    sample.pred_instances.scores = torch.ones(len(sample.gt_instances))
    return sample


def _instances(info: Dict[str, Any], ignored: bool) -> InstanceData:
    instances = [i for i in info['instances'] if bool(i['ignore_flag']) == ignored]
    boxes = torch.tensor([i['bbox'] for i in instances], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([i['bbox_label'] for i in instances], dtype=torch.long)
    return InstanceData(bboxes=boxes, labels=labels)
