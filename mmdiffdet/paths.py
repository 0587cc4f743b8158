"""Where this package's configs and tools are, in a clone and installed.

``.mim`` is the folder in which MMEngine looks for a package's configs
(``_base_ = 'mmdiffdet::coco/coco.py'``). In a clone it has links to the folders
at the top; an installed package has copies.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    linked = PACKAGE / '.mim' / name
    # a clone on Windows has text files in place of links
    return (linked if linked.is_dir() else PACKAGE.parent / name).resolve()


CONFIGS = _folder('configs')
TOOLS = _folder('tools')


def command_of(tool: str) -> str:
    """The command that starts a tool, in a clone or installed."""
    if TOOLS.parent == PACKAGE.parent:
        return f'python tools/{tool}.py'
    return f'mmdiffdet {tool}'


def config_name(path: Path) -> str:
    """A path below :data:`CONFIGS` as the command line takes it."""
    return f'configs/{path.relative_to(CONFIGS).as_posix()}'
