"""Which candidates of a chunk are right, and which of their answers are equal.

Judging mathematics takes long (half a second for 64 solutions of a MATH-500 problem), and every notebook asks for it. What a judge
found is kept in the store's file of verdicts (:mod:`tts.tasks.verdicts`).
"""

import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import product

from tqdm.auto import tqdm

from tts.generate.grid import Grid
from tts.store.store import Run, Store, StoreError
from tts.tasks.base import Task
from tts.tasks.grading import Grader, groups
from tts.tasks.judge import Judge, Stopped
from tts.tasks.maths import MATHS
from tts.tasks.problems import fingerprint
from tts.tasks.verdicts import Verdicts

VERDICTS = "verdicts.sqlite"


@dataclass(frozen=True)
class Grades:
    """Of one problem's candidates."""

    group: list[int]  # number of each one's answer; -1 for none that votes
    correct: list[bool]
    # "answered" ("answered, phrase" where it was found in another way than the task's own), "no answer", "truncated" (cut off by a limit,
    # which counts as no answer), "unclosed thinking" (it ended while it was thinking), "unreadable", or "judged uncertain" (its judges were
    # lost: it counts as wrong, and another try may see it otherwise)
    status: list[str]


def of_row(row: dict, grader: Grader) -> Grades:
    """Grades of a stored row's candidates.

    Each answer is judged beside the reference, and all right ones are one vote, unless the task says otherwise: of ``6, 2`` and
    ``(2,6)``, which are the same list, the reference ``(2,6)`` takes the second only, whichever comes first.
    """
    task = grader.task
    answer_of = cache(lambda steps: task.found_in(steps, row.get("prompt")))  # samples repeat each other
    # An answer counts where the solution ended by itself: a cut-off one has none.
    found = [answer_of(tuple(t["steps"])) if t["status"] == "finished" else (None, "truncated") for t in row["trajectories"]]
    judged = cache(lambda answer: grader.right(row["answer"], answer))
    correct = [judged(answer) for answer, _ in found]
    own = [answer and task.vote(row, answer, right) for (answer, _), right in zip(found, correct)]
    order: dict[int, int] = {}  # numbers by first appearance; -2 stands for right answers without a vote of their own
    votes = [-2 if right and vote is None else n for n, vote, right in zip(groups(own, grader), own, correct)]
    numbers = [order.setdefault(n, len(order)) if n != -1 else -1 for n in votes]

    def status(number: int, answer: str | None, way: str) -> str:
        if answer is None:
            return way or "no answer"
        if task.normal(answer) in grader.doubted:
            return "judged uncertain"
        return "unreadable" if number < 0 else "answered" if way == type(task).ways[0] else f"answered, {way}"

    return Grades(numbers, correct, [status(number, *each) for number, each in zip(numbers, found)])


class Judges(AbstractContextManager):
    """Grades rows side by side, by default one a core and eight at most at once: each judge takes some hundred megabytes."""

    def __init__(self, count: int | None = None, programs: bool = False):
        self._stop = threading.Event()
        self._judges = [Judge(stop=self._stop, programs=programs) for _ in range(count or min(8, os.cpu_count() or 1))]
        self.verdicts = cache(lambda folder: Verdicts(folder / VERDICTS))
        self._graders = cache(lambda task, kept: [Grader(task, judge=judge, verdicts=kept) for judge in self._judges])

    def of_chunk(self, run: Run, problems: Sequence[dict], task: Task) -> list[tuple[dict, Grades]]:
        """A chunk's rows, graded by their task or one that finds answers otherwise; ``StoreError`` where it is missing or damaged."""
        verdicts = self.verdicts(run.folder.parent)
        note = _note(run, problems, task)  # before they are read, as they may be replaced meanwhile
        rows = run.read(problems)
        found = self.of_rows(rows, task, verdicts)
        if note and not verdicts.holds(task, note) and not any("judged uncertain" in grades.status for grades in found):
            verdicts.keep(task, note)
        return list(zip(rows, found))

    def of_rows(self, rows: Sequence[dict], task: Task = MATHS, verdicts: Verdicts | None = None) -> list[Grades]:
        """Grades of rows; the same judge gets the same places of a chunk, whose answers it may know from another run."""
        found: dict[int, Grades] = {}
        graders = self._graders(task, verdicts)
        self._stop.clear()

        def work(lane: int) -> None:
            for place in range(lane, len(rows), len(graders)):
                if self._stop.is_set():
                    raise Stopped
                found[place] = of_row(rows[place], graders[lane])

        bar = tqdm(total=len(rows), desc="grading", unit="problem", leave=False, delay=3)
        with bar, ThreadPoolExecutor(len(graders)) as pool:
            try:
                lanes = [pool.submit(work, lane) for lane in range(len(graders))]
                for lane in lanes:
                    while wait([lane], timeout=1).not_done:  # a second at a time, or a signal just before may go unseen
                        bar.update(len(found) - bar.n)
                    lane.result()
            except BaseException:  # an error of one, or Ctrl-C, stops all, for whose threads the pool waits
                self._stop.set()
                raise
        return [found[place] for place in range(len(rows))]

    def __exit__(self, *exception: object) -> None:
        for judge in self._judges:
            judge.close()


def keep(store: Store, grids: Iterable[Grid]) -> int:
    """Grades what stored chunks of grids are not graded yet; returns how many those were.

    A chunk that cannot be read is left out: whoever needs its rows is told. Where nothing can be written, nothing is graded in vain.
    """
    chunks: dict[tuple, tuple[Run, list[dict], Task]] = {}
    for grid in grids:
        for run, name in product(map(store.run, grid.specs()), grid.problems):
            chunks |= {(run.key, fingerprint(chunk), grid.task): (run, chunk, grid.task) for chunk in grid.chunks(name)}
    graded = 0
    with Judges(programs=True) as judges:
        verdicts = judges.verdicts(store.folder)
        missing = [asked for asked in chunks.values() if (note := _note(*asked)) and not verdicts.holds(asked[2], note)]
        for asked in tqdm(missing, desc="grading", unit="chunk", delay=1):
            with suppress(StoreError, OSError):
                judges.of_chunk(*asked)
                graded += 1
            if not verdicts.writable:
                break
    return graded


def _note(run: Run, problems: Sequence[dict], task: Task) -> str | None:
    """What a chunk is called among those that are graded; None where it is not stored."""
    with suppress(OSError):
        ways = "" if task.ways == type(task).ways else f" {' '.join(task.ways)}"
        return f"{run.key} {fingerprint(list(problems))} {run.path(problems).stat().st_mtime_ns}{ways}"
    return None
