"""What the pocket models are trained on: each domain's problems, right solutions, and solutions gone wrong."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tts.tasks import pocket_chemistry, pocket_code, pocket_problems, pocket_puzzles, pocket_traces
from tts.tasks.base import Task
from tts.tasks.pocket import POCKET
from tts.tasks.pocket_traces import Example

Labelled = tuple[Any, list[str]]  # a problem and the steps of a solution, right or wrong


@dataclass(frozen=True)
class Domain:
    """Streams are endless, and the same for the same seed."""

    task: Task
    measured: dict[str, int]  # how many problems of its main set and of its hard one cards have greedy accuracies of
    problems: Callable[[int], Iterator[Any]]  # training problems, each with its ``text``
    solutions: Callable[[int], Iterator[Example]]
    corrupted: Callable[
        [int, pocket_problems.Style | None], Iterator[Labelled]
    ]  # about half of them wrong, in one step style if there are two
    first_error: Callable[[Any, Sequence[str]], tuple[int, int] | None]
    parse: Callable[[str], Any]
    letters: bool = False  # whether its texts have letters
    half: bool = False  # whether its models are stored in half precision, so that all of the family take less than 30 MB


def _further(task: Task, module: ModuleType, name: str, steps: Callable[[Any], int], **options: bool) -> Domain:
    """A domain whose module draws problems, and solves them: rightly, or wrongly at one of their ``steps``."""

    def solutions(seed: int) -> Iterator[Example]:
        rng = random.Random(f"solved {name}/{seed}")
        for problem in module.training_problems(seed):
            right = module.solve(problem, rng)
            yield Example(problem, right, [True] * len(right))

    def corrupted(seed: int, style: pocket_problems.Style | None) -> Iterator[Labelled]:
        rng = random.Random(f"corrupted {name}/{seed}")
        for problem in module.training_problems(seed):
            wrong_at = None if rng.random() < 0.4 else rng.randrange(steps(problem))
            solution = module.solve(problem, rng, wrong_at)
            if wrong_at is None or module.first_error(problem, solution) is not None:
                yield problem, solution

    measured = dict(zip(task.sets, (400, 60)))
    return Domain(task, measured, module.training_problems, solutions, corrupted, module.first_error, module.parse, **options)


DOMAINS = {
    "arithmetic": Domain(
        POCKET,
        {"pocket-main": 400, "pocket-hard": 60},
        pocket_problems.training_problems,
        pocket_traces.solutions,
        pocket_traces.corrupted,
        pocket_problems.first_error,
        pocket_problems.parse,
    ),
    "puzzles": _further(pocket_puzzles.POCKET_PUZZLES, pocket_puzzles, "puzzles", lambda puzzle: len(puzzle.numbers) - 1),
    "code": _further(pocket_code.POCKET_CODE, pocket_code, "code", lambda problem: problem.most, letters=True),
    "chemistry": _further(
        pocket_chemistry.POCKET_CHEMISTRY,
        pocket_chemistry,
        "equations",
        lambda equation: len(equation.coefficients),
        letters=True,
        half=True,
    ),
}
