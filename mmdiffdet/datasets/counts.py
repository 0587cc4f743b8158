"""Count objects and classes of a data set, also within MMEngine's wrappers."""

from typing import Any, Iterator, List

from mmengine.dataset import BaseDataset


def base_datasets(dataset: Any) -> Iterator[BaseDataset]:
    """Data sets within wrappers such as ``ConcatDataset``, each once."""
    if hasattr(dataset, 'datasets'):
        for part in dataset.datasets:
            yield from base_datasets(part)
    elif hasattr(dataset, 'dataset'):
        yield from base_datasets(dataset.dataset)
    else:
        yield dataset


def objects_per_image(dataset: Any) -> List[int]:
    """Number of objects of each image, without those to be ignored."""
    return [
        sum(not instance.get('ignore_flag') for instance in part.get_data_info(index)['instances'])
        for part in base_datasets(dataset)
        for index in range(len(part))
    ]


def images_per_class(dataset: Any, num_classes: int) -> List[int]:
    """Number of images with each class; ValueError if a data set has no ``get_cat_ids``."""
    counts = [0] * num_classes
    for part in base_datasets(dataset):
        for index in range(len(part)):
            try:
                labels = set(part.get_cat_ids(index))
            except (AttributeError, NotImplementedError) as error:
                raise ValueError(
                    f'FederatedFrequencyHook: {type(part).__name__} has no '
                    'get_cat_ids; give class_frequency in the config'
                ) from error
            for label in labels:
                counts[label] += 1
    return counts
