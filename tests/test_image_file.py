"""Images as people have them, on their way to the network."""

import os
import warnings
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image
from tiny import runner_config, write_coco

from mmdiffdet.datasets import LoadImageFromFile, image_file
from mmdiffdet.datasets.image_file import (
    CUT,
    DEEP,
    OF_HEADER,
    BadImage,
    ImageCounter,
    WrongSize,
    count_image,
    header_size,
    read_image,
    to_8_bits,
)
from mmdiffdet.registry import DATASETS


@pytest.fixture
def picture():
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


@pytest.fixture(autouse=True)
def _uncounted():
    count_image.seen.clear()


@pytest.mark.parametrize('cut', [1, 2, 20, 200, 0.4])
def test_a_cut_jpeg_is_used(cut, picture, tmp_path):
    path = tmp_path / 'a.jpg'
    cv2.imwrite(str(path), cv2.resize(picture, (320, 240)))
    whole, notes = read_image(str(path))
    assert notes == ()
    content = path.read_bytes()
    lost = cut if isinstance(cut, int) else int(len(content) * cut)
    path.write_bytes(content[:-lost])
    found, notes = read_image(str(path))
    assert notes == (CUT,)
    assert found.shape == whole.shape
    assert np.abs(found[:8].astype(int) - whole[:8]).mean() < 2


@pytest.mark.parametrize('content', [b'', b'<html>404</html>', b'\xff\xd8\xff\xe0', b'BM' * 9])
def test_what_nothing_can_decode(content, tmp_path):
    path = tmp_path / 'a.jpg'
    path.write_bytes(content)
    with pytest.raises(BadImage, match='a.jpg cannot be decoded .*on_bad_image'):
        read_image(str(path))
    with pytest.raises(BadImage, match='a.jpg cannot be decoded'):
        header_size(str(path))


def test_only_a_header_is_no_image(picture, tmp_path):
    path = tmp_path / 'a.ppm'
    cv2.imwrite(str(path), picture)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(BadImage, match='nothing of it is there'):
        read_image(str(path))


@pytest.mark.parametrize('side', [9000, 65000])
def test_a_header_does_not_fill_the_memory(side, picture, tmp_path):
    """A few flipped bytes make a photograph of 81 million pixels, or more."""
    path = tmp_path / 'a.jpg'
    cv2.imwrite(str(path), picture)
    content = bytearray(path.read_bytes())
    place = content.index(b'\xff\xc0') + 5
    content[place : place + 4] = side.to_bytes(2, 'big') * 2
    path.write_bytes(content)
    with pytest.raises(BadImage, match='a.jpg'), patch('cv2.imdecode') as decode:
        read_image(str(path), (48, 64))
    decode.assert_not_called()


@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir], ids=['fifo', 'folder'])
def test_special_files_are_not_waited_for(make, tmp_path):
    make(tmp_path / 'a.jpg')
    for read in (read_image, header_size):
        with pytest.raises(BadImage, match='a.jpg is a .*not a file'):
            read(str(tmp_path / 'a.jpg'))
    with pytest.raises(FileNotFoundError, match='nowhere.jpg does not exist'):
        read_image(str(tmp_path / 'nowhere.jpg'))


@pytest.mark.parametrize('suffix', ['png', 'tif'])
@pytest.mark.parametrize('bits', [8, 9, 10, 12, 14, 16])
def test_16_bits_are_not_black(bits, suffix, tmp_path):
    gray = np.linspace(0, 2**bits - 1, 48 * 64).astype(np.uint16).reshape(48, 64)
    path = tmp_path / f'a.{suffix}'
    cv2.imwrite(str(path), gray)
    image, notes = read_image(str(path))
    assert notes == (DEEP,)
    assert image.dtype == np.uint8 and image.shape == (48, 64, 3)
    assert image.max() == (255 if bits != 9 else 127)
    # all 16 bits as ever
    if bits == 16:
        assert (image[..., 0] == gray >> 8).all()
    assert to_8_bits(np.zeros((2, 2), np.uint16)).max() == 0


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
@pytest.mark.parametrize('suffix', ['.png', '.webp', '.tif'])
def test_exif(orientation, suffix, picture, tmp_path):
    """Upright, unless the annotations are of the file as it is stored."""
    path = str(tmp_path / f'a{suffix}')
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = dict(lossless=True) if suffix == '.webp' else {}
    Image.fromarray(picture[..., ::-1]).save(path, exif=exif, **lossless)
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    upright = np.rot90(picture, turns)
    image, notes = read_image(path)
    assert (image == upright).all() and notes == ()
    assert header_size(path) == image.shape[1::-1]
    if suffix == '.tif' and turns % 2:  # OpenCV turns it in any case
        with pytest.raises(WrongSize):
            read_image(path, (48, 64))
        return
    image, notes = read_image(path, (48, 64))
    if turns % 2:
        assert (image == picture).all() and notes == (OF_HEADER,)
    else:
        assert (image == upright).all() and notes == ()
    with pytest.raises(WrongSize, match=r'its annotation says 65x48'):
        read_image(path, (48, 65))


@pytest.mark.parametrize(
    'orientation, turn',
    [
        (2, lambda p: p[:, ::-1]),
        (4, lambda p: p[::-1]),
        (5, lambda p: p.swapaxes(0, 1)),
        (7, lambda p: p.swapaxes(0, 1)[::-1, ::-1]),
    ],
)
def test_exif_of_mirrored_images(orientation, turn, picture, tmp_path):
    path = str(tmp_path / 'a.png')
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture[..., ::-1]).save(path, exif=exif)
    image, notes = read_image(path)
    assert (image == turn(picture)).all() and notes == ()
    assert header_size(path) == image.shape[1::-1]
    image, notes = read_image(path, (48, 64))
    stored = orientation in (5, 7)
    assert (image == (picture if stored else turn(picture))).all()
    assert notes == ((OF_HEADER,) if stored else ())


@pytest.mark.parametrize('limit, ok', [(4 * 64 * 48 - 1, True), (4 * 64 * 48, False)])
def test_a_giant_is_read_if_it_is_annotated_as_one(limit, ok, picture, tmp_path, monkeypatch):
    """64x48 pixels stand for what Pillow takes for an attack; the annotation may be 4 times off."""
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, picture)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    monkeypatch.setattr(image_file, '_GIANT', limit)
    if ok:
        assert (read_image(path, (48, 64))[0] == picture).all()
    else:
        with pytest.raises(BadImage, match='decompression bomb'):
            read_image(path, (48, 64))
    with pytest.raises(BadImage, match='decompression bomb'):
        read_image(path)


@pytest.mark.parametrize(
    'annotated, limit, decoded',
    [
        ((24, 32), 100, True),  # a quarter of its pixels
        ((24, 31), 100, False),
        ((1, 1), 64 * 48, True),
        ((1, 1), 64 * 48 - 1, False),
    ],
)
def test_much_larger_than_annotated_is_not_decoded(
    annotated, limit, decoded, picture, tmp_path, monkeypatch
):
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, picture)
    monkeypatch.setattr(image_file, '_GIANT', limit)
    with patch('cv2.imdecode', wraps=cv2.imdecode) as decode:
        with pytest.raises(WrongSize, match='is 64x48, its annotation says'):
            read_image(path, annotated)
    assert decode.called == decoded


def test_integers_of_more_than_8_bits_of_pillow(tmp_path):
    """Which reads what OpenCV cannot; a float's range is not known."""
    path = tmp_path / 'a.tif'
    Image.fromarray(np.array([[0, 70000], [-5, 300]], np.int32)).save(path)
    image, notes = image_file._with_pillow(path.read_bytes(), 'a.tif', False)
    assert notes == () and image.dtype == np.uint16 and image.shape == (2, 2, 3)
    assert image[..., 0].tolist() == [[0, 65535], [0, 300]] == image[..., 2].tolist()
    floats = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    Image.fromarray(floats).save(path)
    with pytest.raises(BadImage, match='pixels that are not integers'):
        image_file._with_pillow(path.read_bytes(), 'a.tif', False)
    cv2.imwrite(str(path), np.dstack([floats] * 3))
    with pytest.raises(BadImage, match='a.tif has pixels of float32'):
        read_image(str(path))


def test_an_image_that_is_loaded(picture, tmp_path):
    """As it is, in what comes after a bad image; as floats where a pipeline asks for them."""
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, picture)
    found = LoadImageFromFile(to_float32=True)(dict(img_path=path, height=48, width=64))
    assert found['img'].dtype == np.float32 and (found['img'] == picture).all()
    assert found['img_shape'] == found['ori_shape'] == (48, 64)
    assert LoadImageFromFile()(dict(img_path=path))['img'].dtype == np.uint8
    # without both sides there is nothing to compare with
    assert LoadImageFromFile()(dict(img_path=path, height=9))['img'].shape == (48, 64, 3)
    with pytest.raises(WrongSize):
        LoadImageFromFile()(dict(img_path=path, height=9, width=64))
    other = np.zeros((2, 3, 3), np.uint8)
    found = LoadImageFromFile()(dict(img_path='gone.png', img=other))
    assert found['img'] is other and found['img_shape'] == (2, 3)
    with pytest.raises(FileNotFoundError, match='gone.png'):
        LoadImageFromFile()(dict(img_path='gone.png'))
    assert LoadImageFromFile(ignore_empty=True)(dict(img_path='gone.png')) is None


def test_images_are_counted():
    counter = ImageCounter()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        for i in range(120):
            counter('bad image', f'{i}.jpg')
            counter('bad image', f'{i}.jpg')
    assert [str(w.message).split('(')[1] for w in told] == [
        f'number {n} in this process)' for n in (1, 2, 3, 10, 100)
    ]


def dataset_with(path, tmp_path, **options):
    """A data set whose image 3 is ``path``'s content."""
    root = write_coco(tmp_path / 'data')
    if path is None:
        (root / 'images/3.png').unlink()
    else:
        (root / 'images/3.png').write_bytes(path)
    cfg = runner_config(root, tmp_path).train_dataloader.dataset
    cfg.update(options)
    init_default_scope('mmdiffdet')
    return DATASETS.build(cfg)


@pytest.mark.parametrize('content', [b'no image', None], ids=['bad', 'missing'])
def test_a_bad_image_is_skipped_or_stops(content, tmp_path):
    with pytest.raises((BadImage, FileNotFoundError), match='3.png'):
        dataset_with(content, tmp_path / 'stop')[3]
    dataset = dataset_with(content, tmp_path / 'train', on_bad_image='skip')
    with pytest.warns(UserWarning, match='bad image, another in its place: .*3.png'):
        sample = dataset[3]
    assert not sample['data_samples'].img_path.endswith('3.png')
    dataset = dataset_with(content, tmp_path / 'test', on_bad_image='skip', test_mode=True)
    with pytest.warns(UserWarning, match='bad image, a grey one in its place: .*3.png'):
        sample = dataset[3]
    assert sample['data_samples'].img_path.endswith('3.png')
    assert (sample['inputs'] == 128).all() and sample['inputs'].shape == (3, 48, 64)


def test_all_images_bad(tmp_path):
    dataset = dataset_with(b'', tmp_path, on_bad_image='skip', max_refetch=3)
    for i in range(6):
        (tmp_path / f'data/images/{i}.png').write_bytes(b'')
    with pytest.raises(ValueError, match='of 4 images drawn, none could be read'):
        dataset[0]
    with pytest.raises(ValueError, match="must be 'stop' or 'skip', got 'go'"):
        dataset_with(b'', tmp_path / 'x', on_bad_image='go')


def test_other_readers_of_mmcv(picture, tmp_path):
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, picture)
    image = LoadImageFromFile(imdecode_backend='pillow')(dict(img_path=path))['img']
    assert (image == picture).all()
    gray = LoadImageFromFile(color_type='grayscale', to_float32=True)(dict(img_path=path))['img']
    assert gray.shape[:2] == (48, 64) and gray.dtype == np.float32
    (tmp_path / 'a.png').write_bytes(b'')
    with pytest.raises(BadImage, match='cannot be decoded'):
        LoadImageFromFile(imdecode_backend='pillow')(dict(img_path=path))
    assert LoadImageFromFile(ignore_empty=True)(dict(img_path=path)) is None
