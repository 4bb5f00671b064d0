"""A process that executes notebooks for :mod:`tts.study.execution`, one after the other; it ends with its parent, its kernel with it.

Kernels are forked, by the standard library's fork server, from a process that has imported what notebooks need, which takes seconds.
"""

import logging
import os
import sys
from contextlib import suppress
from functools import partial
from importlib.metadata import EntryPoint
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from tts.common.parents import end_with_parent

_PRELOADED = "ipykernel.kernelapp matplotlib.pyplot pyarrow.parquet tts.study.experiment tts.claims.published tts.report.tables".split()
_FOR_MODELS = ["tts.policies.transformers", "tts.reward_models.base"]  # seconds more, which several kernels share
# Jupyter chooses a kernel's ports before the kernel binds them: whatever takes one in between, the kernel dies of it.
_STARTS = 3


def serve(connection: Connection, threads: int, several: bool) -> None:
    """Receives arguments of :func:`_execute` from the parent again and again, several times or once, and replies with what it returns.

    Numerical libraries take so many threads, unless the environment says so.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # matplotlib reads it as it is imported
    end_with_parent()
    with suppress(ValueError):  # of a system without a fork server, whose kernels are not forked
        get_context("forkserver").set_forkserver_preload(_PRELOADED + _FOR_MODELS * several)
        factory, name = KernelProvisionerFactory.instance(), "local-provisioner"
        factory.provisioners[name] = EntryPoint(name, f"{__name__}:{ForkedKernel.__name__}", factory.GROUP_NAME)
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
    ForkedKernel.log = log
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


class ForkedKernel(LocalProvisioner):
    """What starts a kernel for ``jupyter_client``."""

    log: ClassVar[Path]  # the file that gets what kernels print

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        if cmd[:3] != [sys.executable, "-m", "ipykernel_launcher"]:  # another language's kernel, or another Python's
            return await super().launch_kernel(cmd, **kwargs)
        arguments = (cmd[3:], kwargs["env"], kwargs.get("cwd") or os.getcwd(), self.log)
        process = get_context("forkserver").Process(target=_run, args=arguments)
        process.start()
        methods = {"terminate": process.terminate, "kill": process.kill, "send_signal": partial(os.kill, process.pid)}
        ended = {"poll": lambda: process.exitcode, "wait": lambda: process.join() or process.exitcode}
        # What jupyter_client asks of a process, in the manner of subprocess.Popen.
        self.process: Any = SimpleNamespace(stdin=None, stdout=None, stderr=None, pid=process.pid, **methods, **ended)
        self.pid = self.pgid = process.pid
        return self.connection_info


def _run(arguments: list[str], variables: dict[str, str], folder: str, log: Path) -> None:
    """Is a kernel, in a session of its own, until it is killed or the process that asked for it is gone."""
    import numpy
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path.insert(0, "")
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    numpy.random.seed()  # else the same in all kernels
    end_with_parent()
    launch_new_instance(["ipykernel_launcher", *arguments])
