"""DiffusionDet research software on the MMDetection stack."""

from .version import __version__

__all__ = ['__version__']
