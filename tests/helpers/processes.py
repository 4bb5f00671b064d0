"""Child processes of tests."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress

TELLING = os.environ | {"PYTHONFAULTHANDLER": "1"}
"""Environment of a process that shall tell where it stood, see :func:`errors_of`."""


def errors_of(process: subprocess.Popen, seconds: float) -> str:
    """What a process that is about to end writes to its standard error.

    Raises:
        AssertionError: where it does not end in time; with what its threads were doing.
    """
    with suppress(subprocess.TimeoutExpired):
        return process.communicate(timeout=seconds)[1]
    process.send_signal(signal.SIGABRT)
    raise AssertionError(f"it still ran after {seconds:g} s:\n{process.communicate()[1]}")
