import pytest
import torch

# tiny models gain nothing from threads, and lose much on a busy machine
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
