"""Processes that are forked from one that has imported what they need: started, watched and ended like any other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from tts.common.paths import ROOT
from tts.generate import fork_server
from tts.generate.fork_server import Nursery

pytestmark = pytest.mark.skipif(not fork_server.POSSIBLE, reason="processes are forked on Linux alone")

CHILDREN = """
import json, os, signal, sys, time

def says():
    there = "wave" in sys.modules, signal.getsignal(signal.SIGINT) == signal.default_int_handler, os.getsid(0) == os.getpid()
    print(json.dumps([sys.argv, os.getcwd(), os.environ.get("SAID"), sys.stdin.read(), *there]))

def draws():
    import numpy
    print(numpy.random.randint(1 << 31))

def exits():
    sys.exit(3)

def raises():
    raise ValueError("no luck")

def sleeps():
    print("asleep", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def origin(tmp_path, monkeypatch):
    (tmp_path / "children.py").write_text(CHILDREN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    made = Nursery(["wave"], {"SAID": "to all"})
    yield made
    made.close()


def streams(tmp_path):
    (tmp_path / "in").write_text("read me")
    return open(tmp_path / "in"), open(tmp_path / "out", "w"), open(tmp_path / "err", "w")


def start(origin, tmp_path, function, **changes):
    given = streams(tmp_path)
    child = origin.start(f"children:{function}", ["child", "-x"], [stream.fileno() for stream in given], **changes)
    for stream in given:
        stream.close()
    return child


def test_a_child_has_the_imports_and_what_it_was_given(origin, tmp_path):
    assert start(origin, tmp_path, "says").wait(60) == 0
    assert json.loads((tmp_path / "out").read_text()) == [["child", "-x"], os.getcwd(), "to all", "read me", True, True, False]
    assert start(origin, tmp_path, "says", folder=str(tmp_path), variables={"SAID": "to one"}, session=True).wait(60) == 0
    assert json.loads((tmp_path / "out").read_text()) == [["child", "-x"], str(tmp_path), "to one", "read me", True, True, True]


def test_children_draw_numbers_of_their_own(tmp_path, origin):
    origin.close()
    origin = Nursery(["numpy.random"], {})
    drawn = set()
    for _ in range(3):
        assert start(origin, tmp_path, "draws").wait(60) == 0
        drawn.add((tmp_path / "out").read_text())
    origin.close()
    assert len(drawn) == 3


def test_a_nursery_that_still_imports_ends_at_once(tmp_path, origin):
    (tmp_path / "slow.py").write_text("import time; time.sleep(600)")
    slow = Nursery(["slow"], {})
    slow.close()
    assert slow._process.returncode == -signal.SIGKILL


def test_how_a_child_ended_is_told(origin, tmp_path):
    assert start(origin, tmp_path, "exits").wait(60) == 3
    assert start(origin, tmp_path, "raises").wait(60) == 1 and "ValueError: no luck" in (tmp_path / "err").read_text()
    asleep = start(origin, tmp_path, "sleeps")
    assert asleep.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        asleep.wait(0.1)
    asleep.kill()
    assert asleep.wait(60) == -signal.SIGKILL and asleep.poll() == -signal.SIGKILL
    asleep.kill()  # which is no process any more
    ended = start(origin, tmp_path, "sleeps")
    ended.terminate()
    assert ended.wait(60) == -signal.SIGTERM


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid):
    until = time.monotonic() + 30
    while lives(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not lives(pid)


ASKING = """
import os, time
from tts.generate.fork_server import Nursery
child = Nursery([], {}).start("children:sleeps", streams=[os.open(os.devnull, os.O_RDWR) for _ in range(3)])
print(child.pid, child.nursery.pid, flush=True)
time.sleep(600)
"""


def test_children_end_with_the_nursery_and_with_who_asked(origin, tmp_path):
    asleep = start(origin, tmp_path, "sleeps")
    origin.close()
    assert gone(asleep.pid)
    asking = subprocess.Popen([sys.executable, "-c", ASKING], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in asking.stdout.readline().split()]
    assert all(map(lives, pids))
    asking.kill()
    asking.communicate()
    assert all(map(gone, pids))


def test_a_nursery_that_is_gone_is_told(origin, tmp_path):
    asleep = start(origin, tmp_path, "sleeps")
    os.kill(origin.pid, signal.SIGKILL)
    with pytest.raises(OSError, match="gone|Broken pipe|Connection reset"):
        while True:
            start(origin, tmp_path, "says").wait(60)
    assert asleep.poll() == -signal.SIGKILL
    os.kill(asleep.pid, signal.SIGKILL)


CODE = """
import sys
from tts.study import forked_kernels
forked_kernels.use()
import papermill
if sys.argv[3] == "lost":
    forked_kernels.ForkedKernel.nursery.close()
papermill.execute_notebook(sys.argv[1], sys.argv[2], kernel_name="python3", progress_bar=False)
"""


@pytest.mark.parametrize("case", ["forked", "lost"])
def test_notebooks_run_in_forked_kernels_and_without_a_nursery_in_others(tmp_path, case):
    cells = [
        "import sys; print('tts.study.experiment' in sys.modules, sys.stdin.isatty())",
        "import matplotlib.pyplot as plt; plt.plot([1, 2]); print(plt.get_backend())",
        "%config InlineBackend.close_figures",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "source.ipynb")
    subprocess.run([sys.executable, "-c", CODE, tmp_path / "source.ipynb", tmp_path / "executed.ipynb", case], check=True, cwd=ROOT)
    first, second, third = nbformat.read(tmp_path / "executed.ipynb", as_version=4).cells
    assert first.outputs[0].text == f"{case == 'forked'} False\n"
    assert "inline" in second.outputs[0].text and "image/png" in second.outputs[-1].data, "a figure shows by itself"
    assert third.outputs[0].data["text/plain"] == "True"
