# D3PM of labels: in testing the head sees the distribution of a label, in training ids
# drawn from it; ids in both with
# --cfg-options model.label_scheduler.use_distribution=False
part = dict(
    model=dict(
        label_scheduler=dict(type='D3PMScheduler', kernel='mask'),
        bbox_head=dict(stage=dict(feature_parts=[dict(type='LabelEmbedding')])),
    )
)
