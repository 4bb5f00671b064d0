"""Training texts of the pocket family: solutions, self-checking traces, and solutions gone wrong for PRMs."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tts.tasks import pocket_problems
from tts.tasks.pocket_chemistry import Equation
from tts.tasks.pocket_problems import LARGEST, STYLES, Node, PocketProblem, Style, apply, first_error, reductions, step_text
from tts.tasks.pocket_puzzles import Puzzle


@dataclass(frozen=True)
class Example:
    """A problem with the steps of a solution, without separators, and whether a policy is taught to write each of them."""

    problem: PocketProblem | Puzzle | Equation
    steps: list[str]
    taught: list[bool]


def solve(problem: PocketProblem, style: Style, rng: random.Random, wrong_at: int | None = None) -> list[str]:
    """A solution, its free choices drawn from ``rng``; where one operation is done wrong, it carries on consistently."""
    state: Node | int = problem.expression
    steps: list[str] = []
    while isinstance(state, Node):
        number, (equation, rest) = rng.choice(list(enumerate(reductions(state))))
        if len(steps) == wrong_at:
            equation = _wrong(equation, rng)
            _, rest = list(reductions(state, split_equation(equation)[3]))[number]
        steps.append(step_text(equation, rest, problem.family, style))
        state = rest
    return [*steps, f"\\boxed{{{state}}}"]


def solutions(seed: int) -> Iterator[Example]:
    """Correct solutions, about a third of them verbose."""
    rng = random.Random(f"solutions/{seed}")
    for problem in pocket_problems.training_problems(seed):
        style: Style = "verbose" if rng.random() < 0.35 else "terse"
        steps = solve(problem, style, rng)
        yield Example(problem, steps, [True] * len(steps))


def self_checking_traces(seed: int) -> Iterator[Example]:
    """Long traces, the counterpart of long CoT: every operation is checked, and done again where the check fails.

    A quarter of the operations are first done wrong. Such a slip is in the context but not taught; its detection is.
    """
    rng = random.Random(f"traces/{seed}")
    for problem in pocket_problems.training_problems(seed):
        state: Node | int = problem.expression
        steps: list[tuple[str, bool]] = []  # with whether it is taught
        while isinstance(state, Node):
            equation, state = rng.choice(list(reductions(state)))
            if rng.random() < 0.25:
                wrong = plant_slip(equation, rng)
                steps += [(wrong, False), (check_text(wrong), True)]
            steps += [(equation, True), (check_text(equation), True)]
        steps.append((f"\\boxed{{{state}}}", True))
        yield Example(problem, [step for step, _ in steps], [taught for _, taught in steps])


def check_text(equation: str) -> str:
    """The check of an equation, with its verdict: ``47+38=85`` gives ``38+47=85 ok``, and ``85-38=47`` gives ``47+38=85 ok``."""
    left, op, right, result = split_equation(equation)
    first, op, second, expected = (result, "+", right, left) if op == "-" else (right, op, left, result)
    checked = apply(op, first, second)
    return f"{first}{op}{second}={checked} {'ok' if checked == expected else 'no'}"


def split_equation(equation: str) -> tuple[int, str, int, int]:
    """``"47+38=85"`` as ``(47, "+", 38, 85)``."""
    sides, result = equation.split("=")
    op = next(c for c in sides if c in "+-*")
    left, right = sides.split(op)
    return int(left), op, int(right), int(result)


def plant_slip(equation: str, rng: random.Random) -> str:
    """The same operation with a result that is wrong in the way small models are: a digit, a carry, a neighbour."""
    left, op, right, result = split_equation(equation)
    while True:
        kind = rng.random()
        if kind < 0.45:
            digits = list(str(result))
            digits[rng.randrange(len(digits))] = str(rng.randint(0, 9))
            wrong = int("".join(digits))
        elif kind < 0.7:
            wrong = result + rng.choice((-10, 10, -1, 1, -100, 100))
        elif kind < 0.9:
            wrong = result + rng.randint(-20, 20)
        else:
            wrong = apply(rng.choice("+-*"), left, right)
        if wrong != result and 0 <= wrong <= LARGEST:
            return f"{left}{op}{right}={wrong}"


def corrupted(seed: int, style: Style | None = None) -> Iterator[tuple[PocketProblem, list[str]]]:
    """Solutions for PRM training, half of them with one error, in one step style; None mixes both evenly."""
    rng = random.Random(f"corrupted/{seed}")
    for problem in pocket_problems.training_problems(seed):
        chosen = rng.choice(STYLES) if style is None else style
        wrong_at = None if rng.random() < 0.4 else rng.randrange(problem.operations)
        steps = solve(problem, chosen, rng, wrong_at)
        if wrong_at is None or first_error(problem, steps) is not None:
            yield problem, steps


def _wrong(equation: str, rng: random.Random) -> str:
    """A wrong result, or a misread operand or operator, worked out correctly."""
    if rng.random() < 0.75:
        return plant_slip(equation, rng)
    left, op, right, _ = split_equation(equation)
    options = [(left, o, right) for o in "+-*" if o != op]
    options += [(max(0, left + rng.choice((-10, -1, 1, 10))), op, right), (left, op, max(1, right + rng.choice((-10, -1, 1, 10))))]
    fitting = [(a, o, b) for a, o, b in options if 0 <= apply(o, a, b) <= LARGEST and (a, o, b) != (left, op, right)]
    a, o, b = rng.choice(fitting or [(left, op, right)])
    return f"{a}{o}{b}={apply(o, a, b)}"
