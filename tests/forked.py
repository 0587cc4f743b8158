"""Our tools in processes that are forked from the tests: nothing is imported again.

To start Python, PyTorch and MMDetection takes longer than a tiny training.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from typing import IO, Any, Callable, Dict, Mapping, Optional, Sequence, Union

import cv2
import torch

import mmdiffdet.engine  # noqa: F401 before MMDetection, and once for all processes


class Popen:
    """``subprocess.Popen`` of ``[python, script, *arguments]``, as far as tests need it.

    Args:
        command (Sequence[str]): The interpreter is not looked at.
        stdout (IO or int): A file, or ``subprocess.PIPE``.
        stderr (IO or int): A file, or ``subprocess.STDOUT``.
        env (Mapping, optional): Its environment.
        cwd (str, optional): Its working directory.
        text (bool): Always so.
        prepare (Callable): Called in the process.
    """

    def __init__(
        self,
        command: Sequence[Any],
        stdout: Union[IO, int],
        stderr: Union[IO, int] = subprocess.STDOUT,
        env: Optional[Mapping[str, str]] = None,
        cwd: Any = None,
        text: bool = True,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        out = stdout
        if stdout == subprocess.PIPE:
            read, write = os.pipe()
            self.stdout, out = os.fdopen(read), os.fdopen(write, 'w')
        err = out if stderr == subprocess.STDOUT else stderr
        argv = [str(a) for a in command[1:]]
        self.process = multiprocessing.get_context('fork').Process(
            target=_main, args=(argv, out, err, dict(env or os.environ), cwd, prepare)
        )
        self.process.start()
        self.pid = self.process.pid
        if stdout == subprocess.PIPE:
            out.close()

    @property
    def returncode(self) -> Optional[int]:
        return self.process.exitcode

    def poll(self) -> Optional[int]:
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> Optional[int]:
        self.process.join(timeout)
        return self.returncode

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()


def run(
    command: Sequence[Any], capture_output: bool = True, **options: Any
) -> subprocess.CompletedProcess:
    """``subprocess.run`` with both streams kept as text."""
    with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as err:
        code = Popen(command, out, err, **options).wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return subprocess.CompletedProcess(command, code, *texts)


def _main(
    argv: Sequence[str],
    out: IO,
    err: IO,
    env: Dict[str, str],
    cwd: Any,
    prepare: Callable[[], None],
) -> None:
    os.setpgid(0, 0)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    # what pytest put in place of them
    sys.stdout, sys.stderr = (os.fdopen(i, 'w', buffering=1) for i in (1, 2))
    os.environ.clear()
    os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    # OpenMP's threads are not there any more; nor does a data loader's worker have them
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    prepare()
    sys.argv = list(argv)
    runpy.run_path(argv[0], run_name='__main__')
