"""What trains and tests: checkpoints, hooks, optimiser."""

from ..utils import quiet_import

with quiet_import():  # before anything else imports them
    import mmdet.datasets  # noqa: F401
    import mmdet.evaluation  # noqa: F401

from . import local_backend  # noqa: F401 registers itself
from .averaged_model import ForeachEMA
from .checkpoint import load_checkpoint_file
from .checkpoint_guard_hook import CheckpointGuardHook
from .compile_hook import CompileHook
from .fsdp_strategy import WholeFSDPStrategy
from .iteration_seed_hook import IterationSeedHook
from .ledger_hook import LedgerHook
from .multi_seed_test_loop import MultiSeedTestLoop
from .origin_hook import OriginHook
from .paint_hook import PaintHook
from .part_hooks import FederatedFrequencyHook, GeometryWarmupHook
from .part_optim import (
    PartAmpOptimWrapper,
    PartBf16OptimWrapper,
    PartOptimWrapper,
    PartOptimWrapperConstructor,
)
from .proposal_count_hook import ProposalCountHook
from .val_loop import ValLoop

__all__ = [
    'CheckpointGuardHook',
    'CompileHook',
    'FederatedFrequencyHook',
    'ForeachEMA',
    'GeometryWarmupHook',
    'IterationSeedHook',
    'LedgerHook',
    'MultiSeedTestLoop',
    'OriginHook',
    'PaintHook',
    'PartAmpOptimWrapper',
    'PartBf16OptimWrapper',
    'PartOptimWrapper',
    'PartOptimWrapperConstructor',
    'ProposalCountHook',
    'ValLoop',
    'WholeFSDPStrategy',
    'load_checkpoint_file',
]
