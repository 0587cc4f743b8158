import gc
import os

import pytest
import torch
import yapf.yapflib.yapf_api

# before any test module imports MMDetection, see mmdiffdet/ops_finder.py
import mmdiffdet  # noqa: F401

# tiny models gain nothing from threads, and lose much on a busy machine
torch.set_num_threads(1)
os.environ['OMP_NUM_THREADS'] = '1'  # and so do the commands that they start
# a runner lays out its config several times, which takes longer than training
yapf.yapflib.yapf_api.FormatCode = lambda text, **_: (text, True)


def pytest_collection_finish() -> None:
    """MMEngine's data sets collect garbage when they are built: not in all that is imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
