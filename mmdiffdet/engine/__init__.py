"""What trains and tests: checkpoints, hooks, optimiser."""
from .checkpoint import load_checkpoint_file
from .checkpoint_guard_hook import CheckpointGuardHook

__all__ = ['CheckpointGuardHook', 'load_checkpoint_file']
