"""DiffusionDet research software on the MMDetection stack."""

from .ops_finder import find_operators
from .version import __version__

__all__ = ['__version__']

# before anything imports MMDetection, in every process that imports this package
find_operators()
