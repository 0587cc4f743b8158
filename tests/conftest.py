import os

import pytest
import torch

# tiny models gain nothing from threads, and lose much on a busy machine
torch.set_num_threads(1)
os.environ['OMP_NUM_THREADS'] = '1'  # and so do the commands that they start


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
