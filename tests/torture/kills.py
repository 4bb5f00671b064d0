"""``kill -9`` at random moments of a beam search, the store's own writes included; two processes on one store."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pyarrow.parquet as pq
from tqdm import tqdm

from torture.report import Tally
from tts.generate.grid import Grid
from tts.generate.runner import fill, missing
from tts.store.chunk_file import read_chunk
from tts.store.store import Store

# Where the store's own writing dies: how many bytes of a chunk are on the disk, or between which two system calls.
MOMENTS = ("before the file is opened", "half of its bytes written", "all written, not flushed", "flushed, not renamed", "just renamed")


def start(grid: Grid, folder: Path, *sabotage: int, how: str = "fork") -> BaseProcess:
    """Fills a store in another process.

    Args:
        grid: what to run.
        folder: of the store.
        sabotage: at which of ``MOMENTS``, and while which chunk, the process kills itself.
        how: ``fork`` starts at once, and needs a parent whose torch has one thread; ``spawn`` starts afresh.
    """
    process = get_context(how).Process(target=_fill, args=(grid.model_dump_json(), str(folder), *sabotage))
    process.start()
    return process


def _fill(parameters: str, folder: str, *sabotage: int) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    tqdm.set_lock(threading.RLock())  # forks share the other, and a killed one would keep it
    if sabotage:
        sabotage_writes(*sabotage)
    fill(Grid.model_validate_json(parameters), Store(folder))


def sabotage_writes(moment: int, chunk: int) -> None:
    """Lets this process kill itself while it writes its n-th chunk."""
    writer, replace, left = pq.ParquetWriter, os.replace, [chunk]

    def due(path: object) -> bool:
        left[0] -= ".parquet" in str(path)
        return left[0] == 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    class Writer(writer):
        def __init__(self, path: Path, *arguments: object, **options: object):
            self._path, self._due = path, moment <= 2 and due(path)
            if self._due and not moment:
                die()
            super().__init__(path, *arguments, **options)

        def close(self) -> None:
            super().close()
            if self._due:
                if moment == 1:
                    os.truncate(self._path, self._path.stat().st_size // 2)
                die()

    def deadly_replace(source: Path, target: Path) -> None:
        if moment == 3 and due(source):
            die()
        replace(source, target)
        if moment == 4 and due(target):
            die()

    pq.ParquetWriter, os.replace = Writer, deadly_replace


def export(store: Store) -> str:
    return "\n".join(store.export())


class Chunks:
    """What a store holds, so that what a kill takes from it shows."""

    def __init__(self, store: Store):
        self.store = store
        self.paths = set(store.folder.glob("*/*.parquet"))

    def check_kept(self) -> None:
        """Everything that was there before the kill is there, and can be read."""
        now = set(self.store.folder.glob("*/*.parquet"))
        assert self.paths <= now, f"lost: {self.paths - now}"
        for path in now:
            read_chunk(path)


def beam_search(grid: Grid, whole: str, folder: Path, kills: int, seed: int) -> Tally:
    """Kills a filling store at random moments of a run's length, and at each moment of the store's own writing."""
    rng, started = random.Random(seed), time.monotonic()
    tally = Tally(
        "kill -9 of a beam search", {"kills at random moments": 0, "kills inside the store's writes": 0, "torn files left and swept": 0}
    )
    store, finished = Store(folder / "search-0"), 0
    begun = time.monotonic()
    start(grid, folder / "search-timing").join()
    length = time.monotonic() - begun
    with tqdm(total=2 * kills, desc="kills of a beam search", unit="kill") as bar:
        while bar.n < 2 * kills:
            inside = tally.counts["kills inside the store's writes"] < tally.counts["kills at random moments"]
            process = start(grid, store.folder, *((rng.randrange(len(MOMENTS)), rng.randrange(1, 4)) if inside else ()))
            process.join(None if inside else rng.uniform(0.05, 1.0) * length)
            held = Chunks(store)
            process.kill()
            process.join()
            if process.exitcode == -signal.SIGKILL:
                tally.counts["kills inside the store's writes" if inside else "kills at random moments"] += 1
                bar.update()
            held.check_kept()
            tally.counts["torn files left and swept"] += len(list(store.folder.glob("*/*.tmp")))
            if not missing(grid, store):
                _check_whole(grid, store, whole)
                finished += 1
                store = Store(folder / f"search-{finished}")
    _check_whole(grid, store, whole)
    tally.counts["exports equal to the unbroken run's"] = finished + 1
    tally.seconds = time.monotonic() - started
    return tally


def _check_whole(grid: Grid, store: Store, whole: str) -> None:
    left = len(missing(grid, store))
    assert fill(grid, store) == left
    assert export(store) == whole, f"the export of {store.folder} differs from the unbroken run's"
    with store.lock():
        pass
    assert not list(store.folder.glob("*/*.tmp")), "half-written files stay"


def two_processes(grid: Grid, whole: str, folder: Path, rounds: int, seed: int) -> Tally:
    """Two writers on one store: one waits for the other, or takes over from it when it is killed."""
    rng, started = random.Random(seed), time.monotonic()
    tally = Tally("two processes on one store", {"rounds": 0, "in which the first was killed": 0})
    for number in range(rounds):
        store = Store(folder / f"both-{number}")
        pair = [start(grid, store.folder), start(grid, store.folder)]
        if number % 2:
            while pair[0].is_alive() and not list(store.folder.glob("*/*.parquet")):
                time.sleep(0.01)
            time.sleep(rng.random())
            pair[0].kill()
            tally.counts["in which the first was killed"] += 1
        for process in pair:
            process.join()
        codes = [process.exitcode for process in pair]
        assert codes[1] == 0 and codes[0] in (0, -signal.SIGKILL), codes
        assert not missing(grid, store) and export(store) == whole
        tally.counts["rounds"] += 1
    tally.counts["exports equal to the unbroken run's"] = rounds
    tally.seconds = time.monotonic() - started
    return tally
