# The student's one step learns from the teacher's twenty. A seed's file names
# the teacher, which is also what the student starts from; SamplerDistillHook's
# defaults are the record's "stable" ones.
_base_ = '../warmstart/warmstart.py'
