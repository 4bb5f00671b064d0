"""What the pocket models are trained on: each domain's problems, right solutions, and solutions gone wrong."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tts.tasks import pocket_code, pocket_problems, pocket_puzzles, pocket_traces
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


def _solved_puzzles(seed: int) -> Iterator[Example]:
    rng = random.Random(f"solved puzzles/{seed}")
    for puzzle in pocket_puzzles.training_problems(seed):
        steps = pocket_puzzles.solve(puzzle, rng)
        yield Example(puzzle, steps, [True] * len(steps))


def _corrupted_puzzles(seed: int, style: pocket_problems.Style | None) -> Iterator[Labelled]:
    """Puzzles whose steps are valid and lead nowhere, as a policy's mostly are."""
    rng = random.Random(f"corrupted puzzles/{seed}")
    for puzzle in pocket_puzzles.training_problems(seed):
        wrong_at = None if rng.random() < 0.4 else rng.randrange(len(puzzle.numbers) - 1)
        steps = pocket_puzzles.solve(puzzle, rng, wrong_at)
        if wrong_at is None or pocket_puzzles.first_error(puzzle, steps) is not None:
            yield puzzle, steps


def _solved_code(seed: int) -> Iterator[Example]:
    rng = random.Random(f"solved code/{seed}")
    for problem in pocket_code.training_problems(seed):
        steps = pocket_code.solve(problem, rng)
        yield Example(problem, steps, [True] * len(steps))


def _corrupted_code(seed: int, style: pocket_problems.Style | None) -> Iterator[Labelled]:
    """True steps of programs that pass for the first example at best, and steps that state what is not so."""
    rng = random.Random(f"corrupted code/{seed}")
    for problem in pocket_code.training_problems(seed):
        wrong_at = None if rng.random() < 0.4 else rng.randrange(problem.most)
        steps = pocket_code.solve(problem, rng, wrong_at)
        if wrong_at is None or pocket_code.first_error(problem, steps) is not None:
            yield problem, steps


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
    "puzzles": Domain(
        pocket_puzzles.POCKET_PUZZLES,
        {"pocket-puzzles": 400, "pocket-puzzles-hard": 60},
        pocket_puzzles.training_problems,
        _solved_puzzles,
        _corrupted_puzzles,
        pocket_puzzles.first_error,
        pocket_puzzles.parse,
    ),
    "code": Domain(
        pocket_code.POCKET_CODE,
        {"pocket-code": 400, "pocket-code-hard": 60},
        pocket_code.training_problems,
        _solved_code,
        _corrupted_code,
        pocket_code.first_error,
        pocket_code.parse,
        letters=True,
    ),
}
