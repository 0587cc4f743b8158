"""The viewer of a page, which plays boxes on their way from noise to objects."""

import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Dict, Sequence

_KEYS = dict(
    model={'name', 'classes', 'images'},
    image={'name', 'width', 'height', 'uri', 'way'},
    way={'proposals', 'timesteps', 'boxes', 'scores', 'labels', 'detections'},
)


def viewer_style() -> str:
    """Return the viewer's style sheet."""
    return _resource('viewer.css')


def render_viewer(paths: Sequence[Path]) -> str:
    """Write the part of a page that plays trajectories, models side by side.

    Args:
        paths (Sequence[Path]): Files that ``tools/analysis_tools/plot_trajectory.py``
            wrote, one for each model, with the same images in the same order.

    Returns:
        str: HTML with data and script, which loads nothing from elsewhere.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file is no such file, or is of other classes or images than
            the first one.
    """
    models = [_read(Path(path)) for path in paths]
    first = models[0]
    for path, model in zip(paths, models):
        if model['classes'] != first['classes']:
            raise ValueError(f'{path} has other classes than {paths[0]}')
        if _shown(model) != _shown(first):
            raise ValueError(
                f'{path} has other images than {paths[0]}; give --image-index the same numbers'
            )
    data = dict(
        classes=first['classes'],
        images=[{k: v for k, v in image.items() if k != 'way'} for image in first['images']],
        models=[
            dict(name=model['name'], ways=[image['way'] for image in model['images']])
            for model in models
        ],
    )
    # nothing in the data can end the element that holds them
    text = json.dumps(data, separators=(',', ':')).replace('<', '\\u003c')
    names = ' and '.join(html.escape(model['name']) for model in models)
    return (
        f'<p>{names}: play, or pull the slider. Before a step, boxes are shown as they enter '
        'it, coloured by class if their score comes out above the threshold, white otherwise; '
        'between two steps they are drawn on a straight line. After the last step of a model '
        'its detections are shown: what non-maximum suppression leaves of all its boxes, '
        'with the same score. No box is renewed on the way, and no noise is added.</p>\n'
        '<div id="viewer"><noscript>The viewer needs JavaScript.</noscript></div>\n'
        f'<script type="application/json" id="trajectories">{text}</script>\n'
        f'<script>\n{_resource("viewer.js")}</script>'
    )


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding='utf-8')


def _shown(model: Dict[str, Any]) -> list:
    return [(image['name'], image['uri']) for image in model['images']]


def _read(path: Path) -> Dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist')
    try:
        model = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is no JSON file') from error
    parts = [('model', model)]
    if isinstance(model, dict) and isinstance(model.get('images'), list):
        parts += [('image', image) for image in model['images']]
        parts += [('way', i['way']) for i in model['images'] if isinstance(i, dict) and 'way' in i]
    for kind, part in parts:
        missing = _KEYS[kind] - set(part if isinstance(part, dict) else ())
        if missing:
            raise ValueError(
                f'{path} is no file of plot_trajectory.py: a part has no {sorted(missing)}'
            )
    if not model['images']:
        raise ValueError(f'{path} has no images')
    return model
