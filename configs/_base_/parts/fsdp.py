# Weights, gradients and the optimiser's states are divided among the processes
# (one unit: parts of the head are called outside of its forward, too)
part = dict(runner_type='FlexibleRunner', strategy=dict(type='WholeFSDPStrategy'))
