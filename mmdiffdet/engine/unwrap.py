"""The detector within MMEngine's model wrappers."""

from typing import Any

from mmengine.model import is_model_wrapper


def unwrap(model: Any) -> Any:
    """The model itself, without DistributedDataParallel or the like."""
    return model.module if is_model_wrapper(model) else model
