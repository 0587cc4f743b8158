"""Weight names of the seed system's head, and ours."""
import re
from typing import Dict, Iterable, Tuple

from torch import Tensor

# the seed's name of a part's weight -> ours after "<list>_parts."
_PARTS = (
    (r'quality_head\.(\d+)\.', r'quality.mlp.\1.'),
    (r'geo_bias_mlp\.(\d+)\.', r'geometry_bias.mlp.\1.'),
    (r'geo_bias_scale_param$', 'geometry_bias.head_scale'),
    (r'geo_feat_abs\.(\d+)\.', r'geometry_feature.absolute.\1.'),
    (r'geo_feat_abs\.(weight|bias)$', r'geometry_feature.absolute.0.\1'),
    (r'geo_feat_rel_mlp\.(\d+)\.', r'geometry_feature.relative.\1.'),
    (r'geo_feat_alpha_param$', 'geometry_feature.gate'),
    (r'label_state_embed\.', 'label_state.embed.'),
    (r'label_state_proj\.', 'label_state.proj.'),
    (r'label_state_alpha_param$', 'label_state.gate'),
)
_STAGE = re.compile(r'(head_series\.\d+\.)(.*)')


def rename(name: str, ours: Iterable[str]) -> str:
    """Our name of a weight of the seed's head.

    Args:
        name (str): E.g. ``head_series.0.geo_feat_abs.0.weight``.
        ours (Iterable[str]): Names in our head; they tell which list of a
            stage a part stands in.
    """
    stage, rest = _STAGE.match(name).groups() if _STAGE.match(name) else (
        '', name)
    for pattern, replacement in _PARTS:
        tail, found = re.subn('^' + pattern, replacement, rest)
        if found:
            wanted = re.compile(
                re.escape(stage) + r'\w+_parts\.' + re.escape(tail) + '$')
            places = [key for key in ours if wanted.match(key)]
            return places[0] if places else stage + '?.' + tail
    return name


def rename_all(weights: Dict[str, Tensor], ours: Iterable[str]
               ) -> Tuple[Dict[str, Tensor], Dict[str, str]]:
    """Weights under our names, and those that nothing reads, with why.

    Args:
        weights (dict[str, Tensor]): Of the seed's head, under its names.
        ours (Iterable[str]): Names in our head.
    """
    ours = list(ours)
    interacts = any('.self_attn.' in key for key in ours)
    renamed, ignored = {}, {}
    for name, value in weights.items():
        if '.self_attn.' in name and not interacts:
            ignored[name] = 'proposals do not interact'
        else:
            renamed[rename(name, ours)] = value
    return renamed, ignored
