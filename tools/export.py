"""Write a detector as ONNX or torch.export file.

    python tools/export.py CHECKPOINT OUT.onnx|OUT.pt2 [--config CONFIG]
        [--steps 1] [--proposals 100] [--scheduler NAME] [--eta 0]
        [--score-thr 0.0] [--check IMAGE|FOLDER|PATTERN ...]

Sampling steps and proposals are fixed; height and width are free, and the
noise is an input. CHECKPOINT is a file, or a pipeline's folder. --check runs
the written file and the detector on images, prints how far they are apart and
fails above 0.001 pixels (of the resized image, where the score is above 0.3:
rounding moves doubtful boxes more) or 0.0001 of a score. ONNX needs
pip install 'mmdiffdet[export]'. Export takes minutes, more with more steps.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, List

from mmdiffdet.command import make_parser, run_command

if TYPE_CHECKING:
    from mmdiffdet.pipelines import DiffusionDetPipeline

PIXELS, SCORE, SURE = 1e-3, 1e-4, 0.3


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('checkpoint')
    parser.add_argument('out', type=Path, help='ends in .onnx or .pt2')
    parser.add_argument('--config', help='of a checkpoint that carries none; it is executed')
    parser.add_argument('--steps', type=int, help='sampling steps')
    parser.add_argument('--proposals', type=int, help='boxes that start from noise')
    parser.add_argument('--scheduler', help='a Diffusers scheduler, by its class name')
    parser.add_argument('--eta', type=float, help='of DDIM')
    parser.add_argument('--score-thr', type=float, help='only detections above it come out')
    parser.add_argument('--check', nargs='+', default=[], metavar='IMAGE')
    return parser.parse_args()


def check(pipe: 'DiffusionDetPipeline', args: argparse.Namespace, images: List[Path]) -> str:
    """Text that tells how far file and detector are apart; ValueError if it is too far."""
    import torch

    from mmdiffdet.pipelines.exported import ExportedDetector, differences

    exported = ExportedDetector(args.out)
    found = []
    for path in images:
        mine = exported(path, pipe.model.detector.test_cfg['eval_seed'])
        theirs = pipe(path, args.steps, args.proposals, eta=args.eta, score_thr=args.score_thr)
        apart = differences(mine, theirs.boxes[0], theirs.labels[0], theirs.scores[0])
        if apart is None:
            raise ValueError(
                f'{args.out}: other objects than the detector finds in {path} '
                f'({len(mine)} against {len(theirs.labels[0])})'
            )
        # in pixels of what the network sees
        meta = pipe.model.processor(path)['data_samples'][0].metainfo
        scale = max(meta.get('scale_factor', (1.0, 1.0)))
        found.append(torch.stack([mine.scores, apart[0] * scale, apart[1]]))
    score, pixels, score_apart = torch.cat(found, 1)
    if not len(score):
        return f'no detections in {len(images)} images'
    sure = score > SURE
    text = f'{len(score)} detections in {len(images)} images; file and detector differ by at most'
    for name, chosen in ((f'score > {SURE}', sure), ('all', score > -1)):
        if chosen.any():
            text += (
                f'\n  {pixels[chosen].max():.1e} pixels, {score_apart[chosen].max():.1e} in score '
                f'({name}: {int(chosen.sum())})'
            )
    if (pixels[sure] > PIXELS).any() or (score_apart > SCORE).any():
        raise ValueError(f'{args.out}: {text}\nallowed are {PIXELS} (score > {SURE}) and {SCORE}')
    return text


def main() -> None:
    args = parse_args()
    from mmdiffdet.pipelines.command import load_pipeline
    from mmdiffdet.pipelines.exported import export
    from mmdiffdet.pipelines.inputs import find_inputs

    images = [item.path for item in find_inputs(args.check)] if args.check else []
    pipe = load_pipeline(args.checkpoint, args.config, args.scheduler, 'export')
    export(pipe, args.out, args.steps, args.proposals, args.eta, args.score_thr)
    print(f'wrote {args.out}')
    if images:
        print(check(pipe, args, images))


if __name__ == '__main__':
    run_command(main)
