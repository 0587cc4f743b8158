"""Run one of the tools from any folder.

    mmdiffdet TOOL [arguments of the tool]
    python -m mmdiffdet TOOL [arguments of the tool]

``mmdiffdet train configs/coco/coco.py`` is ``python tools/train.py ...`` in a
clone. --help after a tool's name tells its arguments.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import Dict

from .paths import TOOLS


def tools() -> Dict[str, Path]:
    """Scripts by name, those for a shell where there is one."""
    endings = ('.py', '.sh') if os.name == 'posix' else ('.py',)
    return {
        path.stem: path
        for path in sorted(TOOLS.rglob('*'))
        if path.suffix in endings and path.stem != 'setup_venv'
    }


def main() -> None:
    """Run the tool that the first argument names, as the main program."""
    found = tools()
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-h', '--help'):
        print(f'{__doc__}\nTools: {", ".join(found)}')
        return
    if name not in found:
        sys.exit(f'mmdiffdet: there is no tool {name!r}; choose from {", ".join(found)}')
    path = str(found[name])
    if path.endswith('.sh'):
        # the scripts call python: the interpreter that runs this
        os.environ['PATH'] = os.pathsep.join(
            [os.path.dirname(sys.executable), os.environ.get('PATH', '')]
        )
        sys.stdout.flush()
        os.execvp('bash', ['bash', path, *sys.argv[2:]])
    sys.argv = [path, *sys.argv[2:]]
    runpy.run_path(path, run_name='__main__')


if __name__ == '__main__':
    main()
