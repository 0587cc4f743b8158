"""Test-time augmentation: views of an image and their merged detections."""

from typing import List, Sequence

from mmdet.models import DetTTAModel
from mmdet.structures import DetDataSample, SampleList

from ..diffusion.sampling import SamplingVariant
from ..registry import MODELS
from .passes import Measure, unmeasured


@MODELS.register_module()
class DiffusionDetTTA(DetTTAModel):
    """MMDetection's, with noise of its own for each view.

    The first view of the pipeline's ``TestTimeAug`` has the noise of a test
    without augmentation, from (eval seed, image id); the noise of each other
    one comes from (eval seed, image id, its position). A detector that does
    not sample is tested as MMDetection does it.

    Args:
        tta_cfg (dict): ``nms`` over the detections of all views, and
            ``max_per_img``.
        module (dict | nn.Module): The detector.
        kwargs: Of ``BaseTTAModel``.
    """

    def test_step(self, data: dict) -> SampleList:
        """Detections of a batch, as the config samples them."""
        if not hasattr(self.module, 'test_variants'):
            return super().test_step(data)
        return self.test_variants(data, [self.module.default_variant])[0]

    def test_variants(
        self, data: dict, variants: Sequence[SamplingVariant], measure: Measure = unmeasured
    ) -> List[SampleList]:
        """As of ``DiffusionDet``, of views.

        Args:
            data (dict): ``inputs`` and ``data_samples``, each a list of views
                of a list of images.
            variants (Sequence[SamplingVariant]): Ways to sample.
            measure (Callable): See ``DiffusionDet``; the times of the views
                of an image add up. Merging is not measured.

        Returns:
            list[list[DetDataSample]]: By variant, images in their order.

        Raises:
            ValueError: If the data are not views.
        """
        views = data['data_samples']
        if isinstance(views[0], DetDataSample):
            raise ValueError(
                'test-time augmentation: the test pipeline makes no views; '
                'its last transform must be TestTimeAug (tta_pipeline)'
            )
        found = []
        for number, samples in enumerate(views):
            seeded = [_seeded(sample, number) for sample in samples]
            of_view = self.module.test_variants(
                dict(inputs=data['inputs'][number], data_samples=seeded),
                variants,
                lambda name, count: measure(name, count / len(views)),
            )
            for of_variant in of_view:
                for sample, result in zip(samples, of_variant):
                    result.set_metainfo(dict(img_id=sample.img_id))
            found.append(of_view)
        return [self.merge_preds(list(zip(*of_variant))) for of_variant in zip(*found)]


def _seeded(sample: DetDataSample, view: int) -> DetDataSample:
    """A sample whose image id, which seeds the noise, is that of a view."""
    sample = sample.new()
    if view:
        sample.set_metainfo(dict(img_id=f'{sample.img_id}/view {view}'))
    return sample
