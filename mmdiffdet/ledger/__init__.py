"""Rows of results, their protocols and statistics; needs no torch."""

from .hashing import sha256_of_config, sha256_of_file
from .ledger import Appended, Ledger
from .protocol import Protocol
from .row import Row, RunKey

__all__ = ['Appended', 'Ledger', 'Protocol', 'Row', 'RunKey', 'sha256_of_config', 'sha256_of_file']
