"""Processes that others started: which there are, and that they end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Process ids of all that a process started, and they in turn."""
    found = []
    for child in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for number in map(int, child.read_text().split()):
                found += [number, *descendants(number)]
        except OSError:
            continue
    return found


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def wait_for_end(pids: list[int], seconds: float = 60) -> None:
    """Nothing that a killed study started goes on without it."""
    deadline = time.monotonic() + seconds
    while alive := [pid for pid in pids if runs(pid)]:
        assert time.monotonic() < deadline, f"still running {seconds:.0f} s after their study was killed: {[_command(p) for p in alive]}"
        time.sleep(0.2)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200]
    except OSError:
        return "gone"
