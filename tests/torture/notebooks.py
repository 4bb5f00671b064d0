"""Kernels that die, notebooks that never end, processes that are killed: each named, the others finish, the report says what is missing."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from torture.processes import descendants
from torture.report import Tally
from tts.report import html
from tts.study import execution, presets

SOURCES = {
    "first": "x = 1 + 1",
    "raises": "raise ValueError('no such [/luck]')",
    "kernel_exits": "import os; os._exit(3)",
    "kernel_is_killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "kernel_crashes": "import ctypes; ctypes.string_at(0)",
    "never_ends": "import time; time.sleep(3600)",
    "ignores_interrupts": "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(0.1)",
    "process_is_killed": "import time; open('here', 'w').close(); time.sleep(3600)",
    "last": "y = 2 + 2",
}


def notebook(source: str) -> str:
    """A notebook of one cell."""
    cell = {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    return json.dumps({"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 4})


def kill_the_process_of(marker: Path) -> Callable[[], None]:
    """Kills the process that executes the notebook which has written ``marker``, not its kernel: as the out-of-memory killer may."""

    def kill() -> None:
        while not marker.exists():
            time.sleep(0.05)
        for pid in descendants(os.getpid()):
            try:
                executes = "multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_text()
                if executes and any(_works_in(marker.parent, kernel) for kernel in descendants(pid)):
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                continue

    return kill


def _works_in(folder: Path, pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").resolve() == folder.resolve()
    except OSError:
        return False


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def execute(folder: Path, names: list[str], limit: int = 8, workers: int = 2) -> tuple[dict[str, str | None], str]:
    """Executes the named notebooks, and binds a report.

    Returns:
        What went wrong per notebook, and the report's HTML.
    """
    jobs = []
    for name in names:
        (folder / name).mkdir()  # each with a working directory of its own, by which its kernel is known
        (folder / name / f"{name}.ipynb").write_text(notebook(SOURCES[name]))
        jobs.append(presets.Job(name, {}, folder / name))
    if "process_is_killed" in names:
        threading.Thread(target=kill_the_process_of(folder / "process_is_killed" / "here"), daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "TIMEOUT", limit)
        outcome = execution.execute(jobs, folder / "executed", workers)
    failures = {name: reason for name, reason in outcome.items() if reason}
    executed = [path for name in outcome if (path := folder / "executed" / f"{name}.ipynb").exists()]
    return outcome, html.build(executed, failures, folder / "report.html", "torture").read_text()


SAID = {
    "raises": "ValueError: no such [/luck]",
    "kernel_exits": "DeadKernelError",
    "kernel_is_killed": "DeadKernelError",
    "kernel_crashes": "DeadKernelError",
    "never_ends": "CellTimeoutError",
    "ignores_interrupts": "CellTimeoutError",
    "process_is_killed": "its process was killed by signal 9",
}


def check(outcome: dict[str, str | None], page: str) -> None:
    """Every failure is named with its reason, in the outcome and in the report; what did not fail is done."""
    for name, reason in outcome.items():
        if name in SAID:
            assert reason and SAID[name] in reason, f"{name}: {reason}"
            assert f"<strong>{name} did not finish</strong>" in page, f"{name} is not in the report"
        else:
            assert reason is None, f"{name}: {reason}"


def campaign(folder: Path) -> Tally:
    """All of them at once, two side by side."""
    started = time.monotonic()
    outcome, page = execute(folder, list(SOURCES))
    check(outcome, page)
    deadline = time.monotonic() + 10
    while left := [pid for pid in _processes() if any(_works_in(folder / name, pid) for name in SOURCES)]:
        assert time.monotonic() < deadline, f"kernels go on without their study: {left}"
        time.sleep(0.2)
    tally = Tally("kernels and notebooks that die", {"notebooks": len(outcome), "that died, named and in the report": len(SAID)})
    tally.counts["that finished beside them"] = sum(reason is None for reason in outcome.values())
    tally.seconds = time.monotonic() - started
    return tally
