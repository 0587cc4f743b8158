# Label state: ids that are masked in the forward process
part = dict(
    label_scheduler=dict(type='D3PMScheduler', kernel='mask', use_distribution=False),
    bbox_head=dict(stage=dict(feature_parts=[dict(type='LabelEmbedding')])),
)
