"""The study of few sampling steps: what is trained, tested and compared."""

from typing import Dict, List, Sequence

# each is the data set's config with what it is called by: a file, or parts
_METHODS = (
    '',
    '+sampler_timesteps',
    '+prior',
    '+flow',
    '+flow_prior',
    '+flow_transport',
    '_warmstart',
    '_no_teacher',
    '_20to1',
    '_consistency_model',
    '_set_teacher',
)
_FEW_LABELS = ('_few_labels', '_few_labels_no_teacher', '_few_labels_set_teacher')
_DATA = ('bccd', 'pcb')
TRAININGS: Dict[str, str] = {
    f'{data}{method}': f'{data}/{data}{method}'
    for data in _DATA
    for method in (*_METHODS, *(_FEW_LABELS if data == 'bccd' else ()))
}

STEPS = ('1', '2', '4', '8', '20')
PROPOSALS = ('25', '50', '100', '200')
# better use of one step, of the baselines and the controls
_ONE_STEP = (
    'test_cfg.num_proposals=400',
    'test_cfg.num_proposals=800',
    'sampler.repeated_stages=1',
    'sampler.repeated_stages=2',
    'sampler.repeated_stages=4',
    'test_cfg.nms.iou_threshold=0.4',
    'test_cfg.nms.iou_threshold=0.6',
    'test_cfg.nms.iou_threshold=0.7',
    'box_codec.noise_mean=from_file',
)
# each method and what it is built on, or its control
_PAIRS = (
    ('', '+sampler_timesteps'),
    ('', '+prior'),
    ('', '+flow'),
    ('', '+flow_prior'),
    ('', '+flow_transport'),
    ('_no_teacher', '_20to1'),
    ('_no_teacher', '_consistency_model'),
    ('_no_teacher', '_set_teacher'),
    ('_few_labels_no_teacher', '_few_labels_set_teacher'),
)


def tests(training: str) -> List[List[str]]:
    """Arguments of ``tools/test.py``, a list a test, that a call may add to.

    Args:
        training (str): A key of :data:`TRAININGS`.
    """
    ways = [(f'test_cfg.num_proposals={number}', STEPS) for number in PROPOSALS]
    if training in _DATA or training.endswith('_no_teacher'):
        ways += [(option, ('1',)) for option in _ONE_STEP]
    found = []
    for option, steps in ways:
        key, _, value = option.partition('=')
        name = f'{training}+{key.split(".")[-1]}={value}'
        found.append(['--exp-name', name, '--steps', *steps, '--cfg-options', f'model.{option}'])
    return found


def comparisons(trainings: Sequence[str], steps: Sequence[str] = STEPS) -> List[List[str]]:
    """What the result page compares: labels of A and B, and the field that is studied.

    Each method is held against its control, or what it is built on, at the fewest
    steps, and flow matching at 25 proposals too, for which FlowDet claims most. No
    more, as every pair makes the verdict on the others harder (Holm).

    Args:
        trainings (Sequence[str]): Keys of :data:`TRAININGS` that were tested.
        steps (Sequence[str]): That they were tested at.
    """
    step = min(steps, key=int)
    pairs = []
    for data in _DATA:
        for control, method in _PAIRS:
            if {data + control, data + method} <= set(trainings):
                across = ['scheduler'] if method.startswith('+flow') else []
                for number in ('100', '25') if method == '+flow' else ('100',):
                    end = f'+num_proposals={number}@sample_step={step}'
                    pairs.append([data + control + end, data + method + end, *across])
    return pairs
