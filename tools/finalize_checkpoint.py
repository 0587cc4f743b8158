"""Make a checkpoint that can be given away.

    python tools/finalize_checkpoint.py SRC [DST] [--ema] [--config CONFIG]
        [--pipeline FOLDER]

Keeps the weights, the config, the class names, the train seed and the hash of
a teacher; drops the states of optimiser, schedulers and hooks. DST ends in .pth or
.safetensors; DST.sha256 is written beside it, in the form of sha256sum. The
weights are those that are tested: where mmengine's EMAHook was at work, their
average; --ema refuses a checkpoint without one.

--config stores that config, for a checkpoint that carries none, as a converted
one. --pipeline writes a folder for DiffusionDetPipeline.from_pretrained.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional

from mmdiffdet.command import make_parser, run_command

if TYPE_CHECKING:
    from torch import Tensor

# what is kept of the checkpoint's ``meta``
_KEPT = ('cfg', 'seed', 'teacher', 'iter', 'dataset_meta', 'experiment_name', 'time')
_KEPT += ('mmengine_version', 'exp_name')


def weights_of(checkpoint: Dict[str, Any], ema: bool, src: Path) -> 'Dict[str, Tensor]':
    """The model's weights; ValueError if an average is wanted and there is none.

    EMAHook saves the average as ``state_dict`` and the weights of the last
    iteration, from which a training goes on, as ``ema_state_dict``.
    """
    if ema and 'ema_state_dict' not in checkpoint:
        raise ValueError(
            f'{src} has no averaged weights: train with '
            "custom_hooks=[dict(type='EMAHook')], or leave out --ema"
        )
    return checkpoint.get('state_dict', checkpoint)


def finalize(src: Path, dst: Path, ema: bool = False, config: Optional[str] = None) -> str:
    """Write ``dst`` (``.pth`` or ``.safetensors``) and its hash file; returns the hash.

    ``ema`` requires averaged weights; ``config`` is a config file to store in place of the
    checkpoint's. ValueError if ``src`` cannot be read or is not of ``config``.
    """
    import safetensors.torch
    import torch

    from mmdiffdet.config.file import read_config
    from mmdiffdet.engine.checkpoint import check_finite, load_checkpoint_file
    from mmdiffdet.ledger import sha256_of_file
    from mmdiffdet.pipelines import DiffusionDetPipeline
    from mmdiffdet.utils import atomic_path

    if dst.suffix not in ('.pth', '.safetensors'):
        raise ValueError(f'must end in .pth or .safetensors, got {dst}')
    checkpoint = load_checkpoint_file(src)
    weights = {k: v.contiguous() for k, v in weights_of(checkpoint, ema, src).items()}
    check_finite(weights, src)
    meta = {k: v for k, v in (checkpoint.get('meta') or {}).items() if k in _KEPT}
    meta['weights'] = 'ema' if 'ema_state_dict' in checkpoint else 'last'
    meta.setdefault('exp_name', f'{src.resolve().parent.name}@{src.stem}')
    if config is not None:
        cfg = read_config(config)
        pipe = DiffusionDetPipeline.from_single_file(src, cfg)  # they fit
        meta.update(cfg=cfg.pretty_text, dataset_meta=dict(classes=tuple(pipe.classes)))
    sums = Path(f'{dst}.sha256')
    dst.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(dst) as path:
        if dst.suffix == '.pth':
            with open(path, 'wb') as file:  # a path would be written into it
                torch.save(dict(meta=meta, state_dict=weights), file)
        else:
            safetensors.torch.save_file(weights, path, metadata=dict(meta=json.dumps(meta)))
        digest = sha256_of_file(path)
        sums.unlink(missing_ok=True)  # never that of another file, if this is killed
    with atomic_path(sums) as path:
        path.write_text(f'{digest}  {dst.name}\n')
    return digest


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('src', type=Path)
    parser.add_argument('dst', type=Path, nargs='?', help='ends in .pth or .safetensors')
    parser.add_argument('--ema', action='store_true', help='refuse if there is no average')
    parser.add_argument('--config', help='of a checkpoint that carries none; it is executed')
    parser.add_argument('--pipeline', type=Path, metavar='FOLDER', help='write a pipeline, too')
    args = parser.parse_args()
    if args.dst is None and args.pipeline is None:
        parser.error('give DST, --pipeline FOLDER or both')
    from mmdiffdet.engine import load_checkpoint_file
    from mmdiffdet.pipelines import DiffusionDetPipeline

    if args.dst is not None:
        digest = finalize(args.src, args.dst, args.ema, args.config)
        print(f'wrote {args.dst}, SHA-256 {digest}')
    if args.pipeline is not None:
        weights_of(load_checkpoint_file(args.src), args.ema, args.src)
        pipe = DiffusionDetPipeline.from_single_file(args.src, args.config)
        pipe.save_pretrained(args.pipeline)
        print(f'wrote {args.pipeline}, for DiffusionDetPipeline.from_pretrained')


if __name__ == '__main__':
    run_command(main)
