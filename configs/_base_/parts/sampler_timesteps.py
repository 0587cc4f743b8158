# Trained at the timesteps that the sampler visits alone: one, pure noise, for one step
part = dict(model=dict(train_cfg=dict(timesteps='sampling')))
