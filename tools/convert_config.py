"""Convert a training config of the Detectron2 system (Detectron2 YAML) to ours.

    python tools/convert_config.py CONFIG.yaml OUT.py

_BASE_ files are followed. What has no counterpart is listed here and at the
top of OUT.py; nothing is dropped silently.
"""

from pathlib import Path

from mmdiffdet.command import make_parser, run_command
from mmdiffdet.utils import atomic_path, printable


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument('src', type=Path)
    parser.add_argument('dst', type=Path)
    args = parser.parse_args()
    if args.dst.suffix != '.py':
        parser.error(f'{args.dst}: a config file ends in .py')
    from mmdiffdet.convert.detectron2_config import convert_config, dump
    from mmdiffdet.convert.detectron2_yaml import read_yaml

    try:
        result = convert_config(read_yaml(args.src), args.dst)
        text = dump(result, args.src)
    except ValueError as error:
        if str(args.src) in str(error):
            raise
        raise ValueError(f'{args.src}: {error}') from error
    args.dst.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(args.dst) as path:
        path.write_text(text)
    for name, why in sorted(result.unknown.items()):
        print(printable(f'not converted: {name} ({why})'))
    for note in result.notes:
        print(printable(f'to do: {note}'))
    print(f'wrote {args.dst}')
    return 0


if __name__ == '__main__':
    run_command(main)
