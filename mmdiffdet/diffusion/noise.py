"""The one place where randomness enters.

Testing draws from one generator an image, so that a result depends on
(eval_seed, image id) and on nothing else. Training draws from torch's global
generator; modules that can be switched on draw from :func:`side_generator`,
so that switching them on moves nobody else's draws.
"""
import hashlib
from typing import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from the text of ``parts``, the same on every machine."""
    text = '/'.join(str(part) for part in parts)
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], 'big') >> 1


def make_generator(*parts: object,
                   device: torch.device | str = 'cpu') -> torch.Generator:
    """A generator seeded with :func:`stable_seed` of ``parts``.

    In testing it stays on the CPU for GPU models too: draws are then the same
    on both.
    """
    return torch.Generator(device).manual_seed(stable_seed(*parts))


def side_generator(name: str,
                   device: torch.device | str = 'cpu') -> torch.Generator:
    """A generator that follows the global one without advancing it.

    It is seeded from ``name`` and the value that the global CPU generator
    would give next. No state of its own has to be saved: a run that is resumed
    with the global state has this one too.
    """
    with torch.random.fork_rng(devices=[]):
        peek = torch.randint(2**62, ()).item()
    return make_generator(name, peek, device=device)


class PerImageNoise:
    """Standard normal noise with one generator an image.

    Args:
        generators (Sequence[torch.Generator]): One for each row of what is
            drawn.
        device (torch.device | str): Where the noise is put. It is drawn on
            the generators' device.
    """

    def __init__(self,
                 generators: Sequence[torch.Generator],
                 device: torch.device | str = 'cpu') -> None:
        self.generators = list(generators)
        self.device = torch.device(device)

    @classmethod
    def from_seed(cls,
                  eval_seed: int,
                  image_ids: Sequence[object],
                  device: torch.device | str = 'cpu') -> 'PerImageNoise':
        """One generator for each image id, seeded from (eval_seed, id)."""
        return cls([make_generator(eval_seed, i) for i in image_ids], device)

    def __call__(self, *shape: int) -> Tensor:
        """Draw (B, ``*shape``) float32, image i's row from its generator."""
        return randn_tensor((len(self.generators), *shape),
                            generator=self.generators,
                            device=self.device,
                            dtype=torch.float32)

    def spawn(self, name: str) -> 'PerImageNoise':
        """Independent generators for ``name``; these do not advance."""
        return PerImageNoise(
            [make_generator(name, g.initial_seed()) for g in self.generators],
            self.device)

    def rand(self, *shape: int) -> Tensor:
        """Draw (B, ``*shape``) uniform on [0, 1), one generator an image."""
        return torch.stack([
            torch.rand(shape, generator=g) for g in self.generators
        ]).to(self.device)
