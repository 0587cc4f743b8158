"""A small model in the Detectron2 system's terms, for tests of the conversion and goldens."""

SIZES = dict(
    NUM_CLASSES=3,
    NUM_PROPOSALS=12,
    HIDDEN_DIM=16,
    NUM_HEADS=2,
    NHEADS=4,
    DIM_FEEDFORWARD=32,
    DIM_DYNAMIC=8,
)
_TO_DETECTRON2 = (
    ('output_parts.quality.mlp.', 'quality_head.'),
    ('attention_parts.geometry_bias.mlp.', 'geo_bias_mlp.'),
    ('attention_parts.geometry_bias.head_scale', 'geo_bias_scale_param'),
    ('position_parts.geometry_feature.absolute.', 'geo_feat_abs.'),
    ('position_parts.geometry_feature.relative.', 'geo_feat_rel_mlp.'),
    ('position_parts.geometry_feature.gate', 'geo_feat_alpha_param'),
    ('feature_parts.label_state.embed.', 'label_state_embed.'),
    ('feature_parts.label_state.proj.', 'label_state_proj.'),
    ('feature_parts.label_state.gate', 'label_state_alpha_param'),
)


def detectron2_name(name: str) -> str:
    """The Detectron2 system's name of one of our head's weights."""
    for ours, theirs in _TO_DETECTRON2:
        name = name.replace(ours, theirs)
    return name
