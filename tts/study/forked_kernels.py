"""Kernels that are forked (:mod:`tts.generate.fork_server`) from a process that has imported what notebooks need, which takes seconds."""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from tts.generate import fork_server

# What nearly all notebooks need.
IMPORTED = (
    *("ipykernel.kernelapp", "matplotlib.pyplot", "pyarrow.parquet"),
    *("tts.strategy.choices", "tts.claims.published", "tts.study.experiment", "tts.report.tables"),
)
_NAME = "tts-forked"
_LAUNCHER = "ipykernel_launcher"


class ForkedKernel(LocalProvisioner):
    """What starts a kernel for ``jupyter_client``."""

    nursery: ClassVar[fork_server.Nursery]

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        start = [sys.executable, "-m", _LAUNCHER]
        if cmd[: len(start)] != start:  # another language's kernel, or another Python's
            return await super().launch_kernel(cmd, **kwargs)
        # Which parent it is to end with, a kernel looks for as it is imported.
        arguments = [_LAUNCHER, *cmd[len(start) :], f"--IPKernelApp.parent_handle={self.nursery.pid}"]
        self.cwd = kwargs.get("cwd") or os.getcwd()
        try:
            with open(os.devnull) as nothing:
                main, streams = "ipykernel.kernelapp:launch_new_instance", (nothing.fileno(), 1, 2)
                self.process = self.nursery.start(main, arguments, streams, folder=self.cwd, variables=kwargs["env"], session=True)
        except OSError:
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.pgid = self.process.pid
        return self.connection_info


def use() -> None:
    """Has the kernels that this process starts from now on forked, where that is possible."""
    if not fork_server.POSSIBLE:
        return
    # Matplotlib reads its backend as it is imported.
    backend = {"MPLBACKEND": os.environ.get("MPLBACKEND") or "module://matplotlib_inline.backend_inline"}
    try:
        ForkedKernel.nursery = fork_server.Nursery(IMPORTED, backend)
    except OSError:
        return
    factory = KernelProvisionerFactory.instance()
    factory.provisioners[_NAME] = EntryPoint(_NAME, f"{__name__}:{ForkedKernel.__name__}", factory.GROUP_NAME)
    factory.default_provisioner_name = _NAME
