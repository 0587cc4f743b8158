"""How fast, against MMDetection's way of computing the same numbers, the baseline."""

from .curves import Point, curve_variants, plot_curves, points_of
from .detectors import build_pair, check_detector, head_parts
from .measure import (
    Way,
    count_flops,
    interleave,
    interleave_parts,
    matrix_peak,
    peak_memory,
)
from .report import Measurement, render
from .work import (
    baseline_testing,
    decoding_way,
    demo_batch,
    image_way,
    inference_parts,
    pinned,
    sampling_variants,
    testing,
    training_way,
)

__all__ = [
    'Measurement',
    'Point',
    'Way',
    'baseline_testing',
    'build_pair',
    'check_detector',
    'count_flops',
    'curve_variants',
    'decoding_way',
    'demo_batch',
    'pinned',
    'head_parts',
    'image_way',
    'inference_parts',
    'interleave',
    'interleave_parts',
    'matrix_peak',
    'peak_memory',
    'plot_curves',
    'points_of',
    'render',
    'sampling_variants',
    'testing',
    'training_way',
]
