"""Check types and ranges of a config's values by the names of its options."""

import math
import re
from typing import Any, Iterable

from .value_types import describe

_FRACTION = re.compile(r'^(score|iou|nms|conf|pos_iou|neg_iou|min_iou|renewal)_thrs?(eshold)?s?$')
_POSITIVE = {'std', 'batch_size', 'base_batch_size', 'window_size'}
_NOT_NEGATIVE = {'lr', 'weight_decay', 'num_workers', 'max_per_img', 'loss_weight', 'interval'}
_WHOLE = {'seed', 'eval_seed', 'base_batch_size', 'opencv_num_threads', 'resource_limit'}
_FLAGS = {'cudnn_benchmark', 'deterministic', 'diff_rank_seed', 'persistent_workers', 'pin_memory'}
_FLAGS |= {'drop_last', 'allow_failed_imports'}
_TEXT = {'constructor', 'img_path', 'mp_start_method'}
_NEEDED = {'max_norm', 'norm_type', 'lr', 'std'}
_FINITE = {'mean', 'scale', 'momentum', 'gamma', 'alpha', 'beta', 'power'}
_NUMBERS = (
    _POSITIVE
    | _NOT_NEGATIVE
    | {'eta', 'max_norm', 'norm_type', 'num_proposals', 'num_classes', 'num_stages'}
)


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)


def _must_be_finite(path: str, key: str) -> bool:
    # ranges of a model may be open, the largest gradient is a norm
    top = path.split('.')[0]
    return key not in ('max_norm', 'norm_type') and (
        top != 'model' or key in _NUMBERS or key in _FINITE or key.endswith('weight')
    )


def check_number(path: str, key: str, value: Any) -> None:
    """Raise ValueError if the value of an option is not a number, or out of its range.

    ``path`` is its place in the config, and ``key`` the option's name. Lists of
    numbers are checked too.
    """
    if key in _WHOLE and value is not None and type(value) is not int:
        raise ValueError(f'{path} must be a whole number, got {describe(value)}')
    if key in _FLAGS and type(value) is not bool and '.' in path:
        raise ValueError(f'{path} must be True or False, got {describe(value)}')
    if key in _TEXT and '.' in path and not isinstance(value, str):
        raise ValueError(f'{path} must be text, got {describe(value)}')
    if key in _NUMBERS and (isinstance(value, (str, dict)) or (value is None and key in _NEEDED)):
        raise ValueError(f'{path} must be a number, got {describe(value)}')
    for number in _numbers(value):
        wrong = ''
        if math.isnan(number) or (math.isinf(number) and _must_be_finite(path, key)):
            wrong = 'a finite number'
        elif (key == 'prob' or _FRACTION.match(key)) and not 0 <= number <= 1:
            wrong = 'from 0 to 1'
        elif key in _POSITIVE and number <= 0:
            wrong = 'greater than 0'
        elif key in _NOT_NEGATIVE and number < 0 and not (key == 'interval' and number == -1):
            wrong = 'at least 0'
        elif isinstance(number, int) and abs(number) >= 2**63:
            wrong = 'below 2 ** 63'
        if wrong:
            raise ValueError(f'{path} must be {wrong}, got {value}')
