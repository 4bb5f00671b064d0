"""Kernels that the standard library's fork server forks from a process that has imported what notebooks need, which takes seconds."""

import os
import signal
import sys
from functools import partial
from importlib.metadata import EntryPoint
from multiprocessing import get_context, parent_process
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

# What nearly all notebooks need.
PRELOADED = [
    "ipykernel.kernelapp",
    "matplotlib.pyplot",
    "pyarrow.parquet",
    "tts.study.experiment",
    "tts.claims.published",
    "tts.report.tables",
]
_NAME = "tts-forked"
_LAUNCHED = [sys.executable, "-m", "ipykernel_launcher"]


class ForkedKernel(LocalProvisioner):
    """What starts a kernel for ``jupyter_client``."""

    log: ClassVar[str] = os.devnull  # the file that gets what kernels print

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        if cmd[: len(_LAUNCHED)] != _LAUNCHED:  # another language's kernel, or another Python's
            return await super().launch_kernel(cmd, **kwargs)
        arguments = (cmd[len(_LAUNCHED) :], kwargs["env"], kwargs.get("cwd") or os.getcwd(), self.log)
        process = get_context("forkserver").Process(target=_run, args=arguments)
        process.start()
        methods = {"terminate": process.terminate, "kill": process.kill, "send_signal": partial(os.kill, process.pid)}
        ended = {"poll": lambda: process.exitcode, "wait": lambda: process.join() or process.exitcode}
        # What jupyter_client asks of a process, in the manner of subprocess.Popen.
        self.process: Any = SimpleNamespace(stdin=None, stdout=None, stderr=None, pid=process.pid, **methods, **ended)
        self.pid = self.pgid = process.pid
        return self.connection_info


def _run(arguments: list[str], variables: dict[str, str], folder: str, log: str) -> None:
    """Is a kernel, in a session of its own, until it is killed or the process that asked for it is gone."""
    import numpy
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path.insert(0, "")
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    numpy.random.seed()  # else the same in all kernels
    end_with_parent()
    launch_new_instance(["ipykernel_launcher", *arguments])


def end_with_parent() -> None:
    """Ends this process with the one that asked for it, which the fork server outlives as long as it has children."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def use() -> None:
    """Has the kernels that this process starts from now on forked, where there is a fork server."""
    try:
        context = get_context("forkserver")
    except ValueError:
        return
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # matplotlib reads it as it is imported
    context.set_forkserver_preload(PRELOADED)
    factory = KernelProvisionerFactory.instance()
    factory.provisioners[_NAME] = EntryPoint(_NAME, f"{__name__}:{ForkedKernel.__name__}", factory.GROUP_NAME)
    factory.default_provisioner_name = _NAME
