# A consistency model: the student says at t what its average says a little earlier
_base_ = './no_teacher.py'
custom_hooks = [dict(type='ConsistencyModelHook')]
