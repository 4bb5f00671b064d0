"""A process that executes notebooks for :mod:`tts.study.execution`, one after the other; it ends with its parent, its kernel with it."""

import logging
import os
from multiprocessing.connection import Connection
from pathlib import Path

from tts.study import forked_kernels

# Jupyter chooses a kernel's ports before the kernel binds them: whatever takes one in between, the kernel dies of it.
_STARTS = 3


def serve(connection: Connection, threads: int) -> None:
    """Receives arguments of :func:`_execute` from the parent again and again, and replies with what it returns.

    Numerical libraries take so many threads, unless the environment says so.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    forked_kernels.end_with_parent()
    forked_kernels.use()
    while True:
        connection.send(_execute(*connection.recv()))


def _execute(source: Path, target: Path, parameters: dict, timeout: float) -> str | None:
    """Executes a notebook in its folder, with so many seconds for a cell; None where it ran through, else what went wrong in one line.

    Beside the executed notebook is the log of what this process and the kernel print.
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
    for left in reversed(range(_STARTS)):
        try:
            papermill.execute_notebook(source, target, parameters, **options)
            break
        except Exception as error:
            if not left or not str(error).startswith("Kernel died before replying"):
                kind, text = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", error)  # the cell's, where it is one's
                return f"{kind}: {text}".strip().splitlines()[0]
    return None
