# The control of distillation, which the reference's notes lack: as many iterations from
# the same start without a teacher
_base_ = '../warmstart/warmstart.py'
load_from = 'work_dirs/warmstart_seed{{$TRAIN_SEED:0}}/iter_2500.pth'
