"""A teacher that samples many steps, a student that answers in few."""

from .distillers import ConsistencyDistiller, SamplerDistiller
from .hooks import ConsistencyDistillHook, SamplerDistillHook
from .teacher import Teacher

__all__ = [
    'ConsistencyDistillHook',
    'ConsistencyDistiller',
    'SamplerDistillHook',
    'SamplerDistiller',
    'Teacher',
]
