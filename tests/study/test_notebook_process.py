"""Kernels forked from a process that has imported what notebooks need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points

import nbformat
import pytest

from tts.common import parents
from tts.common.paths import ROOT


def notebook(path, *cells):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, path)


# A process that executes one notebook, whose reply it prints.
START = """
import os, sys
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from tts.study import notebook_process
ours, theirs = Pipe()
ours.send((Path(sys.argv[1]), Path(sys.argv[2]), {}, 100))
replies = os.fdopen(os.dup(1), "w")  # the log takes its place
Thread(target=lambda: print(ours.recv(), file=replies, flush=True)).start()
notebook_process.end_with_parent = lambda: None  # this process is not one of multiprocessing's
"""
NO_FORK_SERVER = """
def none(kind):
    raise ValueError(f"cannot find context for {kind!r}")
notebook_process.get_context = none
"""


def start(tmp_path, code=""):
    paths = [tmp_path / f"{name}.ipynb" for name in ("source", "executed")]
    command = [sys.executable, "-c", f"{START}{code}\nnotebook_process.serve(theirs, 1, True)", *paths]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.slow
def test_a_notebook_runs_in_a_forked_kernel_and_without_a_fork_server_in_another(tmp_path, forked):
    notebook(
        tmp_path / "source.ipynb",
        "import sys; print({'tts.report.tables', 'tts.policies.transformers'} <= set(sys.modules))",
        "import matplotlib.pyplot as plt; plt.plot([1, 2]); print(plt.get_backend())",
        f"import os; print(os.path.samefile(os.getcwd(), {str(tmp_path)!r}))",
    )
    process = start(tmp_path) if forked else start(tmp_path, NO_FORK_SERVER)
    assert process.stdout.readline() == "None\n", (tmp_path / "executed.log").read_text()
    process.kill()
    first, second, third = nbformat.read(tmp_path / "executed.ipynb", as_version=4).cells
    assert first.outputs[0].text == f"{forked}\n" and third.outputs[0].text == "True\n"
    assert "inline" in second.outputs[0].text and "image/png" in second.outputs[-1].data, "a figure shows by itself"
    process.wait(10)


@pytest.mark.slow
def test_a_kernel_ends_with_a_killed_parent(tmp_path):
    told = tmp_path / "pid"
    notebook(tmp_path / "source.ipynb", f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid()))", "time.sleep(100)")
    process = start(tmp_path)
    until = time.monotonic() + 60
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < until and process.poll() is None, (tmp_path / "executed.log").read_text()
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    kernel, until = int(told.read_text()), time.monotonic() + 30
    while alive(kernel):
        assert time.monotonic() < until, "the kernel goes on without its parent"
        time.sleep(0.1)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(state.strip()) and "Z" not in state


def test_vllms_processes_end_with_the_study_that_started_them_and_no_others(monkeypatch):
    """vLLM calls what it finds under this entry point in each of its processes, a user's own servers among them."""
    called, [plugin] = [], entry_points(group="vllm.general_plugins", name="tts")
    monkeypatch.setattr(parents, "end_with_parent", lambda: called.append("ends"))
    monkeypatch.delenv(parents.OWN_ENGINE, raising=False)
    plugin.load()()
    assert called == []
    monkeypatch.setenv(parents.OWN_ENGINE, "1")
    plugin.load()()
    assert called == ["ends"]
