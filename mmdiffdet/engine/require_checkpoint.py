"""A checkpoint that a config starts from, and the command that makes it."""

import os.path as osp
from pathlib import Path

from ..paths import CONFIGS, command_of, config_name
from .download import check_is_file


def require_checkpoint(path: str, what: str) -> None:
    """Raise FileNotFoundError, with the command that makes it, if missing.

    A training's outputs are in a folder with the name of its config.

    Args:
        path (str): A local path or an address, which is not looked up.
        what (str): What it is for, e.g. ``load_from``.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If it is no path, or a folder, device or pipe.
    """
    if not isinstance(path, str):
        raise ValueError(f'{what} must be the path of a checkpoint, got {path!r}')
    if '://' in path or osp.isfile(path):
        return
    if osp.exists(path):
        check_is_file(Path(path), f'{what}: checkpoint {path}')
    if osp.basename(path) == 'mobilenet_v2_imagenet.safetensors':
        raise FileNotFoundError(
            f'{what}: {path} does not exist. It is made by: '
            f'{command_of("fetch_mobilenet_v2")}; '
            'model.backbone.init_cfg=None trains without it'
        )
    folder = osp.basename(osp.dirname(path))
    plain, _, seed = folder.rpartition('_seed')
    config, *parts = (plain if seed.isdigit() else folder).split('+')
    way = 'Give the path of one that exists'
    # a file for this seed alone, then one that is told its seed
    for name, option in ((folder, ''), (config, f' --train-seed {seed}' if plain else '')):
        files = CONFIGS.rglob(f'{name}.py')
        found = sorted(p for p in files if '_base_' not in p.parts)
        if found and option and any(found[0].parent.glob(f'{name}_seed*.py')):
            way = f'There is no {config_name(found[0].parent)}/{folder}.py that would make it'
            break
        if found:
            put_on = f' --part {" ".join(parts)}' if parts else ''
            way = f'It is made by: {command_of("train")} {config_name(found[0])}{option}{put_on}'
            break
    raise FileNotFoundError(f'{what}: checkpoint {osp.abspath(path)} does not exist. {way}')
