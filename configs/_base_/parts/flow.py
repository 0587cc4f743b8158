# Flow matching (FlowDet, arXiv 2512.16771): straight paths from noise to boxes in
# place of diffusion, Euler steps along them
part = dict(
    model=dict(sampler=dict(scheduler=dict(_delete_=True, type='FlowMatchEulerDiscreteScheduler')))
)
