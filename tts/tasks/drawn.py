"""Tasks whose problems are drawn at random and whose steps have an exact checker: the pocket domains."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from tts.common.paths import DATA
from tts.tasks.base import Task
from tts.tasks.pocket_problems import first_problems
from tts.tasks.problems import check_drawn, records

FOLDER = DATA / "problems"


class Drawn(Task):
    """A subclass says how a problem is drawn, read and recorded, and where a solution first goes wrong.

    Splits that committed outcomes are of are read from files, as far as these go: a second to draw, for each process that reads outcomes.
    """

    draws: Mapping[str, Callable[[Random], Any]]  # by the set's name; a problem has its ``text`` and ``split``
    parse: Callable[[str], Any]  # raises ValueError where a text states no problem
    first_error: Callable[[Any, Sequence[str]], tuple[int, int] | None]  # step and character, from 0; None where every step is right

    def record(self, problem: Any) -> dict:
        """A problem's record."""
        raise NotImplementedError

    def load(self, name: str, count: int | None, split: str, seed: int) -> tuple[list[dict], str]:
        check_drawn(name, count, split)
        path = FOLDER / f"{name}-{split}.jsonl"
        rows = [row for _, row in records(path, "'problem' and 'answer'")] if path.exists() else []
        count = count or 200
        return (rows[:count] if len(rows) >= count else self.drawn(name, count, split)), f"{name}-{split}"

    def drawn(self, name: str, count: int, split: str) -> list[dict]:
        """The first problems of a split, drawn."""
        return [self.record(problem) for problem in first_problems(self.draws[name], name, split, count)]

    def check_steps(self, problem: str, steps: Sequence[str]) -> int | None:
        try:
            error = self.first_error(self.parse(problem), steps)
        except ValueError:
            return None
        return len(steps) if error is None else error[0]
