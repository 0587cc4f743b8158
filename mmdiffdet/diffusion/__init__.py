"""The diffusion processes; nothing here knows a network."""

from .box_codec import BoxCodec
from .box_schedulers import (
    DDIMScheduler,
    build_box_scheduler,
    training_scheduler,
)
from .corruption import NoisyProposals, corrupt
from .ensemble import StepEnsemble
from .flow import FlowMatchEulerDiscreteScheduler
from .guidance import QualityGuidance
from .label_scheduler import D3PMScheduler
from .noise import PerImageNoise, make_generator, side_generator, stable_seed
from .prediction import Prediction
from .renewal import BoxRenewal
from .sampling import DiffusionSampler, SamplingStep, SamplingVariant, sample
from .time_schedule import TimeSchedule

__all__ = [
    'BoxCodec',
    'BoxRenewal',
    'D3PMScheduler',
    'DDIMScheduler',
    'DiffusionSampler',
    'FlowMatchEulerDiscreteScheduler',
    'NoisyProposals',
    'PerImageNoise',
    'Prediction',
    'QualityGuidance',
    'SamplingStep',
    'SamplingVariant',
    'StepEnsemble',
    'TimeSchedule',
    'build_box_scheduler',
    'corrupt',
    'make_generator',
    'sample',
    'side_generator',
    'stable_seed',
    'training_scheduler',
]
