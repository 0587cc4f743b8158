"""Whether the pieces of a detector go together."""

from typing import TYPE_CHECKING

from .interaction import NoInteraction
from .parts import LabelEmbedding
from .postprocess import check_nms

if TYPE_CHECKING:
    from .detector import DiffusionDet


def check_pieces(detector: 'DiffusionDet') -> None:
    """Check values of the config, and what pieces need of each other.

    Args:
        detector (DiffusionDet): Built as far as its pieces.

    Raises:
        ValueError: Names the key of the config, and the way out.
    """
    check_nms(detector.test_cfg['nms'])
    if detector.train_cfg['timesteps'] not in ('all', 'sampling'):
        raise ValueError(
            "model.train_cfg.timesteps must be 'all' or "
            f"'sampling', got {detector.train_cfg['timesteps']}"
        )
    if detector.test_cfg['images_per_pass'] < 1:
        raise ValueError(
            'model.test_cfg.images_per_pass must be at least '
            f'1, got {detector.test_cfg["images_per_pass"]}'
        )
    most = max(detector.sampler.stages_per_step or [0])
    if most > len(detector.bbox_head.head_series):
        raise ValueError(
            f'model.sampler.stages_per_step has {most}, model.bbox_head '
            f'has {len(detector.bbox_head.head_series)} stages'
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
