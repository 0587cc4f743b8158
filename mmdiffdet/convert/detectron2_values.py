"""Check values of Detectron2's options against the type of their defaults."""

import math
from typing import Any

# options that may be negative: SEED without a value, and factors
_ANY_SIGN = ('SEED', 'SNR_SCALE', 'MODEL.PIXEL_MEAN', 'GEO_BIAS_SCALE', 'QUALITY_GUIDANCE_SCALE')
_ONE_OR_MORE = (
    *('NUM_CLASSES', 'NUM_PROPOSALS', 'HIDDEN_DIM', 'NUM_HEADS', 'NHEADS', 'SAMPLE_STEP', 'OTA_K'),
    *('SOLVER.IMS_PER_BATCH', 'SOLVER.MAX_ITER', 'MODEL.FPN.OUT_CHANNELS', 'DIM_FEEDFORWARD'),
    *('INPUT.MIN_SIZE_TRAIN', 'INPUT.MAX_SIZE_TRAIN', 'INPUT.MIN_SIZE_TEST', 'INPUT.MAX_SIZE_TEST'),
)


_KINDS = (
    (bool, (bool,), 'true or false'),
    (int, (int,), 'a whole number'),
    (float, (int, float), 'a number'),
    (str, (str,), 'text'),
)


def same(value: Any, default: Any) -> bool:
    """Whether a value is the default; lists and tuples are alike."""
    if isinstance(default, (list, tuple)) and isinstance(value, (list, tuple)):
        return list(value) == list(default)
    return value == default and isinstance(value, bool) == isinstance(default, bool)


def check_value(name: str, value: Any, default: Any) -> None:
    """Raise ValueError if the option's value is not of its default's type and range.

    For a sequence of sizes a single one may stand.
    """
    expected = _expected(value, default)
    if expected:
        raise ValueError(f'{name} must be {expected}, got {value!r}')
    if isinstance(value, str) and '{{' in value:
        raise ValueError(
            f'{name} is {value!r}: MMEngine would replace {{{{ when it reads the config; write it '
            'otherwise'
        )
    short = name.removeprefix('MODEL.DiffusionDet.')
    for number in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        if not math.isfinite(number):
            raise ValueError(f'{name} must be finite, got {value!r}')
        least = 1 if short in _ONE_OR_MORE else 0
        if number < least and short not in _ANY_SIGN:
            raise ValueError(f'{name} must be at least {least}, got {value!r}')
        if short == 'MODEL.PIXEL_STD' and number == 0:
            raise ValueError(f'{name} must be greater than 0, got {value!r}')


def _expected(value: Any, default: Any) -> str:
    """What a value should be, as text; empty if it is."""
    for kind, fitting, text in _KINDS:
        if type(default) is kind:
            return '' if type(value) in fitting else text
    if isinstance(value, int) and default and isinstance(default[0], int):
        return '' if not isinstance(value, bool) else 'a list of whole numbers'
    if not isinstance(value, (list, tuple)):
        return 'a list'
    item = default[0] if default else ''  # names of data sets
    wrong = next((found for found in (_expected(v, item) for v in value) if found), '')
    if wrong:
        return f'a list, each of it {wrong}'
    if isinstance(item, float) and len(value) != len(default):
        return f'a list of {len(default)} numbers'
    return ''
