"""What trains and tests: checkpoints, hooks, optimiser."""
from .checkpoint import load_checkpoint_file
from .checkpoint_guard_hook import CheckpointGuardHook
from .part_hooks import FederatedFrequencyHook, GeometryWarmupHook
from .part_optim import (
                         PartAmpOptimWrapper,
                         PartOptimWrapper,
                         PartOptimWrapperConstructor,
)

__all__ = [
    'CheckpointGuardHook', 'FederatedFrequencyHook', 'GeometryWarmupHook',
    'PartAmpOptimWrapper', 'PartBf16OptimWrapper', 'PartOptimWrapper',
    'PartOptimWrapperConstructor',
    'load_checkpoint_file'
]
