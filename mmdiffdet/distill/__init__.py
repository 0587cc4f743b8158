"""A teacher that samples many steps, a student that answers in few."""

from .consistency_model import ConsistencyModelDistiller, ConsistencyModelHook
from .distillers import ConsistencyDistiller, SamplerDistiller
from .hooks import ConsistencyDistillHook, SamplerDistillHook, SetDistillHook
from .set_distiller import SetDistiller
from .teacher import Teacher

__all__ = [
    'ConsistencyDistillHook',
    'ConsistencyDistiller',
    'ConsistencyModelDistiller',
    'ConsistencyModelHook',
    'SamplerDistillHook',
    'SamplerDistiller',
    'SetDistillHook',
    'SetDistiller',
    'Teacher',
]
