"""The one place where randomness enters.

Testing draws from one generator an image, so that a result depends on
(eval_seed, image id) and on nothing else. Training draws from torch's global
generator; modules that can be switched on draw from :func:`side_generator`,
so that switching them on moves nobody else's draws.
"""

import hashlib
from typing import Callable, Sequence

import torch
from torch import Tensor


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from the text of ``parts``, the same on every machine."""
    text = '/'.join(str(part) for part in parts)
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], 'big') >> 1


def make_generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded with :func:`stable_seed` of ``parts``.

    It stays on the CPU for GPU models too: draws are then the same on both.
    """
    return torch.Generator().manual_seed(stable_seed(*parts))


def side_generator(name: str) -> torch.Generator:
    """A generator that follows the global one without advancing it.

    It is seeded from ``name`` and the value that the global CPU generator
    would give next. No state of its own has to be saved: a run that is resumed
    with the global state has this one too. Where CUDA is in use, the draws of a
    training advance the generator of the GPU alone, so how far that one has
    come counts too; asking it waits for nothing.
    """
    with torch.random.fork_rng(devices=[]):
        peek = torch.randint(2**62, ()).item()
    if not torch.cuda.is_initialized():
        return make_generator(name, peek)
    cuda = torch.cuda.default_generators[torch.cuda.current_device()]
    return make_generator(name, peek, cuda.initial_seed(), cuda.get_offset())


def hashed_uniform(seed: int, count: int, device: torch.device | str) -> Tensor:
    """(count,) numbers in (0, 1) that are the same on every device.

    They are made where they are needed, with nothing copied there: the
    finaliser of SplitMix64 (Steele et al., 'Fast splittable pseudorandom
    number generators', 2014, fig. 17) of ``seed`` and their index.

    Args:
        seed (int): From 0 to 2**63 - 1.
        count (int): How many.
        device (torch.device | str): Where.
    """
    x = torch.arange(1, count + 1, device=device) * -0x61C8864680B583EB + seed
    x = (x ^ (x >> 30 & 2**34 - 1)) * -0x40A7B892E31B1A47
    x = (x ^ (x >> 27 & 2**37 - 1)) * -0x6B2FB644ECCEEE15
    x = x ^ (x >> 31 & 2**33 - 1)
    # 23 bits and a half are exact in float32, and never 0 or 1
    return ((x >> 41 & 2**23 - 1).float() + 0.5) / 2**23


class PerImageNoise:
    """Standard normal noise with one generator an image.

    Args:
        generators (Sequence[torch.Generator]): One for each row of what is
            drawn.
        device (torch.device | str): Where the noise is put. It is drawn on
            the generators' device.
    """

    def __init__(
        self, generators: Sequence[torch.Generator], device: torch.device | str = 'cpu'
    ) -> None:
        self.generators = list(generators)
        self.device = torch.device(device)

    @classmethod
    def from_seed(
        cls, eval_seed: int, image_ids: Sequence[object], device: torch.device | str = 'cpu'
    ) -> 'PerImageNoise':
        """One generator for each image id, seeded from (eval_seed, id)."""
        return cls([make_generator(eval_seed, i) for i in image_ids], device)

    def __call__(self, *shape: int) -> Tensor:
        """Draw (B, ``*shape``) float32, image i's row from its generator."""
        return self._draw(torch.randn, shape)

    def spawn(self, name: str) -> 'PerImageNoise':
        """Independent generators for ``name``; these do not advance."""
        return PerImageNoise(
            [make_generator(name, g.initial_seed()) for g in self.generators], self.device
        )

    def rand(self, *shape: int) -> Tensor:
        """Draw (B, ``*shape``) uniform on [0, 1), one generator an image."""
        return self._draw(torch.rand, shape)

    def _draw(self, distribution: Callable[..., Tensor], shape: Sequence[int]) -> Tensor:
        """Draw where the generators are; one copy for all images."""
        rows = [
            distribution(shape, generator=g, device=g.device, dtype=torch.float32)
            for g in self.generators
        ]
        return torch.stack(rows).to(self.device, non_blocking=True)
