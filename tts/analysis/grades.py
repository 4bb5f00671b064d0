"""Which candidates of a chunk are right, and which of their answers are equal: worked out once, and kept beside the chunk.

Judging mathematics takes long (half a second for 64 solutions of a MATH-500 problem), and every notebook asks for it. What is kept
holds for one content of the chunk and one judge; it is derived, so whatever is missing, damaged or outdated is worked out again.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from tts.common import checksum
from tts.common.files import replacing
from tts.generate.grid import Grid
from tts.store.store import Run, Store, StoreError
from tts.tasks import grading, judge, judge_process, prompts
from tts.tasks.grading import Grader, groups
from tts.tasks.judge import Stopped
from tts.tasks.prompts import boxed_answer, join_steps

_SCHEMA = pa.schema([("group", pa.list_(pa.int32())), ("correct", pa.list_(pa.bool_()))])
_MOST = 8
_LIBRARIES = ("math-verify", "latex2sympy2-extended", "sympy")


@dataclass(frozen=True)
class Grades:
    """Of one problem's candidates.

    Attributes:
        group: per candidate, the number of its answer; -1 for none.
        correct: per candidate.
    """

    group: list[int]
    correct: list[bool]


def of_row(row: dict, grader: Grader) -> Grades:
    """Grades of a stored row's candidates; equal answers share a number and a verdict."""
    answer_of = cache(boxed_answer)  # samples repeat each other
    # An answer counts where the solution ended by itself: a cut-off one has none.
    answers = [answer_of(join_steps(t["steps"])) if t["status"] == "finished" else None for t in row["trajectories"]]
    numbers = groups(answers, grader)
    verdict: dict[int, bool] = {-1: False}
    for number, answer in zip(numbers, answers):
        if number not in verdict:
            verdict[number] = grader.equal(row["answer"], answer)
    return Grades(numbers, [verdict[number] for number in numbers])


class Judges:
    """Grades rows side by side, as many at once as there are cores, and eight at most: each judge takes some hundred megabytes.

    Args:
        count: of the judges.
        quiet: shows no progress bar, as it must outside the main thread.

    Attributes:
        kept: whether the last grades that were worked out could be written; a store may be read-only.
    """

    def __init__(self, count: int | None = None, quiet: bool = False):
        self.kept, self.quiet = True, quiet
        self._stop = threading.Event()
        self._graders = [Grader(stop=self._stop) for _ in range(count or min(_MOST, os.cpu_count() or 1))]

    def of_chunk(self, run: Run, problems: Sequence[dict]) -> list[tuple[dict, Grades]]:
        """A chunk's rows with their grades: kept ones where they hold, else worked out, and kept if that is possible.

        Raises:
            tts.store.store.StoreError: where the chunk is missing or damaged.
        """
        origin = _origin(run, problems)
        rows, found = run.read(problems), _read(run.grades(problems), origin)
        if found is None:
            uncertain = self._uncertain
            found = self.of_rows(rows)
            # What may be otherwise another time is not kept, nor what another process has replaced since it was read.
            if origin and self._uncertain == uncertain and _origin(run, problems) == origin:
                self.kept = _write(run.grades(problems), origin, found)
        return list(zip(rows, found))

    def of_rows(self, rows: Sequence[dict]) -> list[Grades]:
        """Grades of rows; the same judge gets the same places of a chunk, whose answers it may know from another run.

        Raises:
            tts.tasks.judge.Stopped: where :meth:`stop` was called meanwhile.
        """
        found: list[Grades | None] = [None] * len(rows)
        self._stop.clear()

        def work(lane: int) -> None:
            with suppress(Stopped), self._stopping():
                for place in range(lane, len(rows), len(self._graders)):
                    if self._stop.is_set():
                        return
                    found[place] = of_row(rows[place], self._graders[lane])

        with (
            # Beside the main thread nobody touches tqdm: Ctrl-C while it draws leaves its lock with that thread for good.
            nullcontext() if self.quiet else tqdm(total=len(rows), desc="grading", unit="problem", leave=False, delay=3) as bar,
            ThreadPoolExecutor(len(self._graders)) as pool,
            self._stopping(),  # within the pool, whose end waits for its threads
        ):
            lanes = [pool.submit(work, lane) for lane in range(len(self._graders))]
            while wait(lanes, timeout=1).not_done:  # a second at a time, or a signal just before may go unseen
                if bar is not None:
                    bar.update(len(rows) - found.count(None) - bar.n)
            for lane in lanes:
                lane.result()
        if None in found:
            raise Stopped
        return [grades for grades in found if grades is not None]

    def stop(self) -> None:
        """Ends what another thread has graded here."""
        self._stop.set()

    @property
    def _uncertain(self) -> int:
        return sum(grader.uncertain for grader in self._graders)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """An error of one, or Ctrl-C, stops all."""
        try:
            yield
        except BaseException:
            self._stop.set()
            raise

    def close(self) -> None:
        for grader in self._graders:
            grader.close()

    def __enter__(self) -> Judges:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def keep(store: Store, grids: Iterable[Grid]) -> int:
    """Grades whatever stored chunks of grids have no grades yet, with a progress bar; returns how many those were.

    A chunk that cannot be read is left out: whoever needs its rows is told. Where nothing can be written, nothing is graded in vain.
    """
    chunks = {}
    for grid in grids:
        for spec in grid.specs():
            for name in grid.problems:
                for chunk in grid.chunks(name):
                    run = store.run(spec)
                    chunks[run.grades(chunk)] = (run, chunk)
    missing = [(run, chunk) for path, (run, chunk) in chunks.items() if (origin := _origin(run, chunk)) and _read(path, origin) is None]
    graded = 0
    with Judges() as judges:
        for run, chunk in tqdm(missing, desc="grading", unit="chunk", delay=1):
            with suppress(StoreError, OSError):
                judges.of_chunk(run, chunk)
                graded += run.grades(chunk).exists()
            if not judges.kept:
                break
    return graded


@contextmanager
def keeping() -> Iterator[Callable[[Run, Sequence[dict]], None]]:
    """Grades chunks in a thread beside what makes them; what it has not come to in the end, or cannot grade, is left to :func:`keep`.

    Yields:
        What takes a chunk that was just stored, and returns at once.
    """
    stored: queue.SimpleQueue[tuple[Run, Sequence[dict]] | None] = queue.SimpleQueue()
    ended = threading.Event()

    def work() -> None:
        while (item := stored.get()) is not None and judges.kept and not ended.is_set():
            with suppress(Exception):
                judges.of_chunk(*item)

    with Judges(1, quiet=True) as judges:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield lambda run, problems: stored.put((run, problems))
        finally:
            ended.set()
            stored.put(None)
            while thread.is_alive():
                judges.stop()  # again and again, as it may just have begun with a chunk
                thread.join(0.1)


def _origin(run: Run, problems: Sequence[dict]) -> dict[str, str] | None:
    """What grades hold for: a content of the chunk, and a judge; None where the chunk cannot be read."""
    path = run.path(problems)
    try:
        return {"chunk": _content(path, path.stat().st_mtime_ns), "judge": JUDGE}
    except OSError:
        return None


@lru_cache(maxsize=1024)
def _content(path: Path, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _judge() -> str:
    """What verdicts depend on: our own code, and the libraries behind it."""
    ours = (grading, judge_process, judge, prompts)
    sources = [Path(file).read_bytes() for file in (__file__, *(str(module.__file__) for module in ours))]
    return hashlib.sha256(b"\0".join([*sources, *(version(name).encode() for name in _LIBRARIES)])).hexdigest()


JUDGE = _judge()  # now, while what is loaded is what lies there


def _read(path: Path, origin: dict[str, str] | None) -> list[Grades] | None:
    """Kept grades; None where there are none that hold."""
    if origin is None:
        return None
    try:
        content = path.read_bytes()
        table = pq.read_table(pa.BufferReader(content))
        held = pq.read_metadata(pa.BufferReader(content)).metadata or {}
        if any(held.get(key.encode()) != value.encode() for key, value in origin.items()):
            return None
        if checksum.KEY.encode() not in held or not checksum.is_whole(content, held) or not table.schema.equals(_SCHEMA):
            return None
        return [Grades(row["group"], row["correct"]) for row in table.to_pylist()]
    except (OSError, ValueError, pa.ArrowException):
        return None


def _write(path: Path, origin: dict[str, str], found: Sequence[Grades]) -> bool:
    """Keeps grades; False where nothing can be written."""
    columns = {"group": [grades.group for grades in found], "correct": [grades.correct for grades in found]}
    table = pa.Table.from_pydict(columns, _SCHEMA).replace_schema_metadata(origin | {checksum.KEY: checksum.BLANK})
    try:
        with replacing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
            checksum.seal(temporary)
    except OSError:
        return False
    return True
