"""A file recorded by the reference system, and the result of replaying it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List

import torch
from safetensors import safe_open
from torch import Tensor

from ..models.detector import DiffusionDet
from ..registry import MODELS
from .detectron2_model import model_config
from .detectron2_weights import options_of, rename_all


@dataclass
class Golden:
    """A recorded file: its name without ending, its tensors and its metadata."""

    name: str
    tensors: Dict[str, Tensor]
    metadata: Dict[str, str]

    @classmethod
    def load(cls, path: Path) -> 'Golden':
        """Read a safetensors file."""
        with safe_open(path, 'pt') as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            return cls(path.stem, tensors, file.metadata() or {})

    @property
    def kind(self) -> str:
        """What was recorded: the first word of the name."""
        return self.name.split('_')[0]

    def options(self) -> Dict[str, Any]:
        """Detectron2's options in the file, and sizes read from its tensors."""
        options: Dict[str, Any] = dict(NHEADS=4)
        head = self.head_weights()
        if head:
            options.update(options_of(head))
        elif 'in.logits' in self.tensors:
            options['NUM_CLASSES'] = self.tensors['in.logits'].size(-1)
        for key in ('in.boxes', 'in.noise'):
            if key in self.tensors:
                options['NUM_PROPOSALS'] = self.tensors[key].size(-2)
        return {**options, **json.loads(self.metadata.get('knobs', '{}'))}

    def head_weights(self) -> Dict[str, Tensor]:
        """Weights of the head under Detectron2's names."""
        return {k[5:]: v for k, v in self.tensors.items() if k.startswith('head.')}

    def image_sizes(self, batch: int) -> Tensor:
        """(B, 2) height and width of each image, in pixels."""
        sizes = [
            [float(n) for n in size.split(',')] for size in self.metadata['image_hw'].split(';')
        ]
        return torch.tensor(sizes if len(sizes) == batch else sizes * batch)

    def model(self) -> DiffusionDet:
        """The model with the recorded weights of its head, in evaluation mode."""
        config = model_config(self.options())
        if 'guidance' in config['sampler']:
            config['sampler']['guidance']['batch_mean'] = True
        model = MODELS.build(
            dict(config, backbone=dict(type=torch.nn.Identity), neck=dict(type=torch.nn.Identity))
        )
        ours = model.bbox_head.state_dict()
        weights, _ = rename_all(self.head_weights(), ours)
        model.bbox_head.load_state_dict(weights)
        return model.eval()

    def features(self) -> List[Tensor]:
        """(B, d, H, W) feature maps, finest first."""
        count = sum(key.startswith('in.feat') for key in self.tensors)
        return [self.tensors[f'in.feat{i}'] for i in range(count)]


@dataclass
class Report:
    """Largest errors of one replay and the tolerated ones, by what was compared.

    ``problem`` says why a replay was not possible.
    """

    name: str
    errors: Dict[str, float] = field(default_factory=dict)
    tolerances: Dict[str, float] = field(default_factory=dict)
    problem: str = ''

    @property
    def ok(self) -> bool:
        """Whether something was compared and all of it is within tolerance."""
        within = all(error <= self.tolerances[key] for key, error in self.errors.items())
        return bool(self.errors) and not self.problem and within

    def compare(self, what: str, found: Tensor, expected: Tensor, relative_to: float = 1.0) -> None:
        """Add the largest absolute error / ``relative_to``, infinite at NaN or another shape."""
        if found.shape != expected.shape:
            self.errors[what] = torch.inf
            return
        error = (found.double() - expected.double()).abs()
        error = error.nan_to_num(torch.inf).max().item() if len(error.flatten()) else 0.0
        self.errors[what] = max(self.errors.get(what, 0.0), error / relative_to)

    def __str__(self) -> str:
        verdict = self.problem or ('ok' if self.ok else 'MISMATCH')
        errors = ', '.join(f'{k} {v:.1e}' for k, v in self.errors.items())
        return f'{self.name:42s} {errors or "-":52s} {verdict}'
