"""Compose the demo data set from photographs that PyPI packages ship.

    python tools/dataset_converters/compose_demo.py [DST] [--seed 0]

Coins and a cup of coffee cut out of scikit-image's photographs and scikit-
learn's handwritten digits are pasted, turned, scaled and recoloured, onto
crops of other photographs. Validation images show coins, digits and parts of
backgrounds that training images do not. The result is in COCO format:
DST/{train,val}/*.jpg and DST/{train,val}.json.
"""

import json
from pathlib import Path
from typing import Dict, List, Tuple

import cv2
import numpy as np

from mmdiffdet.command import make_parser, run_command
from mmdiffdet.utils import atomic_folder

CLASSES = ('coin', 'cup', 'digit')
WIDTH, HEIGHT = 320, 240
NUM_IMAGES = dict(train=240, val=60)
BACKGROUNDS = ('astronaut', 'brick', 'chelsea', 'grass', 'gravel', 'hubble_deep_field', 'moon')
BACKGROUNDS += ('retina', 'rocket')
# sides of objects in pixels, by class
SIDES = dict(coin=(28, 90), cup=(60, 150), digit=(28, 90))
MAX_HIDDEN = 0.25  # largest share of an object that another one covers
# an image's share that training crops its background from; validation uses
# the rest
TRAIN_SHARE = 0.6

# an object: RGB (h, w, 3) in 0..255 and its coverage (h, w) in 0..1
CutOut = Tuple[np.ndarray, np.ndarray]


def cut_coins() -> List[CutOut]:
    """The coins of scikit-image's photograph, by watershed."""
    from scipy import ndimage
    from skimage import data, filters, measure, segmentation

    image = data.coins()
    markers = np.zeros(image.shape, int)
    markers[image < 30] = 1
    markers[image > 150] = 2
    regions = segmentation.watershed(filters.sobel(image), markers) == 2
    labels = measure.label(ndimage.binary_fill_holes(regions))
    coins = []
    for region in measure.regionprops(labels):
        if region.area < 300:
            continue
        rows, cols = region.slice
        gray = image[rows, cols].astype(np.float32)
        metal = np.array([1.0, 0.85, 0.55])
        coins.append((gray[..., None] * metal, region.image_convex.astype(np.float32)))
    return coins


def cut_cup() -> CutOut:
    """The saucer with its cup: an ellipse of the photograph."""
    from skimage import data

    image = data.coffee().astype(np.float32)
    coverage = np.zeros(image.shape[:2], np.float32)
    cv2.ellipse(coverage, (293, 205), (183, 150), 0, 0, 360, 1, -1)
    rows, cols = np.nonzero(coverage)
    box = np.s_[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    return image[box], coverage[box]


def cut_digits() -> List[CutOut]:
    """Handwritten digits as ink coverage; the ink's colour is set later."""
    from sklearn.datasets import load_digits

    digits = []
    for image in load_digits().images.astype(np.float32):
        ink = cv2.resize(image / 16, (64, 64), interpolation=cv2.INTER_CUBIC)
        ink = np.clip(ink * 1.6 - 0.3, 0, 1)
        digits.append((np.full((64, 64, 3), 255, np.float32), ink))
    return digits


def split(items: list, part: str) -> list:
    """Every third item is for validation."""
    return [x for i, x in enumerate(items) if (i % 3 == 2) == (part == 'val')]


def crop_background(photo: np.ndarray, part: str, rng: np.random.Generator) -> np.ndarray:
    """A (HEIGHT, WIDTH, 3) crop from the part's share of a photograph."""
    border = int(photo.shape[1] * TRAIN_SHARE)
    photo = photo[:, :border] if part == 'train' else photo[:, border:]
    height, width = photo.shape[:2]
    scale = rng.uniform(0.5, 1.0) * min(height / HEIGHT, width / WIDTH)
    h, w = int(HEIGHT * scale), int(WIDTH * scale)
    y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
    photo = photo[y : y + h, x : x + w].astype(np.float32)
    crop = cv2.resize(photo, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return crop * rng.uniform(0.6, 1.1, size=3)


def transform(cut_out: CutOut, name: str, side: float, rng: np.random.Generator) -> CutOut:
    """Turn, scale, recolour; trim to the visible part."""
    image, coverage = cut_out
    image = image * rng.uniform(*((0, 1) if name == 'digit' else (0.75, 1.2)), size=3)
    angle = rng.uniform(-20, 20) if name == 'digit' else rng.uniform(0, 360)
    height, width = coverage.shape
    factor = side / max(height, width)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, factor)
    size = int(np.ceil(1.5 * side))
    matrix[:, 2] += size / 2 - np.array([width, height]) / 2
    image = cv2.warpAffine(image.astype(np.float32), matrix, (size, size), flags=cv2.INTER_AREA)
    coverage = cv2.warpAffine(coverage, matrix, (size, size))
    rows, cols = np.nonzero(coverage > 0.3)
    box = np.s_[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    return image[box], np.clip(coverage[box], 0, 1)


def overlaps(box: np.ndarray, others: List[np.ndarray]) -> bool:
    """Whether a box (x, y, w, h) hides much of another or the reverse."""
    for other in others:
        end = np.minimum(box[:2] + box[2:], other[:2] + other[2:])
        sides = end - np.maximum(box[:2], other[:2])
        common = np.prod(np.maximum(sides, 0))
        if common > MAX_HIDDEN * min(box[2:].prod(), other[2:].prod()):
            return True
    return False


def compose(
    background: np.ndarray, objects: Dict[str, List[CutOut]], rng: np.random.Generator
) -> Tuple[np.ndarray, List[dict]]:
    """Paste 2 to 7 objects; returns the image and COCO annotations."""
    canvas = background.copy()
    boxes: List[np.ndarray] = []
    annotations = []
    for _ in range(rng.integers(2, 8)):
        label = rng.choice(3, p=(0.4, 0.2, 0.4))
        name = CLASSES[label]
        source = objects[name][rng.integers(len(objects[name]))]
        image, coverage = transform(source, name, rng.uniform(*SIDES[name]), rng)
        h, w = coverage.shape
        if h >= HEIGHT or w >= WIDTH:
            continue
        x, y = rng.integers(WIDTH - w), rng.integers(HEIGHT - h)
        box = np.array([x, y, w, h], dtype=float)
        if overlaps(box, boxes):
            continue
        place = canvas[y : y + h, x : x + w]
        if name == 'digit':  # ink must differ from what it is written on
            ink = image.max((0, 1))
            paper = place.mean((0, 1))
            if abs(ink.mean() - paper.mean()) < 70:
                image[:] = 255 if paper.mean() < 128 else 10
        place += coverage[..., None] * (image - place)
        boxes.append(box)
        annotations.append(
            dict(category_id=int(label) + 1, bbox=box.tolist(), area=float(w * h), iscrowd=0)
        )
    noise = rng.normal(0, 4, canvas.shape)
    return np.clip(canvas + noise, 0, 255).astype(np.uint8), annotations


def write_part(
    part: str,
    photos: List[np.ndarray],
    objects: Dict[str, List[CutOut]],
    folder: Path,
    rng: np.random.Generator,
) -> None:
    """Write one part's images and annotations."""
    (folder / part).mkdir()
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    coco = dict(images=[], annotations=[], categories=categories)
    for image_id in range(NUM_IMAGES[part]):
        photo = photos[rng.integers(len(photos))]
        image, annotations = compose(crop_background(photo, part, rng), objects, rng)
        file_name = f'{image_id:04d}.jpg'
        path = str(folder / part / file_name)
        cv2.imwrite(path, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        coco['images'].append(dict(id=image_id, file_name=file_name, width=WIDTH, height=HEIGHT))
        for number, annotation in enumerate(annotations, len(coco['annotations']) + 1):
            coco['annotations'].append(dict(annotation, id=number, image_id=image_id))
    (folder / f'{part}.json').write_text(json.dumps(coco))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('dst', nargs='?', type=Path, default=Path('data/demo'))
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    if args.dst.exists():
        print(f'{args.dst} is there')
        return
    from skimage import color, data

    coins, cup, digits = cut_coins(), cut_cup(), cut_digits()
    photos = []
    for name in BACKGROUNDS:
        photo = getattr(data, name)()
        photos.append(photo if photo.ndim == 3 else color.gray2rgb(photo))
    args.dst.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(args.dst) as folder:
        for i, part in enumerate(NUM_IMAGES):
            objects = dict(coin=split(coins, part), cup=[cup], digit=split(digits, part))
            write_part(part, photos, objects, folder, np.random.default_rng([args.seed, i]))
    print(f'wrote {NUM_IMAGES} images to {args.dst}')


if __name__ == '__main__':
    run_command(main)
