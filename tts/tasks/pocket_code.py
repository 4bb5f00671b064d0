"""List programs as a task: hard to find, graded by hidden tests, in an interpreter of its own.

``2:7,2,5>4,10,14;9,1,1,3>2,2,6,18?`` asks for a program of at most two functions that makes 4,10,14 of 7,2,5, and 2,2,6,18 of 9,1,1,3. A
step is one function and what becomes of the first example, ``sort>2,5,7`` and ``*2>4,10,14``. All numbers lie in 0..99.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import accumulate
from os.path import commonprefix

from tts.tasks.drawn import Drawn
from tts.tasks.pocket_problems import split_of

LARGEST = 99  # of all results
GIVEN, LENGTHS = 9, (3, 5)  # the largest number of an input, and how many numbers it may have
PUBLIC, HIDDEN = 2, 8  # examples

Values = tuple[int, ...]
States = tuple[Values, ...]  # what became of each example's input
Program = tuple[str, ...]

Function = Callable[[Values], Iterable[int]]


def _with(k: int) -> dict[str, Function]:
    """The functions that have a constant."""
    return {
        "take": lambda values: values[:k],
        "drop": lambda values: values[k:],
        "+": lambda values: [v + k for v in values],
        "-": lambda values: [v - k for v in values],
        "*": lambda values: [v * k for v in values],
        "over": lambda values: [v for v in values if v > k],
    }


_CONSTANTS = {"take": (2, 3), "drop": (1, 2), "+": (1, 2, 3), "-": (1,), "*": (2, 3), "over": (3, 6)}
FUNCTIONS: dict[str, Function] = {
    "sort": sorted,
    "rev": reversed,
    "uniq": dict.fromkeys,  # each number where it stands first
    "acc": accumulate,  # sums of all numbers so far
    "max": lambda values: [max(values)],
    "min": lambda values: [min(values)],
    "sum": lambda values: [sum(values)],
    "len": lambda values: [len(values)],
    "even": lambda values: [v for v in values if v % 2 == 0],
    "odd": lambda values: [v for v in values if v % 2],
    **{f"{name}{k}": _with(k)[name] for name, constants in _CONSTANTS.items() for k in constants},
}
_ALLOWED = frozenset(range(LARGEST + 1))


@dataclass(frozen=True)
class Problem:
    """Examples of what a program of at most ``most`` functions does; hidden tests are written alike."""

    most: int
    inputs: States
    outputs: States
    program: Program = field(default=(), compare=False)  # which it was drawn from; () where it was read

    @property
    def text(self) -> str:
        return f"{self.most}:{';'.join(f'{_listed(given)}>{_listed(wanted)}' for given, wanted in zip(self.inputs, self.outputs))}?"

    @property
    def split(self) -> str:
        return split_of(self.text)

    def solved_by(self, program: Program) -> bool:
        return len(program) <= self.most and tuple(run(program, given) for given in self.inputs) == self.outputs


def parse(text: str) -> Problem:
    """The problem that ``text`` states; raises ``ValueError`` where it is none."""
    values = r"\d{1,2}(?:,\d{1,2})*"
    if re.fullmatch(rf"[1-5]:{values}>{values}(?:;{values}>{values})*\?", text, re.ASCII):
        lists = [tuple(map(int, values.split(","))) for values in re.split("[>;]", text[2:-1])]
        problem = Problem(int(text[0]), tuple(lists[::2]), tuple(lists[1::2]))
        if problem.text == text:
            return problem
    raise ValueError(f"not a problem of list programs: {text[:80]!r}; expected at most five functions and examples, say '2:7,2>4,14?'")


@lru_cache(1 << 16)
def successors(values: Values) -> tuple[Values | None, ...]:
    """What each function makes of a list; None where no number would be left, or one leaves 0..99."""
    made = [tuple(function(values)) for function in FUNCTIONS.values()]
    return tuple([after if after and _ALLOWED.issuperset(after) else None for after in made])


def run(program: Program, values: Values) -> Values | None:
    """What a program makes of a list; None where one of its functions makes nothing of it."""
    for name in program:
        if (after := dict(zip(FUNCTIONS, successors(values))).get(name)) is None:
            return None
        values = after
    return values


def moves(states: States) -> dict[str, States]:
    """Each function that can be applied to all examples, as the text of its step, with what becomes of them."""
    made = zip(FUNCTIONS, zip(*map(successors, states)))
    return {f"{name}>{_listed(after[0])}": after for name, after in made if None not in after}


def can_reach(states: States, outputs: States, most: int) -> bool:
    """Whether a program of at most ``most`` functions makes the outputs of all states."""
    if most < 2:
        return states == outputs or most == 1 and outputs[0] in successors(states[0]) and outputs in zip(*map(successors, states))
    return states == outputs or _search(states, outputs, most)


@lru_cache(1 << 16)
def _search(states: States, outputs: States, most: int) -> bool:
    if len(states) > 1 and not can_reach(states[:1], outputs[:1], most):  # few first examples can, and many problems share them
        return False
    length = len(outputs[0])  # no function makes a list longer
    after = {made for made in zip(*map(successors, states)) if None not in made and len(made[0]) >= length}
    return any(can_reach(made, outputs, most - 1) for made in after)


def first_error(problem: Problem, steps: Sequence[str]) -> tuple[int, int] | None:
    """Where a solution first goes wrong: ``(step, character)``, counted from 0, or None where every step is true and leads on.

    The character is the first that no step which leads on shares, or the step's length where it stops short of one.
    """
    states = problem.inputs
    for number, step in enumerate(steps):
        left = problem.most - number - 1
        options = moves(states) if left >= 0 else {}
        if step not in options or not can_reach(options[step], problem.outputs, left):
            leading = (option for option, made in options.items() if can_reach(made, problem.outputs, left))
            return number, max((len(commonprefix([step, option])) for option in leading), default=0)
        states = options[step]
    return None


def draw(count: int, rng: random.Random) -> Problem:
    """A problem that a random program of ``count`` functions solves, and none of fewer."""
    while True:
        inputs = states = tuple(_input(rng) for _ in range(PUBLIC))
        program: list[str] = []
        while len(program) < count and (options := moves(states)):
            step, states = rng.choice(list(options.items()))
            if can_reach(inputs, states, len(program)):  # by fewer functions; then so can all that goes on from here
                break
            program.append(_name(step))
            if len(program) == count and len(set(states)) == PUBLIC:  # equal outputs tell too little
                return Problem(count, inputs, states, tuple(program))


def _input(rng: random.Random) -> Values:
    return tuple(rng.randint(1, GIVEN) for _ in range(rng.randint(*LENGTHS)))


def solve(problem: Problem, rng: random.Random, wrong_at: int | None = None) -> list[str]:
    """The steps of the program that a problem was drawn from; from ``wrong_at`` on of random functions, which mind the first example only.

    In half of the cases they lead to its output where they can, and in half of them the first misstates what becomes of it. A last step
    that does not give the output says so in every other case, as policies do.
    """
    values, wanted, steps = problem.inputs[0], problem.outputs[0], list[str]()
    aims, slips = rng.random() < 0.5, rng.random() < 0.5
    for number, name in enumerate(problem.program):
        options = {_name(step): after for step, (after,) in moves((values,)).items()}
        left = problem.most - number - 1
        if wrong_at is not None and number >= wrong_at:
            if not options:
                break
            leading = [name for name, after in options.items() if aims and can_reach((after,), (wanted,), left)]
            name = rng.choice(leading or list(options))
            if slips and number == wrong_at:
                options[name] = _misstated(options[name], rng.choice(list(options.values())), rng)
            if not left and rng.random() < 0.5:
                options[name] = wanted
        values = options[name]
        steps.append(f"{name}>{_listed(values)}")
    return steps


def _misstated(values: Values, other: Values, rng: random.Random) -> Values:
    """The list with a number changed, left out or moved, or ``other``, what another function makes."""
    while True:
        at, to = rng.randrange(len(values)), rng.randrange(len(values))
        before, after = values[:at], values[at + 1 :]
        changed = min(LARGEST, max(0, values[at] + rng.choice((-10, -2, -1, 1, 2, 10))))
        rest = before + after
        made = rng.choice([(*before, changed, *after), rest, (*rest[:to], values[at], *rest[to:]), other])
        if made and made != values:
            return made


def hidden(problem: Problem) -> Problem:
    """The hidden tests of a problem that was drawn: other inputs, and what the program that it was drawn from makes of them."""
    rng, tests = random.Random(problem.text), dict[Values, Values]()
    while len(tests) < HIDDEN:
        given = _input(rng)
        if given not in problem.inputs and (wanted := run(problem.program, given)):
            tests[given] = wanted
    return Problem(problem.most, tuple(tests), tuple(tests.values()))


PROBES = [_input(random.Random(f"probe {number}")) for number in range(16)]
"""Inputs that tell programs apart in a vote, the same for all problems."""


SETS: dict[str, Callable[[random.Random], Problem]] = {
    "pocket-code": lambda rng: draw(rng.choice((2, 3)), rng),
    "pocket-code-hard": partial(draw, 4),
}


def training_problems(seed: int) -> Iterator[Problem]:
    """An endless stream of training problems, of two or three functions, one in five of four."""
    rng = random.Random(f"train code/{seed}")
    while True:
        if (problem := draw(4 if rng.random() < 0.2 else rng.choice((2, 3)), rng)).split == "train":
            yield problem


class PocketCode(Drawn):
    """The answer of a solution is its program, whatever its steps state; right is every one that passes the hidden tests, the reference.

    Programs that make the same of :data:`PROBES` are one vote.
    """

    name = "pocket-code"
    sets, draws = tuple(SETS), SETS
    parse, first_error = staticmethod(parse), staticmethod(first_error)
    rules = ("tests:public",)
    instruction = (
        "Write a program that turns the list on the left of each > into the one on its right. The number before the colon is the most "
        f"functions it may have, of {', '.join(FUNCTIONS)}; all numbers lie in 0 to 99, and no list is empty. Write one "
        "function a step, >, and what becomes of the first list, such as sort>2,5,7. Separate steps by a blank line."
    )

    def record(self, problem: Problem) -> dict:
        return {"problem": problem.text, "answer": hidden(problem).text}

    def prepared(self, row: dict, seed: int) -> dict:
        shown = tests = parse(row["problem"])
        with suppress(ValueError):
            tests = parse(row["answer"])
        if tests is shown:
            raise ValueError(f"the answer must be hidden tests, written as a problem is, say '2:7,2>4,14?'; given {row['answer']!r:.80}")
        if tests.most != shown.most:
            raise ValueError(f"the answer must allow as many functions as the problem, {shown.most}; given {tests.most}")
        if not can_reach(shown.inputs + tests.inputs, shown.outputs + tests.outputs, shown.most):
            raise ValueError(f"no program of at most {shown.most} functions does what the examples of the problem and the answer say")
        return row

    def answer(self, text: str) -> str | None:
        names = [_name(step) for step in self.split(text)]
        return ";".join(names) if names and all(name in FUNCTIONS for name in names) else None

    def value(self, answer: str) -> Hashable:
        return tuple(run(program_of(answer), probe) for probe in PROBES)

    def same(self, a: str, b: str) -> bool:
        return self.value(a) == self.value(b)

    def right(self, reference: str, answer: str) -> bool:
        return parse(reference).solved_by(program_of(answer))

    def readable(self, answer: str) -> bool:
        return all(name in FUNCTIONS for name in program_of(answer))

    def vote(self, row: Mapping, answer: str, right: bool) -> str:
        return answer

    def rule(self, name: str, problem: str, text: str) -> float:
        answer = self.answer(text)
        return float(answer is not None and parse(problem).solved_by(program_of(answer)))


def program_of(answer: str) -> Program:
    """The functions of an answer, ``sort;*2`` say."""
    return tuple(answer.split(";"))


def _name(step: str) -> str:
    return step.partition(">")[0]


def _listed(numbers: Values) -> str:
    return ",".join(map(str, numbers))


POCKET_CODE = PocketCode()
