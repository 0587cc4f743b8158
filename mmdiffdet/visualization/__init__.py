"""Pictures of what sampling does, and of what it finds."""

from .detections import DetectionPainter
from .trajectory import plot_trajectory, record_trajectory
from .trajectory_data import trajectory_data

__all__ = ['DetectionPainter', 'plot_trajectory', 'record_trajectory', 'trajectory_data']
