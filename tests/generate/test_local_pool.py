"""Chunks made in processes side by side: the same rows, whatever dies, and nothing that goes on without its parent."""

from __future__ import annotations

import io
import os
import queue
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from tts.generate import fork_server, local_pool
from tts.generate.chunks import Work
from tts.generate.grid import Grid
from tts.generate.local_pool import WorkerError, make_all, side_by_side
from tts.generate.runner import fill, missing
from tts.generate.work_queue import RETRIES, Waiting
from tts.models.hub import ModelError
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
    hand, killed = local_pool._Worker.hand, []

    def hand_once_to_a_dying_one(worker, item, pool):
        hand(worker, item, pool)
        if not killed:
            killed.append(worker)
            worker.process.kill()

    monkeypatch.setattr(local_pool._Worker, "hand", hand_once_to_a_dying_one)
    monkeypatch.setattr(local_pool, "make_all", lambda *given, **kept: make_all(given[0], given[1], told.append, *given[3:], **kept))
    monkeypatch.setenv("TTS_PROCESSES", "2")
    assert fill(wanted, together, other) == 5 * 3 + 2 * 3
    assert export(together) == export(alone)
    assert len(killed) == 1 and sum(item == killed[0].item for item in told) <= 2


def test_a_chunk_whose_processes_die_is_named(tiny_lm, tmp_path, monkeypatch):
    started = []
    start = local_pool._Worker.start.__func__

    def start_a_dying_one(cls, *given):
        started.append(start(cls, *given))
        started[-1].process.kill()
        return started[-1]

    monkeypatch.setattr(local_pool._Worker, "start", classmethod(start_a_dying_one))
    monkeypatch.setenv("TTS_PROCESSES", "2")
    with pytest.raises(
        WorkerError, match=r"(cot|pool) of .*, N = [14]: .* chunk from pocket-main-test-00000 on was killed by signal 9, again"
    ):
        fill(grid(tiny_lm, problems={"pocket-main": 2}, methods=["majority"]), Store(tmp_path))
    assert RETRIES + 1 <= len(started) <= 2 * (RETRIES + 1)  # the other chunk has tries of its own


def test_an_error_is_of_the_kind_that_it_would_be_here(tiny_lm, tmp_path, monkeypatch):
    monkeypatch.setenv("TTS_PROCESSES", "2")
    wanted = grid(tiny_lm, methods=["majority"])
    with pytest.raises(ValueError, match="the prompt has 253 tokens and .* reads 256 at most|prompt"):
        long = [{"id": "long", "problem": "1" * 400, "answer": "1"}]
        list(make_all([Work(next(wanted.specs()), long)], Store(tmp_path), print, print, count=2, threads=1))
    spec = next(wanted.specs()) | {"policy": {"name": "no-such-policy", "weights": ""}}
    with pytest.raises(ModelError, match="no model 'no-such-policy'") as caught:
        list(make_all([Work(spec, wanted.chunks("pocket-main")[0])], Store(tmp_path), print, print, count=2, threads=1))
    assert "worker_process.py" in caught.value.__notes__[0]


def test_a_reply_that_is_cut_off_is_none():
    replies, process = queue.SimpleQueue(), SimpleNamespace(stdout=io.StringIO('{"tokens": 3}\n{"rows": [{"problem'))
    worker = local_pool._Worker(process)
    worker._listen(replies)
    assert [replies.get(), replies.get()] == [(worker, '{"tokens": 3}\n'), (worker, None)] and replies.empty()


IDLE = """
import os, sys

def main():
    for line in sys.stdin:
        pass
    os._exit(1)

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def idle(tmp_path, monkeypatch):
    """Processes that import nothing and do nothing."""
    (tmp_path / "idle_process.py").write_text(IDLE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(local_pool, "WORKER", "idle_process")
    monkeypatch.setattr(local_pool, "IMPORTED", ())


@pytest.mark.skipif(not fork_server.POSSIBLE, reason="processes are forked on Linux alone")
def test_processes_end_though_what_they_were_forked_from_was_killed(idle):
    with local_pool.Workers(2, 1) as workers:
        started = [local_pool._Worker.start(workers._start(), 0.5, workers._replies) for _ in range(2)]
        workers._workers.update(started)
        os.kill(workers._nursery.pid, signal.SIGKILL)
    until = time.monotonic() + 30
    while any(_lives(worker.process.pid) for worker in started) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(_lives(worker.process.pid) for worker in started)


def test_processes_that_cannot_be_forked_are_started(idle, monkeypatch):
    monkeypatch.setattr(local_pool, "Nursery", Mock(side_effect=OSError("Protocol not supported")))
    with local_pool.Workers(1, 1) as workers:
        process = workers._start()
        workers._workers.add(local_pool._Worker.start(process, 1.0, workers._replies))
        assert isinstance(process, subprocess.Popen) and process.poll() is None
    assert process.returncode is not None


STUDY = """
import sys
from tts.generate import local_pool
from tts.generate.runner import fill
from tts.store.store import Store
sys.path.insert(0, sys.argv[1])
from test_local_pool import grid
hand = local_pool._Worker.hand
def tell(worker, item, pool):
    hand(worker, item, pool)
    print(worker.process.pid, flush=True)
local_pool._Worker.hand = tell
fill(grid(sys.argv[2], problems={"pocket-main": 400}, samples=64, budgets=[64], chunk=200), Store(sys.argv[3]))
"""


def test_processes_end_with_a_killed_parent(tiny_lm, tmp_path):
    command = [sys.executable, "-c", STUDY, os.path.dirname(__file__), str(tiny_lm), str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TTS_PROCESSES": "2"})
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 30
    while any(map(_lives, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_lives, workers))


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_scores_wait_for_their_pool(tiny_lm, tmp_path):
    wanted, store = grid(tiny_lm, methods=["best_of_n"], problems={"pocket-main": 2}), Store(tmp_path)
    scores, pool = (
        Work(spec, wanted.chunks("pocket-main")[0]) for spec in sorted(wanted.specs(), key=lambda s: s["method"], reverse=True)[:2]
    )
    waiting = Waiting([scores, pool], store)
    assert waiting.take() is pool and waiting.take() is None and waiting
    store.open(pool.spec).write(pool.chunk, [], 0.0)
    assert waiting.take(lambda item: False) is None
    assert waiting.take() is scores and not waiting
    assert [waiting.again(scores) for _ in range(RETRIES + 1)] == [True] * RETRIES + [False]


def test_how_many_processes(tiny_lm, monkeypatch):
    monkeypatch.delenv("TTS_PROCESSES")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    specs = list(grid(tiny_lm).specs())
    assert side_by_side(specs) == (4, 1)
    weights = sum(path.stat().st_size for path in tiny_lm.glob("*.safetensors"))
    # Room for three processes with the policy and the PRM, which is the same model here, each with its caches.
    monkeypatch.setattr(local_pool, "_memory", lambda: 3 * (local_pool.OWN + local_pool.COPIES * 2 * weights))
    assert side_by_side(specs) == (3, 1)
    monkeypatch.setattr(local_pool, "_memory", lambda: 2 * (local_pool.OWN + local_pool.COPIES * 2 * weights))
    assert side_by_side(specs) == (2, 2)
    served = [specs[0] | {"policy": {"name": "http://localhost:1/v1#model"}}]
    assert side_by_side(served)[0] == side_by_side([specs[0] | {"policy": {"name": "vllm:policy-51k"}}])[0] == 1
    of_a_server = [specs[0] | {"prm": {"name": "http://localhost:1/v1#Qwen/Qwen2.5-Math-PRM-7B"}}]
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
    made = list(make_all(work, Store(tmp_path), lambda item: None, told.append, 2, 1))
    assert sum(told) == sum(chunk.generated for chunk in made) > 0


def test_reading_a_study_needs_no_torch():
    """It takes seconds to import, in every notebook; what only reads results must not need it."""
    imports = (
        "import sys, tts.study.cli, tts.study.experiment, tts.claims.findings, tts.strategy.choices, tts.report.plots, tts.report.tables"
    )
    shown = subprocess.run([sys.executable, "-c", f"{imports}; print(*sys.modules)"], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "transformers"} & set(shown.split())
