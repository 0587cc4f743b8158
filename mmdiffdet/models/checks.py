"""Options of a detector, and whether its pieces go together."""

from typing import TYPE_CHECKING, Dict, Optional

from torch import Tensor

from ..diffusion.flow import NOISE_PAIRINGS
from ..diffusion.timesteps import TRAINING_TIMESTEPS, check_shift
from .interaction import NoInteraction
from .parts import LabelEmbedding
from .postprocess import check_nms

if TYPE_CHECKING:
    from .detector import DiffusionDet

_TRAIN_CFG = dict(num_proposals=500, timesteps='all', noise_pairing='random')
_TEST_CFG = dict(
    num_proposals=500,
    eval_seed=0,
    images_per_pass=1,
    quality_power=0.0,
    nms=dict(type='nms', iou_threshold=0.5),
    score_thr=0.0,
    max_per_img=-1,
)


def complete_train_cfg(cfg: Optional[dict]) -> dict:
    """``model.train_cfg`` with its defaults; ValueError for an unknown key."""
    return _complete('train_cfg', cfg, _TRAIN_CFG)


def complete_test_cfg(cfg: Optional[dict]) -> dict:
    """``model.test_cfg`` with its defaults; ValueError for an unknown key."""
    return _complete('test_cfg', cfg, _TEST_CFG)


def _complete(name: str, cfg: Optional[dict], defaults: dict) -> dict:
    unknown = sorted(set(cfg or ()) - set(defaults))
    if unknown:
        raise ValueError(f'model.{name} has unknown keys {unknown}; known are {sorted(defaults)}')
    return {**defaults, **(cfg or {})}


def check_pieces(detector: 'DiffusionDet') -> None:
    """Check values of the config, and what pieces need of each other.

    Args:
        detector (DiffusionDet): Built as far as its pieces.

    Raises:
        ValueError: Names the key of the config, and the way out.
    """
    check_nms(detector.test_cfg['nms'])
    for key, known in (('timesteps', TRAINING_TIMESTEPS), ('noise_pairing', NOISE_PAIRINGS)):
        if detector.train_cfg[key] not in known:
            raise ValueError(
                f'model.train_cfg.{key} must be one of {list(known)}, '
                f'got {detector.train_cfg[key]!r}'
            )
    check_shift(detector.train_cfg['timesteps'], detector.sampler.scheduler)
    if detector.test_cfg['images_per_pass'] < 1:
        raise ValueError(
            'model.test_cfg.images_per_pass must be at least '
            f'1, got {detector.test_cfg["images_per_pass"]}'
        )
    stages = len(detector.bbox_head.head_series)
    per_step = detector.sampler.stages_per_step or [stages]
    if max(per_step) > stages:
        raise ValueError(
            f'model.sampler.stages_per_step has {max(per_step)}, model.bbox_head has {stages} '
            'stages'
        )
    if detector.sampler.repeated_stages > min(per_step):
        raise ValueError(
            f'model.sampler.repeated_stages is {detector.sampler.repeated_stages}, a step has '
            f'{min(per_step)} stages; choose from 0 to that'
        )
    power = detector.test_cfg['quality_power']
    if power < 0:
        raise ValueError(f'model.test_cfg.quality_power must be >= 0, got {power}')
    for key, used in (
        ('criterion.loss_quality', detector.criterion.loss_quality is not None),
        ('sampler.guidance', detector.sampler.guidance is not None),
        ('test_cfg.quality_power', power > 0),
    ):
        if used and detector.bbox_head.output_part('quality') is None:
            raise ValueError(
                f"model.{key} needs dict(type='QualityHead') in model.bbox_head.stage.output_parts"
            )
    total = detector.sampler.scheduler.config.num_train_timesteps
    others = (
        [detector.label_scheduler.config.num_train_timesteps] if detector.label_scheduler else []
    )
    for module in detector.bbox_head.modules():
        for owner in (module, getattr(module, 'schedule', None)):
            others.append(getattr(owner, 'num_train_timesteps', total))
    if set(others) - {total}:
        raise ValueError(
            'num_train_timesteps of model.sampler.scheduler is '
            f'{total}, elsewhere (label_scheduler, parts, schedules) '
            f'{sorted(set(others) - {total})}; they must be the same'
        )
    embeds = any(isinstance(m, LabelEmbedding) for m in detector.bbox_head.modules())
    if embeds != (detector.label_scheduler is not None):
        raise ValueError(
            'LabelEmbedding in model.bbox_head.stage.feature_parts and '
            'model.label_scheduler need each other; only '
            f'{"the former" if embeds else "the latter"} is configured'
        )
    if detector.criterion.needs_attention and any(
        isinstance(m, NoInteraction) for m in detector.bbox_head.modules()
    ):
        raise ValueError(
            'model.criterion.loss_topology needs attention weights: set '
            "model.bbox_head.stage.interaction.type='SelfAttention'"
        )


def check_finite(total: Tensor, losses: Dict[str, Tensor]) -> None:
    """Raise FloatingPointError if the sum of the losses is not finite.

    Args:
        total (Tensor): The sum.
        losses (dict[str, Tensor]): By name, those that are not finite are
            named.
    """
    if total.isfinite():
        return
    bad = [k for k, v in losses.items() if not v.isfinite().all()]
    raise FloatingPointError(
        f'{", ".join(bad)}: not finite. Weights were not updated. '
        'Lower optim_wrapper.optimizer.lr, lengthen the warm-up or '
        'set optim_wrapper.clip_grad, then go on with --resume from '
        'the last checkpoint'
    )
