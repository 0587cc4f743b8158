"""What the command lines of predicting and exporting share."""

from pathlib import Path
from typing import Optional

import torch

from ..diffusion.box_schedulers import build_box_scheduler
from ..engine.require_checkpoint import require_checkpoint
from .detection_pipeline import DiffusionDetPipeline


def load_pipeline(
    checkpoint: str, config: Optional[str], scheduler: Optional[str], what: str
) -> DiffusionDetPipeline:
    """The pipeline that a command line names.

    ``checkpoint`` is a file, perhaps with a ``config`` file, or a pipeline's folder;
    ``scheduler`` the class name of another scheduler, whose arguments are those of
    the config; ``what`` the pipeline is for is named in an error.
    """
    if Path(checkpoint).is_dir():
        if config is not None:
            raise ValueError(f'{checkpoint} is a pipeline: it has a config, leave out {config}')
        pipe = DiffusionDetPipeline.from_pretrained(checkpoint)
    else:
        require_checkpoint(checkpoint, what)
        pipe = DiffusionDetPipeline.from_single_file(checkpoint, config)
    if scheduler is not None:
        cfg = pipe.model.config.model['sampler']['scheduler']
        pipe.scheduler = build_box_scheduler(dict(cfg, type=scheduler))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def choose_device(name: Optional[str] = None) -> torch.device:
    """The device of a name such as ``cuda:1``; by default a GPU if there is one.

    ValueError if PyTorch knows no such device, or has none.
    """
    if name is None:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = torch.cuda.device_count()
        raise ValueError(
            f'--device {name}: {str(error).splitlines()[0]} '
            f'(PyTorch {torch.__version__} sees {there} GPUs; --device cpu works everywhere)'
        ) from error
    return device
