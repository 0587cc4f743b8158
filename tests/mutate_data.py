"""Spoil small data sets in many ways, and see how reading them ends.

    python tests/mutate_data.py [--count 500] [--seed 0] [--formats coco voc ...]

A mutant is good if it is read (``ok``), read with a counted warning (``warning``), or
refused in one line that names the file, the key or the value (``named``). It is bad if
it ends in another exception (``traceback``), an error that names nothing
(``unnamed``), objects that get lost without a word (``silent``), no end (``hang``), or
if tools/check_dataset.py says something else than training and testing do
(``unchecked``). Exit code 1 if there is a bad one.
"""

import argparse
import copy
import json
import random
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
from five_formats import WRITERS, write  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from spoil_data import mutate  # noqa: E402

import mmdiffdet.engine  # noqa: E402, F401 before MMDetection, and fills the registries
from mmdiffdet.datasets.check_config import check_config  # noqa: E402
from mmdiffdet.datasets.from_file import use_classes_of_file  # noqa: E402
from mmdiffdet.datasets.image_file import count_image  # noqa: E402
from mmdiffdet.evaluation.rehearsal import rehearse  # noqa: E402
from mmdiffdet.registry import DATASETS  # noqa: E402

GOOD = ('ok', 'warning', 'named')
BAD = ('traceback', 'unnamed', 'silent', 'hang', 'unchecked')
SECONDS = 20


@dataclass
class Outcome:
    """How a mutant ended.

    Args:
        kind (str): One of :data:`GOOD` or :data:`BAD`.
        what (str): What was done to it.
        text (str): Error, or first warning.
    """

    kind: str
    what: str
    text: str = ''


def listed(root: Path, kind: str) -> int:
    """Objects that the files list, as far as they can be told."""
    try:
        if kind in ('coco', 'lvis'):
            return len(json.loads((root / 'train.json').read_bytes())['annotations'])
        if kind == 'odgt':
            lines = (root / 'train.odgt').read_bytes().decode('utf-8-sig').splitlines()
            return sum(len(json.loads(line)['gtboxes']) for line in lines if line.strip())
        if kind == 'voc':
            names = (root / 'ImageSets/Main/train.txt').read_text().split()
            files = [root / f'Annotations/{name}.xml' for name in names]
            return sum(path.read_text().count('<object>') for path in files)
        files = (root / 'labels/train').glob('*.txt')
        return sum(len(p.read_text().split('\n')) - p.read_text().count('\n\n') - 1 for p in files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


class Hang(BaseException):
    """Nothing came of it in time."""


@contextmanager
def time_limit() -> Iterator[None]:
    """Raise :class:`Hang` after some seconds, where the system has alarms."""

    def stop(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def use(cfg: Config) -> Tuple[int, Dict[str, float]]:
    """Read, load and evaluate everything; objects and metrics."""
    cfg = copy.deepcopy(cfg)
    use_classes_of_file(cfg)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    objects = 0
    for i in range(len(train)):
        sample = train[i]['data_samples']
        objects += len(sample.gt_instances) + len(sample.get('ignored_instances', []))
        if not np.isfinite(np.asarray(sample.gt_instances.bboxes.tensor)).all():
            raise AssertionError('a box that is not finite')
    val = DATASETS.build(cfg.val_dataloader.dataset)
    for i in range(len(val)):
        val[i]
    return objects, rehearse(cfg.val_evaluator, val)


def check(cfg: Config) -> Tuple[bool, str]:
    """``tools/check_dataset.py``: whether it fails and what it prints."""
    cfg = copy.deepcopy(cfg)
    out = StringIO()
    with redirect_stdout(out):
        try:
            use_classes_of_file(cfg)
        except (OSError, ValueError) as error:  # as the tool does
            print(f'ERROR: {error}')
            return True, out.getvalue()
        return check_config(cfg, ['train', 'val']), out.getvalue()


def outcome(cfg: Config, root: Path, kind: str, what: str) -> Outcome:
    """How reading, loading and evaluating a mutant ends."""
    count_image.seen.clear()
    told: List[str] = []
    error = ''
    try:
        with time_limit(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
                objects, metrics = use(cfg)
    except (OSError, ValueError) as problem:
        error = str(problem)
        if '\n' in error.strip() or str(root) not in error:
            return Outcome('unnamed', what, error)
    except Hang:
        return Outcome('hang', what)
    except Exception as problem:
        return Outcome('traceback', what, f'{type(problem).__name__}: {problem}')
    if not error:
        told = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
        told = [text for text in told if str(root) in text or '.xml' in text]
        if objects < listed(root, kind) and not told:
            return Outcome('silent', what, f'{objects} of {listed(root, kind)} objects')
        mean = metrics.get('coco/bbox_mAP', 1)
        if mean < 0.99 and objects and not told:
            return Outcome('silent', what, f'AP of the annotations themselves is {mean}')
    try:
        with time_limit(), redirect_stderr(StringIO()):
            failed, text = check(cfg)
    except Hang:
        return Outcome('hang', f'check_dataset: {what}')
    except Exception as problem:
        return Outcome(
            'traceback', f'check_dataset: {what}', f'{type(problem).__name__}: {problem}'
        )
    if failed != bool(error) or (told and 'warning' not in text and 'ERROR' not in text):
        return Outcome(
            'unchecked', what, f'check_dataset failed: {failed}; {error or told}; {text[-300:]}'
        )
    if error:
        return Outcome('named', what, error)
    return Outcome('warning' if told else 'ok', what, told[0] if told else '')


def run(kind: str, seed: int) -> Outcome:
    """One mutant of a format."""
    init_default_scope('mmdiffdet')
    root = Path(tempfile.mkdtemp(prefix=f'mutant_{kind}_'))
    try:
        cfg = write(root / 'data', kind)
        what = mutate(root / 'data', kind, random.Random(f'{kind}/{seed}'))
        return outcome(cfg, root / 'data', kind, f'{kind} {seed}: {what}')
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--count', type=int, default=500, help='mutants of each format')
    parser.add_argument('--seed', type=int, default=0, help='of the first one')
    parser.add_argument('--formats', nargs='+', choices=WRITERS, default=list(WRITERS))
    parser.add_argument('--show', nargs='*', default=BAD, help='kinds of outcomes to list')
    args = parser.parse_args()
    bad = 0
    print('format', *GOOD, *BAD, sep='\t')
    for kind in args.formats:
        found: Counter = Counter()
        for seed in range(args.seed, args.seed + args.count):
            result = run(kind, seed)
            found[result.kind] += 1
            bad += result.kind in BAD
            if result.kind in args.show:
                print(f'  {result.kind}: {result.what}: {result.text[:300]}', flush=True)
        print(kind, *(found[k] for k in (*GOOD, *BAD)), sep='\t', flush=True)
    return int(bad > 0)


if __name__ == '__main__':
    sys.exit(main())
