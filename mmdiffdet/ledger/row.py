"""A row of the ledger: one test of one checkpoint with one eval seed."""

import math
import re
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from typing import Any, Dict, NamedTuple, Optional, Sequence, Union, get_args, get_type_hints

from .protocol import NOT_AVAILABLE, PROTOCOL_FIELDS, Protocol

VERSION = 1
"""The version of the columns, which each row of a ledger names."""
METRICS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')
NO_OBJECTS = (-1.0, -100.0)
"""What COCO's evaluation gives where there is no object of a size class."""
FORMULA = '=+-@'
"""The characters that a cell begins with which a spreadsheet executes."""
# also what turns the direction of text, and halves of characters
CONTROL = re.compile('[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')


def parse_metric(value: Union[str, float, None]) -> Optional[float]:
    """Return a metric in percent, or None if it is not available.

    That is an empty cell, ``n/a``, nan or COCO's -1, also times 100.

    Raises:
        ValueError: If the value is not a number from 0 to 100.
    """
    if value is None or value in ('', NOT_AVAILABLE):
        return None
    number = float(value)
    if math.isnan(number) or number in NO_OBJECTS:
        return None
    if not 0 <= number <= 100:
        raise ValueError(f'must be from 0 to 100, got {value}')
    return number


class RunKey(NamedTuple):
    """What two rows of the same test have in common."""

    checkpoint_sha256: str
    config_sha256: str
    protocol: Protocol
    eval_seed: int


@dataclass(frozen=True)
class Row:
    """A row of the ledger. Its fields are the columns, in this order.

    Args:
        exp_name (str): The experiment, which is the same for all of its seeds.
        train_seed (int, optional): The seed of the training, if it is known.
        eval_seed (int): The seed of the sampling noise.
        checkpoint, checkpoint_sha256 (str): Path and SHA-256 of the file.
        config, config_sha256 (str): Path of the config, and SHA-256 of what it says
            of model and test, see :func:`~mmdiffdet.ledger.hashing.sha256_of_test`.
        dataset, annotation_sha256 (str): Name and SHA-256 of the annotations.
        model_family (str): The detector's type, e.g. ``DiffusionDet``.
        sample_step (int): The number of sampling steps.
        scheduler (str): The class name of the sampler's scheduler.
        eta (float, optional): The scheduler's stochasticity, if it has one.
        precision (str): ``fp32``, ``bf16``, ``fp16``, or ``tf32``: float32 whose
            products a GPU computes in TF32.
        AP (float): The average precision in percent, as the other five metrics.
        AP50, AP75 (float, optional): AP at an IoU of 0.5 and 0.75.
        APs, APm, APl (float, optional): AP of small, medium and large objects. It is
            None where there is no such object (COCO's -1).
        seconds_per_image (float, optional): The inference time.
        images_per_second (float, optional): The throughput of all processes.
        device (str): The hardware's own name, by which one knows whether two runs
            must agree to the last digit.
        torch, mmdet, diffusers, mmdiffdet (str): The versions of these packages.
        out_dir (str): The folder with the run's log and ``config.py``.
        time (str): The time in ISO 8601, now by default.
        ledger_version (int): The version of these columns.

    Raises:
        ValueError: If a value is missing, out of its range or not fit for a table.
    """

    exp_name: str
    train_seed: Optional[int]
    eval_seed: int
    checkpoint: str
    checkpoint_sha256: str
    config: str
    config_sha256: str
    dataset: str
    annotation_sha256: str
    model_family: str
    sample_step: int
    scheduler: str
    eta: Optional[float]
    precision: str
    AP: float
    AP50: Optional[float]
    AP75: Optional[float]
    APs: Optional[float]
    APm: Optional[float]
    APl: Optional[float]
    seconds_per_image: Optional[float]
    images_per_second: Optional[float]
    device: str
    torch: str
    mmdet: str
    diffusers: str
    mmdiffdet: str
    out_dir: str
    time: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec='seconds')
    )
    ledger_version: int = VERSION

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            try:
                object.__setattr__(self, name, _checked(name, value))
            except (TypeError, ValueError) as error:
                raise ValueError(f'{name} {error}') from None

    @property
    def protocol(self) -> Protocol:
        """The protocol by which the checkpoint was tested."""
        return Protocol(**{k: getattr(self, k) for k in PROTOCOL_FIELDS})

    @property
    def key(self) -> RunKey:
        """The key that another row of the same test has too."""
        return RunKey(self.checkpoint_sha256, self.config_sha256, self.protocol, self.eval_seed)

    @property
    def metrics(self) -> Dict[str, Optional[float]]:
        """The six metrics in percent, by name."""
        return {name: getattr(self, name) for name in METRICS}

    def cells(self) -> Sequence[str]:
        """Return the text of each column, with numbers to the last digit."""
        return [NOT_AVAILABLE if value is None else str(value) for value in asdict(self).values()]

    @classmethod
    def from_cells(cls, cells: Sequence[str]) -> 'Row':
        """Return the row that :meth:`cells` wrote, perhaps without the version, as in
        older ledgers.

        Raises:
            ValueError: If a cell does not parse.
        """
        return cls(**{k: None if v == NOT_AVAILABLE else v for k, v in zip(COLUMNS, cells)})


def _checked(name: str, value: Any) -> Any:
    """Return the value in its column's type."""
    kind = _TYPES[name]
    if name in METRICS:
        value = parse_metric(value)
    if value is None:
        if name not in _OPTIONAL:
            raise ValueError('is missing')
        return None
    if kind is str:
        if not isinstance(value, str) or value in ('', NOT_AVAILABLE):
            raise ValueError(f'must be text, got {value!r}')
        if CONTROL.search(value):
            raise ValueError(f'must not hold a tab, a line break or a control character: {value!r}')
        if value[0] in FORMULA:
            raise ValueError(
                f'must not begin with {value[0]}, which spreadsheets take for a formula: {value!r}'
            )
        if name.endswith('sha256') and not re.fullmatch('[0-9a-f]{64}', value):
            raise ValueError(f'must be the 64 hexadecimal digits of a SHA-256, got {value!r}')
        if name == 'time':
            datetime.fromisoformat(value)
        return value
    if kind is int and isinstance(value, (float, bool)):
        raise ValueError(f'must be an integer, got {value!r}')
    number = kind(value)
    if name == 'ledger_version' and number != VERSION:
        raise ValueError(
            f'is {number}, this package reads {VERSION}; use the package that wrote it'
        )
    if kind is int and number >= 2**63:
        raise ValueError(f'must be below 2**63, got {value}')
    smallest = 1 if name == 'sample_step' else 0
    if not math.isfinite(number) or number < smallest:
        raise ValueError(f'must be finite and at least {smallest}, got {value}')
    return number


COLUMNS = tuple(f.name for f in fields(Row))
_HINTS = get_type_hints(Row)
_OPTIONAL = {k for k, v in _HINTS.items() if type(None) in get_args(v)}
_TYPES = {k: get_args(v)[0] if k in _OPTIONAL else v for k, v in _HINTS.items()}
