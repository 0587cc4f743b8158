"""Detect objects in images and videos.

    python tools/predict.py [CONFIG] CHECKPOINT INPUT [INPUT ...]
        [--out-dir outputs] [--score-thr 0.3] [--steps 4] [--proposals 300]
        [--scheduler UniPCMultistepScheduler] [--eta 0] [--eval-seed 0]
        [--device cpu] [--trajectory] [--no-pictures] [--ann-file FILE.json]

An INPUT is an image, a folder, a pattern or a video. CHECKPOINT is a .pth or
.safetensors file, or a pipeline's folder; CONFIG can be left out where the
checkpoint carries one, as those of tools/train.py and
tools/finalize_checkpoint.py do. Painted images and videos go to
<out-dir>/pictures, detections in COCO's form to <out-dir>/predictions.json.
Files that cannot be read are named at the end, and the exit status is 1.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List

from mmdiffdet.command import make_parser, run_command

if TYPE_CHECKING:
    from mmdiffdet.pipelines import DiffusionDetPipeline
    from mmdiffdet.pipelines.coco_results import CocoResults
    from mmdiffdet.pipelines.images import Image
    from mmdiffdet.pipelines.inputs import Input
    from mmdiffdet.visualization import DetectionPainter


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        'given', nargs='+', metavar='[CONFIG] CHECKPOINT INPUT', help='CONFIG ends in .py'
    )
    parser.add_argument('--out-dir', type=Path, default=Path('outputs'))
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='only detections above it are painted and written; 0 keeps all',
    )
    parser.add_argument('--steps', type=int, help='sampling steps')
    parser.add_argument('--proposals', type=int, help='boxes that start from noise')
    parser.add_argument('--scheduler', help='a Diffusers scheduler, by its class name')
    parser.add_argument('--eta', type=float, help='of DDIM: 0 adds no noise, 1 as much as DDPM')
    parser.add_argument('--eval-seed', type=int, help='of the noise')
    parser.add_argument('--precision', choices=['fp32', 'bf16', 'fp16'])
    parser.add_argument('--device', help='cpu, cuda, cuda:1; by default a GPU if there is one')
    parser.add_argument(
        '--trajectory',
        action='store_true',
        help='draw the boxes of every step of each image into <out-dir>/trajectories',
    )
    parser.add_argument('--no-pictures', action='store_true', help='write the JSON file alone')
    parser.add_argument(
        '--ann-file',
        type=Path,
        help='in COCO format: take image ids, which seed the noise, and category '
        'ids from it, so that detections are those of tools/test.py',
    )
    args = parser.parse_args()
    is_config = args.given[0].endswith('.py') or args.given[0].startswith('mmdiffdet::')
    args.config = args.given.pop(0) if is_config else None
    if len(args.given) < 2:
        parser.error('give a checkpoint and at least one image, folder, pattern or video')
    args.checkpoint, *args.inputs = args.given
    return args


class Predictor:
    """Detects in files, paints pictures and collects the results."""

    def __init__(
        self,
        pipe: 'DiffusionDetPipeline',
        args: argparse.Namespace,
        results: 'CocoResults',
        paint: 'DetectionPainter',
    ) -> None:
        self.pipe = pipe
        self.args = args
        self.results = results
        self.paint = paint
        self.options = dict(
            num_inference_steps=args.steps,
            num_proposals=args.proposals,
            eta=args.eta,
            eval_seed=args.eval_seed,
            precision=args.precision,
            score_thr=args.score_thr,
        )

    def image(self, item: 'Input') -> None:
        """Detect in an image file."""
        import mmcv

        from mmdiffdet.datasets.image_file import read_image
        from mmdiffdet.utils import atomic_path

        image_id = self.results.image_id(item.name)
        ids = None if image_id is None else [image_id]
        output, found = self._detect(
            item.path, image_ids=ids, output_trajectory=self.args.trajectory
        )
        image, _ = read_image(str(item.path))
        if not self.args.no_pictures:
            with atomic_path(self._target('pictures', item, '.jpg', '.jpeg', '.png')) as path:
                mmcv.imwrite(self.paint(image, *found), str(path))
        if self.args.trajectory:
            self._draw_trajectory(item, image.shape[:2], output)
        self.results.add(item.name, image.shape[:2], *found)

    def video(self, item: 'Input', progress: Callable[[int], object]) -> None:
        """Detect in a video, frame by frame."""
        import cv2
        import mmcv

        from mmdiffdet.pipelines.images import ImageError
        from mmdiffdet.utils import atomic_path

        reader = mmcv.VideoReader(str(item.path))
        frame = reader.read()
        if frame is None:
            raise ImageError(f'video {item.path} cannot be decoded')
        with atomic_path(self._target('pictures', item, '.mp4')) as path:
            writer = None
            if not self.args.no_pictures:
                code, rate = cv2.VideoWriter_fourcc(*'mp4v'), reader.fps or 25.0
                writer = cv2.VideoWriter(str(path), code, rate, frame.shape[1::-1])
            number = 0
            while frame is not None:
                _, found = self._detect(frame)
                self.results.add(item.name, frame.shape[:2], *found, frame=number)
                if writer is not None:
                    writer.write(self.paint(frame, *found))
                number += 1
                progress(number)
                frame = reader.read()
            if writer is not None:
                writer.release()

    def _detect(self, image: 'Image', **options: Any) -> tuple:
        output = self.pipe(image, **self.options, **options)
        return output, [part[0].cpu() for part in (output.boxes, output.labels, output.scores)]

    def _target(self, folder: str, item: 'Input', *endings: str) -> Path:
        """The path of a file's picture: its name, with another ending if needed."""
        path = self.args.out_dir / folder / item.name
        if path.suffix.lower() not in endings:
            path = path.with_name(path.name + endings[-1])
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _draw_trajectory(self, item: 'Input', size: tuple, output: Dict[str, list]) -> None:
        from mmengine.structures import InstanceData

        from mmdiffdet.visualization import plot_trajectory

        plot_trajectory(
            output.trajectory[0],
            InstanceData(bboxes=output.boxes[0], labels=output.labels[0], scores=output.scores[0]),
            str(item.path),
            size,
            self.pipe.classes,
            self._target('trajectories', item, '.png'),
            self.args.score_thr,
            self.pipe.model.detector.test_cfg['quality_power'],
        )


def main() -> int:
    args = parse_args()
    from tqdm import tqdm

    from mmdiffdet.pipelines.coco_results import CocoResults
    from mmdiffdet.pipelines.command import choose_device, load_pipeline
    from mmdiffdet.pipelines.images import ImageError
    from mmdiffdet.pipelines.inputs import find_inputs
    from mmdiffdet.visualization import DetectionPainter

    inputs = find_inputs(args.inputs)
    videos = [item.path for item in inputs if item.is_video]
    if videos and (args.trajectory or args.ann_file):
        option = '--trajectory' if args.trajectory else '--ann-file'
        raise ValueError(f'{option} is for images; {videos[0]} is a video')
    device = choose_device(args.device)
    pipe = load_pipeline(args.checkpoint, args.config, args.scheduler, 'predict').to(device)
    results = CocoResults(pipe.classes, args.ann_file)
    for item in inputs if args.ann_file else ():
        results.image_id(item.name)  # before anything is computed
    predictor = Predictor(pipe, args, results, DetectionPainter(pipe.classes))
    args.out_dir.mkdir(parents=True, exist_ok=True)
    failed: List[str] = []
    try:
        with tqdm(inputs, unit='file') as bar:
            for item in bar:
                bar.set_postfix_str(item.name[-40:])
                try:
                    if item.is_video:
                        predictor.video(
                            item,
                            lambda n, name=item.name: bar.set_postfix_str(f'{name}, frame {n}'),
                        )
                    else:
                        predictor.image(item)
                except (ImageError, OSError) as error:
                    failed.append(str(error))
    finally:  # of an interrupted run, too: the files that are done
        results.write(args.out_dir / 'predictions.json')
    print(
        f'{len(results.annotations)} detections with score > {args.score_thr:g} in '
        f'{len(results.images)} images; {args.out_dir / "predictions.json"}'
    )
    if failed:
        print(f'{len(failed)} of {len(inputs)} files were not read:', file=sys.stderr)
        print(*(f'  {line}' for line in failed), sep='\n', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    run_command(main)
