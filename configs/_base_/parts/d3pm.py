# D3PM of labels: the head sees the distribution, samples of it in training; ids
# alone with --cfg-options model.label_scheduler.use_distribution=False
part = dict(
    model=dict(
        label_scheduler=dict(type='D3PMScheduler', kernel='mask'),
        bbox_head=dict(stage=dict(feature_parts=[dict(type='LabelEmbedding')])),
    )
)
