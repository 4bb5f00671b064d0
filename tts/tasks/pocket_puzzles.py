"""Number puzzles (Countdown) as a task: hard to find, easy to check.

``3,7,12,18=75?`` asks for 75 from these four numbers, each used once, by ``+ - *``; all results lie in 1..99. A step is one operation and
the numbers that are left, ``12-7=5;3,5,18``; the last one, which gives the target, leaves none. The harder set has five numbers.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial, reduce
from itertools import combinations
from operator import or_
from os.path import commonprefix

from tts.tasks.drawn import Drawn
from tts.tasks.pocket_problems import apply, split_of

LARGEST = 99  # of all results
NUMBERS = 20  # the largest number that is given
SMALLEST_TARGET = 10

_NUMBER = r"([1-9]?\d)"
_EQUATION = re.compile(rf"{_NUMBER}([-+*]){_NUMBER}={_NUMBER}(;[\d,]*)?", re.ASCII)
_STATED = re.compile(r"=\d+")  # result in an expression
State = tuple[int, ...]  # the numbers that are left, ascending


@dataclass(frozen=True)
class Puzzle:
    """Numbers, ascending, and what is to be made of them."""

    numbers: State
    target: int

    @property
    def text(self) -> str:
        return f"{_listed(self.numbers)}={self.target}?"

    @property
    def split(self) -> str:
        return split_of(self.text)


def parse(text: str) -> Puzzle:
    """The puzzle that ``text`` states; raises ``ValueError`` where it is none."""
    if match := re.fullmatch(r"(\d{1,2}(?:,\d{1,2}){1,5})=(\d{1,2})\?", text, re.ASCII):
        puzzle = Puzzle(tuple(sorted(map(int, match[1].split(",")))), int(match[2]))
        if puzzle.text == text:
            return puzzle
    raise ValueError(
        f"not a number puzzle: {text[:80]!r}; expected two to six ascending numbers and a target, all below 100, say '3,7,12,18=75?'"
    )


def moves(state: State) -> Iterator[tuple[str, State]]:
    """Each operation on two of the numbers, as ``("12-7=5", what is left)``; in either order where the order is free."""
    for at, other in combinations(range(len(state)), 2):
        small, large = state[at], state[other]
        rest = state[:at] + state[at + 1 : other] + state[other + 1 :]
        for op in "+-*":
            if 1 <= (result := apply(op, large, small)) <= LARGEST:
                left = tuple(sorted((*rest, result)))
                yield f"{large}{op}{small}={result}", left
                if op != "-" and small != large:
                    yield f"{small}{op}{large}={result}", left


@cache
def _reachable(state: State) -> int:
    """Everything that can be made of all of the numbers, as bits: there are half a million states, and sets of so many take a gigabyte."""
    return 1 << state[0] if len(state) == 1 else reduce(or_, (_reachable(left) for _, left in moves(state)), 0)


def can_reach(state: State, target: int) -> bool:
    """Whether the target can be made of all of the numbers."""
    return bool(_reachable(state) >> target & 1)


def valid_steps(state: State, target: int) -> dict[str, State]:
    """The text of every next step after which the target can still be reached, with the numbers that it leaves."""
    return {_step(equation, left): left for equation, left in moves(state) if can_reach(left, target)}


def first_error(puzzle: Puzzle, steps: Sequence[str]) -> tuple[int, int] | None:
    """Where a solution first goes wrong: ``(step, character)``, counted from 0, or None where every step is valid and leads on.

    The character is the first that no step which leads on shares, or the step's length where it stops short of one.
    """
    state = puzzle.numbers
    for number, step in enumerate(steps):
        options = valid_steps(state, puzzle.target) if len(state) > 1 else {}
        if step not in options:
            return number, max((len(commonprefix([step, option])) for option in options), default=0)
        state = options[step]
    return None


def solve(puzzle: Puzzle, rng: random.Random, wrong_at: int | None = None) -> list[str]:
    """A solution drawn at random among those that lead on; from ``wrong_at`` on one of valid steps that need not.

    The last step of one that went wrong says that it gives the target, as policies do; where no operation is left, it ends early.
    """
    state = puzzle.numbers
    steps: list[str] = []
    while len(state) > 1:
        wrong = wrong_at is not None and len(steps) >= wrong_at
        options = {e: left for e, left in moves(state) if wrong or can_reach(left, puzzle.target)}
        if not options:
            break
        equation, state = rng.choice(list(options.items()))
        if wrong and len(state) == 1:
            equation = f"{equation.partition('=')[0]}={puzzle.target}"
        steps.append(_step(equation, state))
    return steps


def draw(count: int, rng: random.Random) -> Puzzle:
    """A puzzle of ``count`` numbers, whose target is what random operations on all of them give."""
    while True:
        numbers = state = tuple(sorted(rng.randint(1, NUMBERS) for _ in range(count)))
        while options := list(moves(state)):
            _, state = rng.choice(options)
        if len(state) == 1 and state[0] >= SMALLEST_TARGET:  # else no operation was left, as with 60 and 60
            return Puzzle(numbers, state[0])


SETS = {"pocket-puzzles": partial(draw, 4), "pocket-puzzles-hard": partial(draw, 5)}


def training_problems(seed: int) -> Iterator[Puzzle]:
    """An endless stream of training problems, of four numbers each, one in five of five."""
    rng = random.Random(f"train puzzles/{seed}")
    while True:
        if (puzzle := draw(5 if rng.random() < 0.2 else 4, rng)).split == "train":
            yield puzzle


def expression(steps: Sequence[str]) -> str | None:
    """What a solution's equations say together, as ``((12-7=5)*3=15)``, true or not; None where it does not end.

    A number that an earlier step made stands for that step, and each step keeps the result that it states. Sums and products are written
    with the smaller text first, so that two solutions which differ in that order only have one expression.
    """
    made: dict[str, list[str]] = {}
    text = None
    for step in steps:
        if not (match := _EQUATION.fullmatch(step)):
            return None
        sides = [made[side].pop() if made.get(side) else side for side in (match[1], match[3])]
        left, right = sides if match[2] == "-" else sorted(sides)
        made.setdefault(match[4], []).append(f"({left}{match[2]}{right}={match[4]})")
        text = None if match[5] else made[match[4]][-1]
    return text


class PocketPuzzles(Drawn):
    """The answer of a solution is its expression with the results that it states, true or not.

    Right is every one that uses the numbers once each, whose results are true and lie in 1 to 99, and that gives the target. So two
    different right answers are two votes, and a solution that forces its last equation to the target has an answer: a wrong one.
    """

    name = "pocket-puzzles"
    sets, draws = tuple(SETS), SETS
    parse, first_error = staticmethod(parse), staticmethod(first_error)
    instruction = (
        "Make the number behind the equals sign from the others, each used once, by + - *; every result lies in 1 to 99. Write one "
        "operation a step, a semicolon, and the numbers that are left in ascending order, such as 12-7=5;3,5,18. Separate steps by a blank "
        "line. The last step has no numbers left: 15*5=75"
    )

    def record(self, puzzle: Puzzle) -> dict:
        solved = str(expression(solve(puzzle, random.Random(puzzle.text))))
        return {"problem": puzzle.text, "answer": _STATED.sub("", solved)}

    def prepared(self, row: dict, seed: int) -> dict:
        puzzle = parse(row["problem"])
        if _parts(row["answer"]) != (Counter(map(str, puzzle.numbers)), puzzle.target):
            made = f"{puzzle.target} of {', '.join(map(str, puzzle.numbers))}, each used once"
            raise ValueError(f"the answer {row['answer']!r:.80} must make {made}, as ((12-7)*3)+60 with whole numbers, + - * and brackets")
        return row

    def answer(self, text: str) -> str | None:
        return expression(self.split(text))

    def right(self, reference: str, answer: str) -> bool:
        return (parts := _parts(reference)) is not None and parts == _parts(answer) and _true(answer)

    def vote(self, row: Mapping, answer: str, right: bool) -> str:
        return answer


def _parts(text: str) -> tuple[Counter[str], int] | None:
    """The numbers of an expression, and its value, whatever results it states; None where it is none."""
    text = _STATED.sub("", text).replace(" ", "")
    numbers = Counter(re.findall(r"\d+", text))
    while match := re.search(r"\(([^()]*)\)", text):
        if (value := _value(match[1])) is None:
            return None
        text = f"{text[: match.start()]}{value}{text[match.end() :]}"
    value = _value(text)
    return None if value is None else (numbers, value)


def _value(text: str) -> int | None:
    """Of numbers joined by + - * without brackets, products first; None of anything else."""
    if not re.fullmatch(r"-?\d{1,9}([-+*]-?\d{1,9})*", text, re.ASCII):
        return None
    terms = [0]
    for op, number in re.findall(r"([-+*]?)(-?\d+)", f"+{text}"):
        if op == "*":
            terms[-1] *= int(number)
        else:
            terms.append(apply(op, 0, int(number)))
    return sum(terms)


def _true(text: str) -> bool:
    """Whether every operation of an expression states its result, which is true and lies in 1 to 99."""
    while match := re.search(r"\((\d+)([-+*])(\d+)=(\d+)\)", text):
        if not 1 <= (result := apply(match[2], int(match[1]), int(match[3]))) <= LARGEST or result != int(match[4]):
            return False
        text = text.replace(match[0], match[4], 1)
    return text.isdecimal()


def _step(equation: str, left: State) -> str:
    return equation if len(left) == 1 else f"{equation};{_listed(left)}"


def _listed(numbers: State) -> str:
    return ",".join(map(str, numbers))


POCKET_PUZZLES = PocketPuzzles()
