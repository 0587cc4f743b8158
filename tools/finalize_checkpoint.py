"""Make a checkpoint that can be given away.

    python tools/finalize_checkpoint.py SRC DST [--ema]

Keeps the weights, the config, the train seed and the hash of a teacher; drops
the states of optimiser, schedulers and hooks. DST ends in .pth or
.safetensors; DST.sha256 is written beside it, in the form of sha256sum. The
weights are those that are tested: where mmengine's EMAHook was at work, their
average; --ema refuses a checkpoint without one.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict

import safetensors.torch
import torch
from torch import Tensor

from mmdiffdet.engine import load_checkpoint_file
from mmdiffdet.engine.checkpoint import check_finite
from mmdiffdet.ledger import sha256_of_file
from mmdiffdet.utils import atomic_path

_KEPT = (
    'cfg',
    'seed',
    'teacher',
    'iter',
    'dataset_meta',
    'experiment_name',
    'time',
    'mmengine_version',
    'exp_name',
)


def weights_of(checkpoint: Dict[str, Any], ema: bool) -> Dict[str, Tensor]:
    """The model's weights.

    EMAHook saves the average as ``state_dict`` and the weights of the last
    iteration, from which a training goes on, as ``ema_state_dict``.

    Raises:
        ValueError: If an average is wanted and there is none.
    """
    if ema and 'ema_state_dict' not in checkpoint:
        raise ValueError(
            'has no averaged weights: train with '
            "custom_hooks=[dict(type='EMAHook')], or leave out "
            '--ema'
        )
    return checkpoint.get('state_dict', checkpoint)


def finalize(src: Path, dst: Path, ema: bool = False) -> str:
    """Write ``dst`` and its hash file; gives the hash.

    Raises:
        FileNotFoundError: If ``src`` does not exist.
        ValueError: If it cannot be read or ``dst`` has another ending.
    """
    if dst.suffix not in ('.pth', '.safetensors'):
        raise ValueError(f'must end in .pth or .safetensors, got {dst}')
    checkpoint = load_checkpoint_file(src)
    weights = {k: v.contiguous() for k, v in weights_of(checkpoint, ema).items()}
    check_finite(weights, src)
    meta = {k: v for k, v in (checkpoint.get('meta') or {}).items() if k in _KEPT}
    meta['weights'] = 'ema' if 'ema_state_dict' in checkpoint else 'last'
    meta.setdefault('exp_name', f'{src.resolve().parent.name}@{src.stem}')
    dst.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(dst) as path:
        if dst.suffix == '.pth':
            torch.save(dict(meta=meta, state_dict=weights), path)
        else:
            safetensors.torch.save_file(weights, path, metadata=dict(meta=json.dumps(meta)))
    digest = sha256_of_file(dst)
    with atomic_path(Path(f'{dst}.sha256')) as path:
        path.write_text(f'{digest}  {dst.name}\n')
    return digest


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', type=Path)
    parser.add_argument('dst', type=Path)
    parser.add_argument('--ema', action='store_true', help='refuse if there is no average')
    args = parser.parse_args()
    try:
        digest = finalize(args.src, args.dst, args.ema)
    except (FileNotFoundError, ValueError) as error:
        print(f'{args.src}: {error}', file=sys.stderr)
        return 1
    print(f'wrote {args.dst}, SHA-256 {digest}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
