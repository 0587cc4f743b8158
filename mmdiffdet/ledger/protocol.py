"""The protocol of a test, which two results must share to be averaged."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, Optional, Tuple

NOT_AVAILABLE = 'n/a'
NO_SAMPLER = 'none'
"""``scheduler`` of a detector that does not sample."""


@dataclass(frozen=True)
class Protocol:
    """How a checkpoint was tested.

    The fields are columns of :class:`~mmdiffdet.ledger.Row`. A field is None if it
    was not recorded, or if the scheduler does not have it. Two protocols are equal
    only if every field is; a recorded value never equals one that was not recorded.
    """

    model_family: Optional[str] = None
    dataset: Optional[str] = None
    annotation_sha256: Optional[str] = None
    sample_step: Optional[int] = None
    scheduler: Optional[str] = None
    eta: Optional[float] = None
    precision: Optional[str] = None

    def differs(self, other: 'Protocol') -> Dict[str, Tuple[Any, Any]]:
        """Return the fields that differ, with the value of each side."""
        theirs = asdict(other)
        return {k: (v, theirs[k]) for k, v in asdict(self).items() if v != theirs[k]}

    @property
    def samples(self) -> bool:
        """Whether the detector samples, with steps, scheduler, eta and eval seed."""
        return self.scheduler != NO_SAMPLER

    @property
    def unrecorded(self) -> Tuple[str, ...]:
        """The fields that were not recorded.

        A test records the ``eta`` of each scheduler that takes one, so only tables of
        other systems can lack it, those of DDIM.
        """
        no_eta = self.scheduler is not None and 'ddim' not in self.scheduler.lower()
        return tuple(
            k for k, v in asdict(self).items() if v is None and not (k == 'eta' and no_eta)
        )

    def __str__(self) -> str:
        # enough of a hash to tell two apart
        known = [
            f'{k}={v[:8] if k == "annotation_sha256" else v}'
            for k, v in asdict(self).items()
            if v is not None
        ]
        if self.unrecorded:
            known.append(f'not recorded: {", ".join(self.unrecorded)}')
        return '; '.join(known)


PROTOCOL_FIELDS = tuple(f.name for f in fields(Protocol))
