# Quality focal loss: the target of a matched class is the IoU
part = dict(
    model=dict(
        criterion=dict(
            loss_cls=dict(
                _delete_=True, type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=2.0
            )
        )
    )
)
