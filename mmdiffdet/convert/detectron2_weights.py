"""Weight names of the Detectron2 system's head, and ours."""

import re
from typing import Any, Dict, Iterable, Mapping, Tuple

from torch import Tensor

# Detectron2's name of a part's weight -> ours after "<list>_parts."
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
    """Our name of a weight of Detectron2's head, e.g. ``head_series.0.geo_feat_abs.0.weight``.

    The names in our head, ``ours``, tell which list of a stage has the part.
    """
    stage, rest = _STAGE.match(name).groups() if _STAGE.match(name) else ('', name)
    for pattern, replacement in _PARTS:
        tail, found = re.subn('^' + pattern, replacement, rest)
        if found:
            wanted = re.compile(re.escape(stage) + r'\w+_parts\.' + re.escape(tail) + '$')
            places = [key for key in ours if wanted.match(key)]
            return places[0] if places else stage + '?.' + tail
    return name


def rename_all(
    weights: Dict[str, Tensor], ours: Iterable[str]
) -> Tuple[Dict[str, Tensor], Dict[str, str]]:
    """Weights of Detectron2's head under our names, and those that nothing reads.

    The latter come with the reason. ``ours`` are the names in our head.
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


def options_of(weights: Mapping[str, Tensor]) -> Dict[str, Any]:
    """The options of Detectron2 that the weights of its head show.

    These are the parts that there are, and all sizes but the number of attention
    heads, which only ``geo_bias_scale_param`` shows. ValueError if the weights are
    not those of a DiffusionDet head.
    """
    stages = {int(k.split('.')[1]) for k in weights if _STAGE.match(k)}
    shapes = {
        k.split('.', 2)[2]: tuple(v.shape)
        for k, v in weights.items()
        if k.startswith('head_series.0.')
    }
    try:
        num_classes, channels = shapes['class_logits.weight']
        options: Dict[str, Any] = dict(
            NUM_CLASSES=num_classes,
            HIDDEN_DIM=channels,
            NUM_HEADS=1 + max(stages),
            DIM_FEEDFORWARD=shapes['linear1.weight'][0],
            DIM_DYNAMIC=shapes['inst_interact.norm1.weight'][0],
            NUM_CLS=sum(bool(re.match(r'cls_module\.\d+\.bias', k)) for k in shapes),
            NUM_REG=sum(bool(re.match(r'reg_module\.\d+\.bias', k)) for k in shapes),
        )
    except (KeyError, ValueError) as error:
        raise ValueError(f'not the weights of a DiffusionDet head: {error}') from error

    options['DISABLE_SELF_ATTN'] = 'self_attn.in_proj_weight' not in shapes
    options['LABEL_STATE'] = 'label_state_embed.weight' in shapes
    hidden = shapes.get('quality_head.0.weight')
    if hidden:
        # inputs: features, 4 of the box, and t if it is included
        options.update(
            QUALITY_HEAD=True,
            QUALITY_HEAD_HIDDEN_DIM=hidden[0],
            QUALITY_HEAD_INCLUDE_T=hidden[1] == channels + 5,
        )
    hidden = shapes.get('geo_bias_mlp.0.weight')
    if hidden:
        options.update(
            GEO_BIAS=True,
            GEO_BIAS_TYPE='mlp',
            GEO_BIAS_HIDDEN_DIM=hidden[0],
            GEO_BIAS_REL_INCLUDE_IOU=hidden[1] == 5,
        )
    if 'geo_bias_scale_param' in shapes:
        options.update(
            GEO_BIAS=True, GEO_BIAS_LEARNABLE_SCALE=True, NHEADS=shapes['geo_bias_scale_param'][0]
        )
    hidden = shapes.get('geo_feat_abs.0.weight')
    if hidden:
        options.update(GEO_FEAT=True, GEO_FEAT_HIDDEN_DIM=hidden[0])
    elif 'geo_feat_abs.weight' in shapes:
        options.update(GEO_FEAT=True, GEO_FEAT_ENCODER='linear')
    hidden = shapes.get('geo_feat_rel_mlp.0.weight')
    if hidden:
        options.update(
            GEO_FEAT_REL=True,
            GEO_FEAT_HIDDEN_DIM=hidden[0],
            GEO_FEAT_REL_INCLUDE_IOU=hidden[1] == 5,
        )
    return options
