"""Pictures of what sampling does."""

from .trajectory import plot_trajectory, record_trajectory

__all__ = ['plot_trajectory', 'record_trajectory']
