"""Errors in one line that names what was wrong.

Imports only the standard library, so that a command line can tell of errors in
importing anything else.
"""

import ast
import difflib
import re
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, Iterable, List, NamedTuple, Optional

from .paths import PACKAGE, TOOLS
from .utils import printable

_WORKER = re.compile(r'Caught (\w+) in DataLoader worker process \d+\.\n(Original )?Traceback.*\n')
_FILE = re.compile(r'^  File "(.+)", line (\d+), in (\S+)\n(?:    (.*)\n)?', re.MULTILINE)
# base class of a part of a run -> where the config has it
_OWNERS = {
    'BaseMetric': 'metric {} (test_evaluator or val_evaluator of the config)',
    'Hook': '{} (default_hooks or custom_hooks of the config)',
    **dict.fromkeys(
        ('Optimizer', 'OptimWrapper', '_ParamScheduler'),
        '{} (optim_wrapper or param_scheduler of the config)',
    ),
}
# packages that an option of a config asks for -> how to do without
_OPTIONAL = {
    'tensorboard': 'or take TensorboardVisBackend out of visualizer.vis_backends',
    'wandb': 'or take WandbVisBackend out of visualizer.vis_backends',
}

_LESS_MEMORY = (
    'What needs less: train_dataloader.batch_size, --amp, model.backbone.with_cp=True or --part '
    'fsdp in training, model.test_cfg.images_per_pass=1 in tests, fewer num_proposals (of '
    'model.train_cfg, model.test_cfg), and --batch-sizes or --size of the benchmark'
)


class _Call(NamedTuple):
    """A line of a traceback; ``frame`` is None in another process."""

    file: str
    line: int
    source: str
    frame: Optional[FrameType] = None


def one_line(error: BaseException) -> str:
    """What a user needs to know of an error: mostly one line, without control characters.

    An error that this package raises is its message, which names the file, key or
    value. For others the line has the type, and what was being done: which part of the
    config was built, which step of a pipeline ran on which image, or which metric,
    hook or layer it was.
    """
    calls = [
        _Call(entry.filename, entry.lineno or 0, entry.line or '', frame)
        for entry, (frame, _) in zip(
            traceback.extract_tb(error.__traceback__), traceback.walk_tb(error.__traceback__)
        )
    ]
    kind, message = type(error).__name__, _message(error)
    found = _WORKER.search(message)
    if found:  # its traceback came as text
        kind = found[1]
        text = message[found.end() :]
        frames = list(_FILE.finditer(text))
        rest = text[frames[-1].end() :] if frames else text
        message = re.sub(r'^[\s^~]*', '', rest).strip()
        message = message.removeprefix(f'{kind}: ')
        calls += [_Call(m[1], int(m[2]), m[4] or '') for m in frames]
    message = _clean(message) or kind
    if calls and _is_ours(calls[-1].file) and calls[-1].source.lstrip().startswith('raise'):
        return message
    missing = _missing_package(error)
    if missing:
        return missing
    if kind == 'OutOfMemoryError' or 'CUDA out of memory' in message:
        return f'{message.splitlines()[0]} {_LESS_MEMORY}'
    place = _place(calls)
    better = _better(message, calls)
    if better:
        return f'{place}: {better}' if place else better
    if not place and isinstance(error, OSError) and error.filename and error.strerror:
        return f'{printable(str(error.filename))}: {error.strerror}'
    if not place:
        place = 'unexpected error'
        if calls:
            place += f' at {Path(calls[-1].file).name}:{calls[-1].line}'
    return f'{place}: {kind}: {message}'


def nearest(name: str, known: Iterable[str], likeness: float = 0.7) -> str:
    """``; did you mean 'x'?``, or nothing if no name is near."""
    found = difflib.get_close_matches(str(name), [str(k) for k in known], 1, likeness)
    return f'; did you mean {found[0]!r}?' if found else ''


def _message(error: BaseException) -> str:
    if isinstance(error, KeyError) and len(error.args) == 1:
        return str(error.args[0])  # its str() is a repr
    return str(error)


def _clean(message: str) -> str:
    lines = [printable(line.rstrip()) for line in message.strip().splitlines()]
    return '\n'.join(line for line in lines if line)[:2000]


def _is_ours(file: str) -> bool:
    path = Path(file).resolve()
    return any(path.is_relative_to(folder) for folder in (PACKAGE, TOOLS))


def _missing_package(error: BaseException) -> str:
    found: Optional[BaseException] = error
    while found is not None:
        name = getattr(found, 'name', None)
        if isinstance(found, ImportError):
            text = str(found)
            for package, way in _OPTIONAL.items():
                if package in (name or '') or package in text.lower():
                    return f'{package} is not installed: pip install {package}, {way}'
            if isinstance(found, ModuleNotFoundError):
                return f'the package {name} is not installed: {text}'
        found = found.__cause__ or found.__context__
    return ''


def _better(message: str, calls: List[_Call]) -> str:
    """A message about a mistake in a config, with the nearest name that there is."""
    built = next((c.frame for c in reversed(calls) if _builds(c)), None)
    if built is None:
        return ''
    values = built.f_locals
    found = re.search(r"got an unexpected keyword argument '(\w+)'", message)
    if found and calls[-1].frame is built:
        from inspect import signature

        try:
            known = list(signature(values['obj_cls']).parameters)
        except (KeyError, TypeError, ValueError):
            known = []
        near = nearest(found[1], known) or '? The docstring of the class has its options'
        return f'{message}. Is it misspelt in the config, or in --cfg-options{near}'
    kind = values.get('obj_type')
    if isinstance(kind, str) and 'registry' in message and values.get('obj_cls') is None:
        registry, names = values['registry'], []
        while registry is not None:
            names += list(registry.module_dict)
            registry = registry.parent
        return f'there is no {values["registry"].name} {kind!r}{nearest(kind, names)}'
    return ''


def _builds(call: _Call) -> bool:
    return (
        call.frame is not None
        and call.frame.f_code.co_name == 'build_from_cfg'
        and Path(call.file).name == 'build_functions.py'
    )


def _place(calls: List[_Call]) -> str:
    """The innermost thing that was being done, as the config calls it."""
    running = ''
    for call in reversed(calls):
        if call.frame is None:  # in a data loader's worker
            step = _class_at(call.file, call.line)
            if step and '/transforms/' in Path(call.file).as_posix():
                running = running or f'step {step} of a data pipeline'
        elif _builds(call):
            part = _part_of_config(call.frame.f_locals.get('cfg'), calls)
            # a layer is known by the part that was to be built
            return f'{part}, {running}' if running and ' of the model' not in running else part
        else:
            running = running or _running(call.frame, calls)
    return running


def _running(frame: FrameType, calls: List[_Call]) -> str:
    """What the owner of a method is, if it is a part of a run."""
    owner = frame.f_locals.get('self')
    bases = {base.__name__ for base in type(owner).__mro__}
    name = type(owner).__name__
    if 'BaseTransform' in bases:
        results = frame.f_locals.get('results')
        image = results.get('img_path', '') if isinstance(results, dict) else ''
        return f'step {name} of a data pipeline' + (f', image {image}' if image else '')
    if 'BaseDataset' in bases:
        return f'{name} of {getattr(owner, "ann_file", "")}'
    if 'Module' in bases and not bases & {'DataParallel', 'BaseDetector'}:
        return _layer(owner, calls)
    return next((text.format(name) for base, text in _OWNERS.items() if base in bases), '')


def _part_of_config(built: Any, calls: List[_Call]) -> str:
    kind = built.get('type', '') if isinstance(built, dict) else repr(built)
    kind = kind if isinstance(kind, str) else getattr(kind, '__name__', repr(kind))
    configs = [call.frame.f_locals.get('cfg') for call in calls if call.frame]
    for config in configs:
        path = _find(config._cfg_dict, built) if type(config).__name__ == 'Config' else ''
        if path:
            return f'{path} ({kind}) of the config'
    return f'{kind} of the config'


def _find(root: Any, wanted: Any, path: str = '') -> str:
    """The path of the first equal part."""
    items = enumerate(root) if isinstance(root, (list, tuple)) else ()
    for key, value in root.items() if isinstance(root, dict) else items:
        here = f'{path}.{key}' if path else str(key)
        same = isinstance(value, (dict, list)) and value == wanted
        found = here if same else _find(value, wanted, here)
        if found:
            return found
    return ''


def _layer(module: Any, calls: List[_Call]) -> str:
    for call in calls:
        owner = call.frame and call.frame.f_locals.get('self')
        if hasattr(owner, 'named_modules') and owner is not module:
            for name, inner in owner.named_modules():
                if inner is module and name:
                    return f'model.{name} ({type(module).__name__}) of the model'
    return f'{type(module).__name__} of the model'


def _class_at(file: str, line: int) -> str:
    """The class that a line of a file is in."""
    try:
        tree = ast.parse(Path(file).read_text())
    except (OSError, SyntaxError, ValueError):
        return ''
    found = ''
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.lineno <= line <= (node.end_lineno or 0):
            found = node.name
    return found
