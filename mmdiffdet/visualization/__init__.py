"""Pictures of detections, and of the boxes of every sampling step."""

from .detections import DetectionPainter
from .trajectory import plot_trajectory, record_trajectory
from .trajectory_data import trajectory_data

__all__ = ['DetectionPainter', 'plot_trajectory', 'record_trajectory', 'trajectory_data']
