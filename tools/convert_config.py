"""Convert a training config of the Detectron2 system (Detectron2 YAML) to ours.

    python tools/convert_config.py CONFIG.yaml OUT.py

_BASE_ files are followed. What has no counterpart is listed here and at the
top of OUT.py; nothing is dropped silently.
"""

import argparse
import sys
from pathlib import Path

from mmdiffdet.convert.detectron2_config import convert_config, dump, read_yaml
from mmdiffdet.utils import atomic_path, printable


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', type=Path)
    parser.add_argument('dst', type=Path)
    args = parser.parse_args()
    if args.dst.suffix != '.py':
        parser.error(f'{args.dst}: a config file ends in .py')
    try:
        result = convert_config(read_yaml(args.src), args.dst)
        text = dump(result, args.src)
    except (FileNotFoundError, ValueError) as error:
        print(f'{args.src}: {error}', file=sys.stderr)
        return 1
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
    sys.exit(main())
