"""Chunks made in processes side by side: the same rows, whatever dies, and nothing that goes on without its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from torture.processes import descendants, runs

from tts.generate import local_pool, worker_process
from tts.generate.grid import Grid
from tts.generate.local_pool import Processes, WorkerError, side_by_side
from tts.generate.runner import fill, missing
from tts.generate.scheduler import RETRIES, Waiting
from tts.generate.work import Work
from tts.models.hub import ModelError
from tts.store.run_spec import Model
from tts.store.store import Store


def grid(policy, **changes):
    values = {"problems": {"pocket-main": 6}, "policies": [str(policy)], "prms": [f"math-shepherd:{policy}"], "samples": 4, "budgets": [4]}
    return Grid(**(values | {"max_tokens": 40, "max_steps": 4, "chunk": 2, "batch": 8, "temperature": 1.0} | changes))


@pytest.fixture(autouse=True)
def one_thread():
    """As the processes have, for the number of threads shows in a score's last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def export(store):
    return "\n".join(store.export())


def test_two_processes_make_what_one_makes_though_one_is_killed(tiny_lm, tmp_path, monkeypatch):
    alone, together, told = Store(tmp_path / "alone"), Store(tmp_path / "together"), []
    wanted, other = grid(tiny_lm), grid(tiny_lm, methods=["majority"], batch=4)  # another batch, so other engines
    fill(wanted, alone, other)
    send, killed = local_pool._Process.send, []

    def send_once_to_a_dying_one(worker, items, pool):
        send(worker, items, pool)
        if not killed:
            killed.extend(items)
            worker.process.kill()

    monkeypatch.setattr(local_pool._Process, "send", send_once_to_a_dying_one)
    make = Processes.make
    monkeypatch.setattr(Processes, "make", lambda pool, work, store, _, on_tokens: make(pool, work, store, told.append, on_tokens))
    monkeypatch.setenv("TTS_PROCESSES", "2")
    assert fill(wanted, together, other) == 5 * 3 + 2 * 3
    assert export(together) == export(alone)
    assert len(killed) == 1 and sum(item == killed[0] for item in told) == 2


def test_a_chunk_whose_processes_die_is_named(tiny_lm, tmp_path, monkeypatch):
    started = []
    start = local_pool.Processes.start

    def start_a_dying_one(pool):
        started.append(start(pool))
        started[-1].process.kill()
        return started[-1]

    monkeypatch.setattr(local_pool.Processes, "start", start_a_dying_one)
    monkeypatch.setenv("TTS_PROCESSES", "2")
    with pytest.raises(
        WorkerError, match=r"(cot|pool) of .*, N = [14]: .* chunk from pocket-main-test-00000 on was killed by signal 9, again"
    ):
        fill(grid(tiny_lm, problems={"pocket-main": 2}, methods=["majority"]), Store(tmp_path))
    assert RETRIES + 1 <= len(started) <= 2 * (RETRIES + 1)  # the other chunk has tries of its own


def test_an_error_is_of_the_kind_that_it_would_be_here(tiny_lm, tmp_path, monkeypatch):
    monkeypatch.setenv("TTS_PROCESSES", "2")
    wanted = grid(tiny_lm, methods=["majority"])
    with pytest.raises(ValueError, match="the prompt has 253 tokens and .* reads 256 at most|prompt"), Processes(1, 1) as processes:
        long = [{"id": "long", "problem": "1" * 400, "answer": "1"}]
        list(processes.make([Work(next(wanted.specs()), long)], Store(tmp_path), print, print))
    spec = replace(next(wanted.specs()), policy=Model("no-such-policy", ""))
    with pytest.raises(ModelError, match="no model 'no-such-policy'") as caught, Processes(1, 1) as processes:
        list(processes.make([Work(spec, wanted.chunks("pocket-main")[0])], Store(tmp_path), print, print))
    assert "worker_process.py" in caught.value.__notes__[0]


class Peculiar(Exception):
    def __init__(self, text, more):
        super().__init__(f"{text} {more}")


def test_an_error_that_cannot_be_sent_is_told_as_a_plain_one(monkeypatch):
    given = worker_process._portable(Peculiar("no", "luck"))
    assert type(given) is RuntimeError and str(given) == "Peculiar: no luck"


def gone(pids):
    until = time.monotonic() + 30
    while any(map(runs, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(runs, pids))


def test_a_reply_that_is_cut_off_is_a_lost_worker(monkeypatch):
    worker = local_pool.Processes(1, 1).start()
    ours, theirs = local_pool.Pipe()
    worker.process.kill()  # first: a process whose pipe is closed ends by itself, with a status
    worker.process.join()
    worker.connection.close()
    worker.connection = ours
    theirs.send(3)
    os.write(theirs.fileno(), b"\x00\x00\x10\x00 cut off")
    theirs.close()
    assert worker.receive() == 3 and worker.receive() == local_pool.Lost("was killed by signal 9")
    worker.stop()


def fork_server_of(worker):
    return int(Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_fork_server_that_is_ending_is_waited_for(tiny_lm, tmp_path, monkeypatch):
    start, refused = BaseProcess.start, []

    def refuse_twice(process):
        if len(refused) < 2:
            refused.append(process)
            raise ConnectionRefusedError(111, "Connection refused")
        start(process)

    monkeypatch.setattr(BaseProcess, "start", refuse_twice)
    monkeypatch.setattr(local_pool, "PAUSE", 0.2)
    work, began = missing(grid(tiny_lm, methods=["majority"]), Store(tmp_path)), time.monotonic()
    with Processes(1, 1) as processes:
        made = list(processes.make(work, Store(tmp_path), lambda item: None, lambda tokens: None))
    assert len(made) == len(work) and len(refused) == 2 and time.monotonic() - began > 2 * local_pool.PAUSE


@pytest.mark.torture
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found under /proc")
def test_a_killed_fork_server_takes_no_worker_along_and_leaves_none_behind(tiny_lm, tmp_path):
    wanted = grid(tiny_lm, methods=["majority"])
    with local_pool.Processes(2, 1) as scheduler:
        send, killed, workers = local_pool._Process.send, [], set()

        def kill_the_server(worker, item, store):
            send(worker, item, store)
            workers.add(worker.process.pid)
            if len(workers) == 2 and not killed:
                killed.append(fork_server_of(worker))
                os.kill(killed[0], signal.SIGKILL)
                os.kill(worker.process.pid, signal.SIGKILL)  # the next one needs a new server

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local_pool._Process, "send", kill_the_server)
            made = list(scheduler.make(list(missing(wanted, Store(tmp_path))), Store(tmp_path), lambda item: None, lambda tokens: None))
    workers.discard(None)  # of one that could not be started while the server was gone
    assert len(made) == 6 and len(workers) == 3
    assert gone([*killed, *workers])


def test_a_process_that_cannot_be_started_counts_as_a_lost_one(tiny_lm, tmp_path, monkeypatch):
    class Starting:
        def __init__(self, **given):
            pass

        def start(self):
            raise EOFError("unexpected EOF")  # as where the fork server is killed meanwhile

    context = type("Context", (), {"Process": Starting})
    monkeypatch.setattr(local_pool, "_context", lambda: context)
    monkeypatch.setattr(local_pool, "PAUSE", 0)
    with pytest.raises(WorkerError, match=r"the process .* on could not be started \(EOFError: unexpected EOF\), again and again"):
        with Processes(2, 1) as processes:
            list(processes.make(missing(grid(tiny_lm), Store(tmp_path)), Store(tmp_path), lambda item: None, print))


def test_where_there_is_no_fork_server_processes_start_afresh(monkeypatch):
    def refuse():
        raise OSError("Protocol not supported")

    assert type(local_pool._context()) is type(get_context("forkserver"))
    monkeypatch.setattr(local_pool.forkserver, "ensure_running", refuse)
    assert type(local_pool._context()) is type(get_context("spawn"))


SAYING = """
import os, sys

def serve(connection, threads, share, environment):
    print("chatter")
    os.environ.update(environment)
    said = os.environ["SAID"], os.environ["OMP_NUM_THREADS"], os.getcwd(), "tts.policies.transformers" in sys.modules
    connection.send([*said, hasattr(sys.modules["__main__"], "__file__"), sys.stdin.read()])
"""


def test_a_process_finds_the_libraries_imported_and_what_holds_now_in_its_parent(tmp_path, monkeypatch):
    (tmp_path / "saying_process.py").write_text(SAYING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(local_pool, "serve", __import__("saying_process").serve)
    monkeypatch.chdir(tmp_path)
    for said in ("once", "twice"):
        monkeypatch.setenv("SAID", said)
        before = dict(os.environ)
        worker = local_pool.Processes(1, 3).start()
        assert os.environ == before
        assert worker.receive() == [said, "3", str(tmp_path), True, False, ""]
        worker.stop()


SCRIPT = """
import sys
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.store.store import Store
print("begins", flush=True)
few = {"samples": 4, "budgets": [4], "max_tokens": 40, "chunk": 2}
fill(Grid(problems={"pocket-main": 4}, policies=[sys.argv[1]], methods=["majority"], **few), Store(sys.argv[2]))
print("ends", flush=True)
"""


def test_a_script_needs_no_guard_of_its_main_module(tiny_lm, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py", tiny_lm, tmp_path / "runs"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TTS_PROCESSES": "2"})
    assert (done.returncode, done.stdout) == (0, "begins\nends\n"), done.stderr


STUDY = """
import signal, sys
from tts.generate import local_pool
from tts.generate.runner import fill
from tts.store.store import Store
sys.path[:0] = sys.argv[1].split(":")
from test_local_pool import grid
signal.signal(signal.SIGINT, signal.default_int_handler)
ensure, send = local_pool.forkserver.ensure_running, local_pool._Process.send
def tell_start():
    ensure()
    print("starts", flush=True)
def tell(worker, item, pool):
    send(worker, item, pool)
    print(worker.process.pid, flush=True)
local_pool.forkserver.ensure_running = tell_start
local_pool._Process.send = tell
fill(grid(sys.argv[2], problems={"pocket-main": 400}, samples=64, budgets=[64], chunk=200), Store(sys.argv[3]))
"""


@pytest.fixture
def study(tiny_lm, tmp_path):
    """A study that takes minutes, in a session of its own; it says when the fork server starts, and its workers' ids."""
    tests = Path(__file__).parent
    command = [sys.executable, "-c", STUDY, f"{tests}:{tests.parent}", str(tiny_lm), str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes, env=os.environ | {"TTS_PROCESSES": "2"}, start_new_session=True)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found under /proc")
@pytest.mark.parametrize(
    ("how", "moment", "lines"),
    [
        (signal.SIGKILL, "as chunks are made", 4),
        *(
            pytest.param(how, *moment, marks=pytest.mark.torture)
            for how in (signal.SIGINT, signal.SIGKILL)
            for moment in (("while the fork server imports", 1), ("while workers start", 2))
        ),
        pytest.param(signal.SIGINT, "as chunks are made", 4, marks=pytest.mark.torture),
    ],
)
def test_nothing_goes_on_without_the_study(study, how, moment, lines):
    said = [study.stdout.readline() for _ in range(lines)]
    assert said[0] == "starts\n"
    time.sleep(0.3)
    started = descendants(study.pid)
    assert len(started) >= min(lines, 3)
    os.killpg(study.pid, how) if how == signal.SIGINT else study.kill()  # Ctrl-C is for all of a terminal's processes
    _, errors = study.communicate(timeout=60)
    assert gone(started)
    if how == signal.SIGINT:
        assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1, f"not the study's own alone: {errors}"


def test_scores_wait_for_their_pool(tiny_lm, tmp_path):
    wanted, store = grid(tiny_lm, methods=["best_of_n"], problems={"pocket-main": 2}), Store(tmp_path)
    scores, pool = (
        Work(spec, wanted.chunks("pocket-main")[0]) for spec in sorted(wanted.specs(), key=lambda s: s.method, reverse=True)[:2]
    )
    waiting = Waiting([scores, pool], store)
    assert waiting.take() == [pool] and not waiting.take() and waiting.items
    waiting.stored(pool, 1.0)
    assert not waiting.take(), "its file is not there"
    store.open(pool.spec).write(pool.chunk, [], 0.0)
    waiting.stored(pool, 1.0)
    assert not waiting.take(lambda item: False)
    assert waiting.take() == [scores] and not waiting.items
    assert [waiting.again(scores) for _ in range(RETRIES + 1)] == [True] * RETRIES + [False]


def test_how_many_processes(tiny_lm, monkeypatch):
    monkeypatch.delenv("TTS_PROCESSES")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    specs = list(grid(tiny_lm).specs())
    assert side_by_side(specs) == (4, 1)
    weights = sum(path.stat().st_size for path in tiny_lm.glob("*.safetensors"))
    # Room for three processes with the policy and the PRM, which is the same model here, each with its caches.
    monkeypatch.setattr(local_pool, "memory_of", lambda: 3 * (local_pool.OWN + local_pool.COPIES * 2 * weights))
    assert side_by_side(specs) == (3, 1)
    monkeypatch.setattr(local_pool, "memory_of", lambda: 2 * (local_pool.OWN + local_pool.COPIES * 2 * weights))
    assert side_by_side(specs) == (2, 2)
    served = [replace(specs[0], policy=Model("http://localhost:1/v1#model", ""))]
    assert side_by_side(served)[0] == side_by_side([replace(specs[0], policy=Model("vllm:policy-51k", ""))])[0] == 1
    of_a_server = [replace(specs[0], prm=Model("http://localhost:1/v1#Qwen/Qwen2.5-Math-PRM-7B", ""))]
    assert side_by_side(of_a_server)[0] == 1
    monkeypatch.setenv("TTS_PROCESSES", "many")
    with pytest.raises(WorkerError, match="must be a number of processes, 1 or more; given 'many'"):
        side_by_side(specs)


def test_beside_a_gpu_there_is_one_process(tiny_lm, tmp_path, monkeypatch):
    monkeypatch.delenv("TTS_PROCESSES")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    specs = list(grid(tiny_lm).specs())
    monkeypatch.setattr(local_pool, "_DEVICES", (str(tmp_path / "none"), str(tmp_path)))
    assert side_by_side(specs) == (1, 1)
    if sys.platform == "linux":
        monkeypatch.setattr(local_pool, "_DEVICES", (str(tmp_path / "none"),))
        assert side_by_side(specs) == (4, 1)


def test_a_model_of_the_hub_weighs_what_it_will_once_it_is_here(tmp_path, monkeypatch):
    def folder_of(location, weights=False):
        if weights:
            (tmp_path / "model.safetensors").write_bytes(bytes(1000))
        return tmp_path

    monkeypatch.setattr(local_pool, "locate", lambda name: f"{name}@{'0' * 40}")
    monkeypatch.setattr(local_pool, "folder_of", folder_of)
    assert local_pool._weight("owner/model") == 1000


def test_every_token_is_told(tiny_lm, tmp_path):
    told, wanted = [], grid(tiny_lm, methods=["majority"])
    work = list(missing(wanted, Store(tmp_path)))
    with Processes(2, 1) as processes:
        made = list(processes.make(work, Store(tmp_path), lambda item: None, told.append))
    assert sum(told) == sum(chunk.generated for chunk in made) > 0


def test_reading_a_study_needs_no_torch():
    """It takes seconds to import, in every notebook; what only reads results must not need it."""
    imports = (
        "import sys, tts.study.cli, tts.study.experiment, tts.claims.findings, tts.strategy.choices, tts.report.plots, tts.report.tables"
    )
    shown = subprocess.run([sys.executable, "-c", f"{imports}; print(*sys.modules)"], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "transformers"} & set(shown.split())
