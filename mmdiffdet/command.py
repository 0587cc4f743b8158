"""What every command line does: arguments that they share, errors in one line.

Imports nothing heavy: ``--help`` is quick, and what goes wrong in importing
MMDetection is told as other errors are.
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

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: Optional[str] = None,
    ) -> None:
        """Add the pairs to those that were given before."""
        from mmengine.config import DictAction

        options: Dict[str, Any] = dict(getattr(namespace, self.dest, None) or {})
        for pair in values:
            key, equals, value = pair.partition('=')
            if not equals or not key.strip('.') or '..' in key or key != key.strip('.'):
                parser.error(f'{option_string} {pair}: must be KEY=VALUE, e.g. model.sampler.eta=0')
            if key in options:
                parser.error(f'{option_string}: {key} is given twice')
            try:
                options[key] = DictAction._parse_iterable(value)
            except AssertionError:
                parser.error(f'{option_string} {pair}: brackets do not match')
        setattr(namespace, self.dest, options)


def add_traceback_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--traceback``, which :func:`run_command` reads."""
    parser.add_argument(
        '--traceback', action='store_true', help='show where an error came from, for a report'
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing have both."""
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
    add_traceback_argument(parser)


_PIPE_CLOSED = 141  # what a shell tells of a process that SIGPIPE ended


class Failed(SystemExit):
    """The end of a command that failed: exit code 1, after its line was printed.

    Args:
        text (str): That line.
    """

    def __init__(self, text: str) -> None:
        super().__init__(1)
        self.text = text

    def __str__(self) -> str:
        return self.text


def run_command(main: Callable[[], Optional[int]], argv: Optional[Sequence[str]] = None) -> None:
    """Run what a command does; any error ends in one line on the error stream.

    With ``--traceback`` among the arguments the traceback is shown before it.
    A training or test that has a log gets it there in any case. A process of
    several ends at once: the interpreter's own end can abort in a thread that
    a process group left behind, and torch's launcher then calls the run a
    failure. If what reads the output has gone (``| head``), the command ends
    without a word, as others do.

    Args:
        main (Callable): The command; may return an exit code.
        argv (Sequence[str], optional): By default the process's arguments.
    """
    code = None
    # a log line that cannot be written is no reason for a traceback each
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
        if '--traceback' in argv:
            traceback.print_exc()
            hint = ''
        else:
            hint = _log(error) or ' (--traceback shows where it came from)'
        text = one_line(error)
        # of our own messages, most say all there is to say
        hint = hint if 'unexpected error' in text else ''
        print(f'ERROR: {text}{hint}', file=sys.stderr)
        raise Failed(f'ERROR: {text}{hint}') from error
    if int(os.environ.get('WORLD_SIZE', 1)) > 1 and not code:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    if code is not None:
        sys.exit(code)


def _nobody_reads(stream: Any) -> bool:
    """Whether it is a pipe whose reader has gone."""
    try:
        number = stream.fileno()
    except (OSError, ValueError, AttributeError):  # not a file of the system
        return False
    if not hasattr(select, 'poll'):  # Windows does not tell
        return True
    poll = select.poll()
    poll.register(number, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _let_go(stream: Any) -> None:
    """What it still holds is nobody's; the interpreter's end would complain of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _log(error: BaseException) -> str:
    """Put the traceback into the log file of a run; says which it is."""
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
