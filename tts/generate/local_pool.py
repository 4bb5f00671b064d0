"""Workers that are processes of this machine, each with models and threads of its own; ``docs/speed.md`` tells what that buys.

They are forked by the standard library's fork server, which imports torch once for all of them.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe, forkserver, get_context
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path
from types import ModuleType

from tts.common.paths import ROOT
from tts.generate.scheduler import Lost, Reply, Scheduler, Worker, WorkerError
from tts.generate.work import Work
from tts.generate.worker_process import serve
from tts.models.files import folder_of
from tts.models.loading import memory_of
from tts.models.locate import locate
from tts.policies import DEFAULT, address_in, engine_of, model_of
from tts.reward_models import is_model
from tts.store.imported import is_imported
from tts.store.run_spec import RunSpec
from tts.store.store import Store

_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, and Windows' for its Linux
CLUSTER = "TTS_CLUSTER"  # set where :mod:`tts.generate.ray_pool` spreads the work; notebooks inherit it
PROCESSES = "TTS_PROCESSES"  # how many; by default as many as cores and memory allow
PAUSE = 2.0  # seconds until the next try, where a process cannot be started
OWN, COPIES = 2 << 30, 4  # bytes that a process takes beside its models, and how often their weights, caches counted


def side_by_side(specs: Iterable[RunSpec]) -> tuple[int, int]:
    """How many processes make a study's chunks, and with how many threads each; the same for all of its chunks.

    One process where a model is on a GPU, behind a server or another engine's; these batch by themselves.
    Raises :class:`WorkerError` where the environment asks for something that is no number.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count, names = 1, {(spec.policy.name, spec.guide) for spec in specs}
    if (asked := os.environ.get(PROCESSES)) is not None:
        if not asked.isdecimal() or int(asked) < 1:
            raise WorkerError(f"{PROCESSES} must be a number of processes, 1 or more; given {asked!r}")
        count = int(asked)
    elif all(_is_ours(*pair) for pair in names) and not _has_gpu():
        largest = max((sum(map(_weight, filter(None, pair))) for pair in names), default=0)
        count = max(1, min(cores, memory_of() // (OWN + COPIES * largest)))
    if count > 1:
        return count, max(1, cores // count)
    import torch

    return 1, torch.get_num_threads()


def _has_gpu() -> bool:
    """Whether torch finds one; it is asked, which takes seconds, only where Linux shows a device of some kind."""
    if sys.platform == "linux" and not any(map(os.path.exists, _DEVICES)):
        return False
    import torch

    return torch.cuda.is_available()


def _is_ours(policy: str, prm: str | None) -> bool:
    runs_here = is_imported(policy) or engine_of(policy)[0] == DEFAULT
    return runs_here and (prm is None or not address_in(prm) and "vllm:" not in prm)


def _weight(name: str) -> int:
    """Bytes of a model's weights on disk, to which they are downloaded where they are not yet."""
    if is_imported(name) or not is_model(name):
        return 0
    location = locate(model_of(name))
    folder = folder_of(location, weights=not Path(location).is_dir())
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


class Processes(Scheduler):
    """Workers that are so many processes of this machine, with so many threads each; they end with this process."""

    remedy = f"where memory is short, choose a smaller batch, or fewer processes with {PROCESSES}=1"

    def __init__(self, count: int, threads: int):
        super().__init__()
        self.count, self.threads = count, threads

    def places(self) -> int:
        return self.count

    def start(self) -> Worker:
        return _Process(self.threads, 1 / self.count)

    def replies(self) -> Iterator[tuple[Worker, Reply]]:
        saying = {worker.connection: worker for worker in self.workers}
        for connection in wait(list(saying), timeout=1):  # without an end, a signal just before would go unseen
            yield saying[connection], saying[connection].receive()


class _Process(Worker):
    """A process that runs :func:`tts.generate.worker_process.serve`, whose arguments these are."""

    def __init__(self, threads: int, share: float):
        self.connection, theirs = Pipe()
        self.failed: Exception | None = None
        try:
            with theirs, _environment(threads):
                self.process = _context().Process(target=serve, args=(theirs, threads, share, dict(os.environ)), daemon=True)
                self.process.start()
        except (EOFError, OSError) as error:  # there is no memory, or the fork server was killed and refuses until the system has ended it
            self.failed = error
            time.sleep(PAUSE)
        except BaseException:  # Ctrl-C: the process, if there is one, ends with this end of its pipe
            self.connection.close()
            raise

    def send(self, items: Sequence[Work], store: Store) -> None:
        with suppress(OSError):
            self.connection.send((items, str(store.folder.absolute())))

    def receive(self) -> Reply:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            if self.failed:
                return Lost(f"could not be started ({type(self.failed).__name__}: {self.failed})")
            self.process.join()
            status = self.process.exitcode
            return Lost(f"was killed by signal {-status}" if status < 0 else f"ended with status {status}")

    def stop(self) -> None:
        self.connection.close()  # it ends of that too, where the fork server that would tell its end is gone
        if not self.failed:
            self.process.kill()
            self.process.join()


def _context() -> BaseContext:
    """The fork server, started if it does not run; where there can be none, each process starts afresh."""
    try:
        context = get_context("forkserver")
        context.set_forkserver_preload(["tts.generate.preloaded"])
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until it can end of Ctrl-C without a traceback
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except (ValueError, OSError):
        return get_context("spawn")
    return context


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """What the fork server, or a process that starts afresh, has to find before it imports anything."""
    variables, main = dict(os.environ), sys.modules["__main__"]
    os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), variables.get("PYTHONPATH")]))
    # A worker needs nothing of the main module, and would run a script that has no ``if __name__ == "__main__"`` once more.
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        os.environ.clear()
        os.environ.update(variables)
