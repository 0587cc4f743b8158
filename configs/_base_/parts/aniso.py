# More noise in the sides of boxes than in their centres
part = dict(model=dict(box_codec=dict(noise_sigma=(1.0, 1.0, 1.5, 1.5))))
