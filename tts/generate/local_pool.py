"""Makes chunks in several processes of this machine, each with models and threads of its own.

A small model's operations are too short to share among threads, and between them one thread works alone in Python; two chunks
side by side keep two cores busy. A chunk is a pure function of its spec, its problems and what the store holds for it, so
neither its process nor a second try shows in it. The caller alone writes to the store.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tts.common.interruptible import first_of
from tts.common.paths import ROOT
from tts.generate import fork_server
from tts.generate.chunks import Made, Work
from tts.generate.fork_server import Child, Nursery
from tts.generate.work_queue import Waiting
from tts.models.files import folder_of
from tts.models.locate import locate
from tts.policies import DEFAULT, address_in, engine_of, model_of
from tts.reward_models import DIAL
from tts.store.imported import is_imported
from tts.store.store import Store, describe

_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, and Windows' for its Linux
CLUSTER = "TTS_CLUSTER"  # set where :mod:`tts.generate.ray_pool` spreads the work; notebooks inherit it
PROCESSES = "TTS_PROCESSES"  # how many; by default as many as cores and memory allow
WORKER = "tts.generate.worker_process"
IMPORTED = (WORKER, "tts.policies.transformers", "tts.reward_models.base")
OWN, COPIES = 2 << 30, 4  # bytes that a process takes beside its models, and how often their weights, caches counted


class WorkerError(RuntimeError):
    """A chunk that no process could make; the message says which, and what to do."""


def side_by_side(specs: Iterable[dict]) -> tuple[int, int]:
    """How many processes make a study's chunks, and with how many threads each; the same for all of its chunks.

    One process where a model is on a GPU, behind a server or another engine's; these batch by themselves.

    Raises:
        WorkerError: where the environment asks for something that is no number.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if (asked := os.environ.get(PROCESSES)) is not None:
        if not asked.isdecimal() or int(asked) < 1:
            raise WorkerError(f"{PROCESSES} must be a number of processes, 1 or more; given {asked!r}")
        count = int(asked)
    else:
        names = {(spec["policy"]["name"], spec["prm"]["name"] if spec["prm"] else None) for spec in specs}
        if not all(_is_ours(*pair) for pair in names) or _has_gpu():
            count = 1
        else:
            largest = max((sum(map(_weight, filter(None, pair))) for pair in names), default=0)
            count = max(1, min(cores, _memory() // (OWN + COPIES * largest)))
    return count, _threads() if count == 1 else max(1, cores // count)


def _has_gpu() -> bool:
    """Whether torch finds one; it is asked, which takes seconds, only where Linux shows a device of some kind."""
    if sys.platform == "linux" and not any(map(os.path.exists, _DEVICES)):
        return False
    import torch

    return torch.cuda.is_available()


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _is_ours(policy: str, prm: str | None) -> bool:
    runs_here = is_imported(policy) or engine_of(policy)[0] == DEFAULT
    return runs_here and (prm is None or not address_in(prm) and not prm.startswith("vllm:"))


def _weight(name: str) -> int:
    """Bytes of a model's weights on disk, to which they are downloaded where they are not yet."""
    if name.startswith(f"{DIAL}:") or is_imported(name):
        return 0
    location = locate(model_of(name))
    folder = folder_of(location, weights=not Path(location).is_dir())
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def make_all(
    work: list[Work],
    store: Store,
    announce: Callable[[Work], None],
    on_tokens: Callable[[int], object],
    count: int,
    threads: int,
) -> Iterator[Made]:
    """:meth:`Workers.make` of processes that end with it."""
    with Workers(min(count, len(work)), threads) as workers:
        yield from workers.make(work, store, announce, on_tokens)


class Workers:
    """Processes that keep their models from chunk to chunk; they end with the ``with`` block, and with this process.

    Args:
        count: of the processes.
        threads: of each.
    """

    def __init__(self, count: int, threads: int):
        self.count, self.threads = count, threads
        self._replies: queue.SimpleQueue[tuple[_Worker, str | None]] = queue.SimpleQueue()
        self._workers: set[_Worker] = set()
        self._nursery: Nursery | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers.clear()
        if self._nursery:
            self._nursery.close()

    def make(self, work: list[Work], store: Store, announce: Callable[[Work], None], on_tokens: Callable[[int], object]) -> Iterator[Made]:
        """Makes chunks, in the order in which they get done; the caller stores each before it asks for the next.

        Raises:
            WorkerError: where a chunk's process died again and again.
            Exception: what a chunk raised, as it would here.
        """
        waiting = Waiting(work, store)
        while True:
            self._hand_out(waiting, announce)
            if not any(worker.item for worker in self._workers):
                return
            worker, line = first_of(self._replies)
            if line is None:
                self._workers.remove(worker)
                _take_back(worker, waiting)
                continue
            reply = json.loads(line)
            if "tokens" in reply:
                on_tokens(reply["tokens"])
                continue
            item, worker.item = worker.item, None
            if "error" in reply:
                raise _raised(reply)
            if following := waiting.take(worker.suits):  # it need not wait until this one lies on the disk
                self._hand(worker, following, waiting, announce)
            steps = _unpacked(reply["steps"])
            yield Made(item, reply["rows"], reply["seconds"], steps, tuple(reply["limits"]), tuple(reply["warnings"]))

    def _hand_out(self, waiting: Waiting, announce: Callable[[Work], None]) -> None:
        while len(self._workers) < self.count and waiting:
            self._workers.add(_Worker.start(self._start(), 1 / self.count, self._replies))
        for worker in self._workers:
            if worker.item is None and (item := waiting.take(worker.suits) or waiting.take()):
                self._hand(worker, item, waiting, announce)

    def _hand(self, worker: _Worker, item: Work, waiting: Waiting, announce: Callable[[Work], None]) -> None:
        announce(item)
        worker.hand(item, waiting.store)

    def _start(self) -> subprocess.Popen | Child:
        """A process; the first ones are forked from one that imports torch for all."""
        variables = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads), "TQDM_DISABLE": "1"}
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        if fork_server.POSSIBLE:
            with suppress(OSError):
                self._nursery = self._nursery or Nursery(IMPORTED, variables)
                return _forked(self._nursery)
        command = [sys.executable, "-m", WORKER]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | variables)


def _forked(origin: Nursery) -> Child:
    """With its standard input and output in pipes."""
    (orders, ours), (theirs, replies) = os.pipe(), os.pipe()
    with os.fdopen(orders), os.fdopen(replies, "w"):
        stdin, stdout = os.fdopen(ours, "w"), os.fdopen(theirs)
        child = origin.start(f"{WORKER}:main", [WORKER], (orders, replies, 2))
    child.stdin, child.stdout = stdin, stdout
    return child


def _take_back(worker: _Worker, waiting: Waiting) -> None:
    """What a process that died was making waits for another one."""
    status = worker.process.wait()
    if worker.item is not None and not waiting.again(worker.item):
        ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise WorkerError(
            f"{describe(worker.item.spec)}: the process that made the chunk from {worker.item.chunk[0]['id']} on {ended}, again and again; "
            f"where memory is short, choose a smaller batch, or fewer processes with {PROCESSES}=1"
        )


def _unpacked(steps: str | None) -> pa.ListArray | None:
    if steps is None:
        return None
    with pa.ipc.open_stream(base64.b64decode(steps)) as stream:
        return stream.read_next_batch().column(0)


def _raised(reply: dict) -> Exception:
    """The worker's error, of its own kind."""
    module, _, name = reply["error"].partition(":")
    kind = getattr(importlib.import_module(module), name, RuntimeError)
    try:
        error = kind(reply["text"])
    except TypeError:  # a kind that is made of more than a message
        error = RuntimeError(f"{name}: {reply['text']}")
    error.add_note(reply["trace"])
    return error


@dataclass(eq=False)
class _Worker:
    """A process, and what it is making."""

    process: subprocess.Popen | Child
    item: Work | None = None
    policy: str | None = None
    prm: str | None = None

    @classmethod
    def start(cls, process: subprocess.Popen | Child, share: float, replies: queue.SimpleQueue) -> _Worker:
        worker = cls(process)
        threading.Thread(target=worker._listen, args=(replies,), daemon=True).start()
        worker._send({"share": share})
        return worker

    def suits(self, item: Work) -> bool:
        """Whether its models are those that a chunk needs."""
        policy, prm = _models(item)
        return policy in (None, self.policy) and prm in (None, self.prm)

    def hand(self, item: Work, store: Store) -> None:
        policy, prm = _models(item)
        self.item, self.policy, self.prm = item, policy or self.policy, prm or self.prm
        self._send({"spec": item.spec, "chunk": item.chunk, "store": str(store.folder.absolute())})

    def stop(self) -> None:
        with suppress(OSError):
            self.process.stdin.close()  # it ends of that too, where a nursery that is gone cannot kill it
        self.process.kill()
        self.process.wait()

    def _send(self, order: dict) -> None:
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died, which its end of replies tells

    def _listen(self, replies: queue.SimpleQueue) -> None:
        for line in self.process.stdout:
            if line.endswith("\n"):  # else it died while it wrote
                replies.put((self, line))
        replies.put((self, None))


def _models(item: Work) -> tuple[str | None, str | None]:
    """The policy and the PRM that a chunk needs in memory; scores of a pool need no policy."""
    policy = None if item.spec["method"] == "scores" else item.spec["policy"]["name"]
    return policy, item.spec["prm"]["name"] if item.spec["prm"] else None
