"""A process that executes notebooks for :mod:`tts.study.execution`, one after the other; it ends with its parent, its kernel with it."""

from __future__ import annotations

import logging
import os
from multiprocessing.connection import Connection
from pathlib import Path

from tts.study import forked_kernels

# Jupyter chooses a kernel's ports before the kernel binds them: whatever takes one in between, the kernel dies of it.
_STARTS = 3


def serve(connection: Connection, threads: int) -> None:
    """Receives arguments of :func:`_execute` again and again, and replies with what it returns.

    Args:
        connection: pipe to the parent.
        threads: number of threads that numerical libraries take, unless the environment says so.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    forked_kernels.end_with_parent()
    forked_kernels.use()
    while True:
        connection.send(_execute(*connection.recv()))


def _execute(source: Path, target: Path, parameters: dict, timeout: float) -> str | None:
    """Executes a notebook in its folder; None where it ran through, else what went wrong in one line.

    Args:
        target: the executed notebook; beside it is the log of what this process and the kernel print.
        timeout: seconds that a cell may take.
    """
    log = target.with_suffix(".log")
    try:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)  # a kernel that is not forked inherits both
            os.dup2(file.fileno(), 2)
    except OSError as error:
        return f"cannot write {log}: {error.strerror}; free space or choose another folder with -p figures=FOLDER"
    forked_kernels.ForkedKernel.log = str(log)
    from tts.common import quick_imports  # noqa: F401

    # isort: split
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    options = {"kernel_name": "python3", "cwd": source.parent, "progress_bar": False, "execution_timeout": timeout}
    for start in range(1, _STARTS + 1):
        try:
            papermill.execute_notebook(source, target, parameters, **options)
            return None
        except papermill.PapermillExecutionError as error:
            return _line(error.ename, error.evalue)
        except Exception as error:
            if start == _STARTS or not str(error).startswith("Kernel died before replying"):
                return _line(type(error).__name__, str(error))
    return None


def _line(kind: str, text: str) -> str:
    return f"{kind}: {text}".strip().splitlines()[0]
