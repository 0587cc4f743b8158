"""Convert a DiffusionDet checkpoint to ours.

    python tools/convert_checkpoint.py SRC DST [--config CONFIG]

SRC is a checkpoint of Detectron2 DiffusionDet (.pth or .pkl) or of
MMDetection's DiffusionDet project; DST ends in .pth or .safetensors. Without
--config the model is read from the weights (ResNet-FPN; geometry features are
taken to be of mode qk_pos). Nothing is written if a weight is left over or
missing.
"""

import sys
from collections import Counter
from pathlib import Path

from mmdiffdet.command import make_parser, run_command


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument('src', type=Path)
    parser.add_argument('dst', type=Path)
    parser.add_argument('--config', help='the model to convert to')
    args = parser.parse_args()
    if args.dst.suffix not in ('.pth', '.safetensors'):
        parser.error(f'{args.dst}: must end in .pth or .safetensors')
    from mmdiffdet.config.file import read_config
    from mmdiffdet.convert.checkpoint import convert, read_source, save

    # isort: split
    from mmengine.registry import init_default_scope

    model_cfg = None
    if args.config:
        model_cfg = read_config(args.config).model
        model_cfg.backbone.init_cfg = None
        init_default_scope('mmdiffdet')
    try:
        result = convert(read_source(args.src), model_cfg)
    except ValueError as error:
        if str(args.src) in str(error):
            raise
        raise ValueError(f'{args.src}: {error}') from error
    print(f'source: {result.kind}')
    print(f'matched: {len(result.weights)}')
    print(f'ignored: {len(result.ignored)}')
    for why, count in Counter(result.ignored.values()).items():
        names = [k for k, v in result.ignored.items() if v == why]
        print(f'  {count} {why}: {", ".join(names)}')
    for title, names in (
        ('missing', result.missing),
        ('left over', result.left_over),
        ('of another shape', result.reshaped),
    ):
        print(f'{title}: {len(names)}', *names, sep='\n  ')
    if not result.complete:
        print(f'ERROR: {args.src} does not fit; {args.dst} was not written', file=sys.stderr)
        return 1
    save(result, args.dst)
    print(f'wrote {args.dst}')
    return 0


if __name__ == '__main__':
    run_command(main)
