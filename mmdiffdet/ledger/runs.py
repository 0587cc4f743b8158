"""Results as they are read, whoever wrote them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Tuple

from .protocol import Protocol
from .row import Row

Variant = Tuple[Tuple[str, str], ...]


@dataclass(frozen=True)
class Run:
    """One test of one checkpoint. None is what was not recorded.

    Args:
        source (Path): File.
        line (int): Line in it, from 1.
        experiment (str): Name of what it is averaged with.
        exp_name (str, optional): Name of the run's own row.
        variant (tuple): Columns, with their values, that set apart the
            experiments of one table.
        protocol (Protocol): How it was tested.
        train_seed (int, optional): Seed of the training.
        eval_seed (int): Seed of the sampling noise.
        checkpoint (str, optional): Path.
        checkpoint_sha256 (str, optional): Of the file.
        config (str, optional): Path.
        config_sha256 (str, optional): Of the resolved config.
        metrics (dict): AP, AP50, AP75, APs, APm, APl.
        seconds_per_image (float, optional): Inference time.
        device (str, optional): Name of the hardware.
        row (Row, optional): All of it, if a ledger of ours holds it.
    """

    source: Path
    line: int
    experiment: str
    exp_name: Optional[str]
    variant: Variant
    protocol: Protocol
    train_seed: Optional[int]
    eval_seed: int
    checkpoint: Optional[str]
    checkpoint_sha256: Optional[str]
    config: Optional[str]
    config_sha256: Optional[str]
    metrics: Dict[str, Optional[float]]
    seconds_per_image: Optional[float]
    device: Optional[str]
    row: Optional[Row] = None

    @classmethod
    def of_row(cls, row: Row, source: Path, line: int) -> 'Run':
        """The run that a row of ours tells of.

        Args:
            row (Row): It.
            source (Path): File.
            line (int): Line in it, from 1.
        """
        return cls(
            source=source,
            line=line,
            experiment=row.exp_name,
            exp_name=row.exp_name,
            variant=(),
            protocol=row.protocol,
            train_seed=row.train_seed,
            eval_seed=row.eval_seed,
            checkpoint=row.checkpoint,
            checkpoint_sha256=row.checkpoint_sha256,
            config=row.config,
            config_sha256=row.config_sha256,
            metrics=row.metrics,
            seconds_per_image=row.seconds_per_image,
            device=row.device,
            row=row,
        )

    @property
    def where(self) -> str:
        """File and line."""
        return f'{self.source}:{self.line}'


class Stated(NamedTuple):
    """A mean and deviation that a table states without the runs."""

    source: Path
    line: int
    experiment: str
    variant: Variant
    protocol: Protocol
    mean: float
    std: float
    runs_file: str


class Results(NamedTuple):
    """What was read."""

    runs: Tuple[Run, ...]
    stated: Tuple[Stated, ...]
