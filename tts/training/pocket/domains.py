"""What the pocket models are trained on: each domain's problems, right solutions, and solutions gone wrong."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tts.tasks import pocket_chemistry, pocket_problems, pocket_puzzles, pocket_traces
from tts.tasks.pocket_traces import Example

Labelled = tuple[Any, list[str]]  # a problem and the steps of a solution, right or wrong


@dataclass(frozen=True)
class Domain:
    """Streams are endless, and the same for the same seed."""

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


def _solved_equations(seed: int) -> Iterator[Example]:
    rng = random.Random(f"solved equations/{seed}")
    for equation in pocket_chemistry.training_problems(seed):
        steps = pocket_chemistry.solve(equation, rng)
        yield Example(equation, steps, [True] * len(steps))


def _corrupted_equations(seed: int, style: pocket_problems.Style | None) -> Iterator[Labelled]:
    """Wrong guesses and miscounted atoms, followed through."""
    rng = random.Random(f"corrupted equations/{seed}")
    for equation in pocket_chemistry.training_problems(seed):
        wrong_at = None if rng.random() < 0.4 else rng.randrange(len(equation.coefficients))
        yield equation, pocket_chemistry.solve(equation, rng, wrong_at)


DOMAINS = {
    "arithmetic": Domain(
        pocket_problems.training_problems,
        pocket_traces.solutions,
        pocket_traces.corrupted,
        pocket_problems.first_error,
        pocket_problems.parse,
    ),
    "puzzles": Domain(
        pocket_puzzles.training_problems, _solved_puzzles, _corrupted_puzzles, pocket_puzzles.first_error, pocket_puzzles.parse
    ),
    "chemistry": Domain(
        pocket_chemistry.training_problems,
        _solved_equations,
        _corrupted_equations,
        pocket_chemistry.first_error,
        pocket_chemistry.parse,
        letters=True,
    ),
}
