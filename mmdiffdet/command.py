"""What all command lines share: arguments, and errors in one line.

Nothing heavy is imported here, nor by a tool before its arguments are parsed:
``--help`` is quick, and errors in importing MMDetection become one line too.
"""

import argparse
import logging
import os
import select
import sys
import traceback
from typing import Any, Callable, Dict, Optional, Sequence

from .errors import one_line


class OptionsAction(argparse.Action):
    """``KEY=VALUE`` pairs into a dict, as MMEngine's ``DictAction`` reads them."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        """Add the pairs to those that were given before."""
        from mmengine.config import DictAction

        options: Dict[str, Any] = dict(getattr(namespace, self.dest, None) or {})
        for pair in values:
            key, equals, value = pair.partition('=')
            if not equals or '' in key.split('.'):
                parser.error(f'{option} {pair}: must be KEY=VALUE, e.g. model.sampler.eta=0')
            if key in options:
                parser.error(f'{option}: {key} is given twice')
            try:
                options[key] = DictAction._parse_iterable(value)
            except AssertionError:
                parser.error(f'{option} {pair}: brackets do not match')
        setattr(namespace, self.dest, options)


def make_parser(description: str) -> argparse.ArgumentParser:
    """A parser with ``--traceback``, which :func:`run_command` reads."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--traceback', action='store_true', help='show where an error came from, for a report'
    )
    return parser


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing share."""
    parser.add_argument(
        '--train-seed',
        type=int,
        help='of the training; outputs and the trainings before are in '
        'work_dirs/<name>_seed<train seed>',
    )
    parser.add_argument(
        '--part',
        nargs='+',
        default=[],
        metavar='NAME',
        help='put parts on the recipe, e.g. d3pm_quality amp_ema: files of '
        'configs/_base_/parts, or of yours',
    )
    parser.add_argument(
        '--work-dir', help='where logs and models go, by default work_dirs/<config name>'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        help='override the config, e.g. model.sampler.sampling_timesteps=4 '
        'model.sampler.scheduler.type=DPMSolverMultistepScheduler '
        'model.sampler.renewal=None; lists as key="[a,b]" without spaces',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


_PIPE_CLOSED = 141  # what a shell tells of a process that SIGPIPE ended


class Failed(SystemExit):
    """The end of a command that failed: exit code 1, after the line ``text`` was printed."""

    def __init__(self, text: str) -> None:
        super().__init__(1)
        self.text = text

    def __str__(self) -> str:
        return self.text


def run_command(main: Callable[[], Optional[int]], argv: Optional[Sequence[str]] = None) -> None:
    """Run ``main``, which may return an exit code; an error becomes one line.

    With ``--traceback`` among the arguments (by default the process's) the traceback
    is shown before it. A training or test that has a log gets it there in any case.
    One of several processes ends at once: the interpreter's own end can abort in a
    thread that a process group left behind, and torch's launcher then calls the run a
    failure. If what reads the output has gone (``| head``), the command ends without
    a word, as others do.
    """
    code = None
    # a log line that cannot be written would print a traceback each time
    logging.raiseExceptions = False
    try:
        try:
            code = main()
        finally:  # --help, too
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads(sys.stdout):
            _let_go(sys.stdout)
            sys.exit(_PIPE_CLOSED)
        argv = sys.argv[1:] if argv is None else argv
        hint = ''
        if '--traceback' in argv:
            traceback.print_exc()
        else:
            hint = _log(error) or ' (--traceback shows where it came from)'
        text = f'ERROR: {one_line(error)}'
        if 'unexpected error' in text:  # our own messages say enough
            text += hint
        print(text, file=sys.stderr)
        raise Failed(text) from error
    if int(os.environ.get('WORLD_SIZE', 1)) > 1 and not code:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    if code is not None:
        sys.exit(code)


def _nobody_reads(stream: Any) -> bool:
    """Whether a stream is a pipe whose reader has gone."""
    try:
        number = stream.fileno()
    except (OSError, ValueError, AttributeError):  # not a file of the system
        return False
    if not hasattr(select, 'poll'):  # Windows does not tell
        return True
    poll = select.poll()
    poll.register(number)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _let_go(stream: Any) -> None:
    """Drop what a stream still holds, of which the interpreter's end would complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _log(error: BaseException) -> str:
    """Put the traceback into the log file of a run, and return a hint at it."""
    module = sys.modules.get('mmengine.logging')
    loggers = module.MMLogger._instance_dict.values() if module else ()
    text = ''.join(traceback.format_exception(error))
    for handler in [h for logger in loggers for h in logger.handlers]:
        if isinstance(handler, logging.FileHandler):
            try:
                with open(handler.baseFilename, 'a') as file:
                    file.write(text)
            except OSError:
                continue
            return f' (its traceback is in {handler.baseFilename})'
    return ''
