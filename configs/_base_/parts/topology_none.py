# Ablation: proposals do not see each other
part = dict(model=dict(bbox_head=dict(stage=dict(interaction=dict(type='NoInteraction')))))
