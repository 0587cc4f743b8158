# Noise that is distributed as the training set's boxes are; any process
part = dict(model=dict(box_codec=dict(noise_mean='from_file')))
