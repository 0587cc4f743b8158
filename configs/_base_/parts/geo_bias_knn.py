# Sparse attention: each proposal and its 50 nearest, with no other bias
part = dict(
    model=dict(
        bbox_head=dict(
            stage=dict(
                attention_parts=[dict(type='GeometryBias', mode='distance', scale=0.0, topk=50)]
            )
        )
    )
)
