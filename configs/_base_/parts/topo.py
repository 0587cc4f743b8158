# Attention between objects' proposals follows the overlap of the objects
part = dict(model=dict(criterion=dict(loss_topology=dict(type='TopologyLoss'))))
