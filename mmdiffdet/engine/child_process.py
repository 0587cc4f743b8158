"""A command of its own process, with its output kept."""

import os
import os.path as osp
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Optional, Sequence

Say = Callable[[str], None]


def run(
    command: Sequence[str], log: Path, progress: Optional[Say] = None, pattern: str = '.*'
) -> None:
    """Run a command; its output is added to a file.

    Args:
        command (Sequence[str]): Program and arguments.
        log (Path): All output. The command writes to it by itself, so that
            it is complete whatever happens to this process.
        progress (Callable, optional): Called with what ``pattern`` matches.
        pattern (str): Regular expression, searched line by line.

    Raises:
        RuntimeError: If it fails, with the end of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    # the same interpreter in shell scripts
    environment['PATH'] = osp.pathsep.join(
        [osp.dirname(sys.executable), environment.get('PATH', '')]
    )
    with open(log, 'ab') as out, open(log, errors='replace') as lines:
        out.write(f'\n$ {" ".join(command)}\n'.encode())
        out.flush()
        lines.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            list(command), stdout=out, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while True:
                ended = process.poll() is not None
                for line in lines:
                    found = re.search(pattern, line) if progress else None
                    if found:
                        progress(found[0])
                if ended:
                    break
                time.sleep(0.2)
        except BaseException:  # an interrupt: nothing runs on unseen
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        text = log.read_text(errors='replace')
        end = ''.join(text.splitlines(True)[-12:])
        raise RuntimeError(f'{end}\nfailed; all output is in {log}')
