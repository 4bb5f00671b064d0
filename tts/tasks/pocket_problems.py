"""Pocket problems: arithmetic whose every step can be checked exactly.

Two families share one representation, an expression tree:

- ``chain``: operations applied one after the other, written ``47,+38,*3,-19=?``;
- ``tree``: a parenthesised expression, written ``(12+7)*(9-4)=?``, in which any sub-expression of two numbers may come next.

A solution is a list of steps. A *terse* step is ``47+38=85``; a *verbose* one also restates what is left, ``47+38=85;85,*3,-19``. The
last step is ``\\boxed{236}``. All numbers lie in 0..999.
"""

from __future__ import annotations

import ast
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from os.path import commonprefix
from typing import Any, Literal

Style = Literal["terse", "verbose"]
Family = Literal["chain", "tree"]

LARGEST = 999
OPERAND_SCALES = (9, 20, 50, 99)
STYLES: tuple[Style, ...] = ("terse", "verbose")

# One problem in 16 belongs to each of these.
HELD_OUT = ("development", "selection", "test")
# Splits that are drawn anew from the selection bucket, each without the first problems of the splits that were opened before it.
_AGAIN = {"confirmation": ("selection",), "confirmation-2": ("selection", "confirmation")}
OPENED = 1000  # those first problems; studies had seen 300 of either set, or fewer

_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}


@dataclass(frozen=True)
class Node:
    """An operation on two sub-expressions; a leaf is a plain ``int``."""

    op: str
    left: Node | int
    right: Node | int


@dataclass(frozen=True)
class PocketProblem:
    """A problem, whose family says how its expression is written, and whether the order of its steps is free."""

    family: Family
    expression: Node

    @property
    def text(self) -> str:
        return render_state(self.expression, self.family) + "=?"

    @property
    def answer(self) -> str:
        return str(value(self.expression))

    @property
    def operations(self) -> int:
        """Number of operations, which is the number of steps before the boxed answer."""
        return sum(character in "+-*" for character in self.text)

    @property
    def split(self) -> str:
        return split_of(self.text)


def split_of(text: str) -> str:
    """The split that a problem belongs to, which follows from its text alone, so that no held-out problem can be trained on."""
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 16
    return HELD_OUT[bucket] if bucket < len(HELD_OUT) else "train"


def apply(op: str, left: int, right: int) -> int:
    return left + right if op == "+" else left - right if op == "-" else left * right


def value(expression: Node | int) -> int:
    if isinstance(expression, int):
        return expression
    return apply(expression.op, value(expression.left), value(expression.right))


def render_state(expression: Node | int, family: Family) -> str:
    """The expression as its family writes it."""
    if isinstance(expression, int):
        return str(expression)
    if family == "chain":
        return f"{render_state(expression.left, family)},{expression.op}{expression.right}"
    sides = (f"({render_state(s, family)})" if isinstance(s, Node) else str(s) for s in (expression.left, expression.right))
    return expression.op.join(sides)


def reductions(expression: Node | int, believed: int | None = None) -> Iterator[tuple[str, Node | int]]:
    """Each operation that can be worked out now, as ``("47+38=85", what is left)``, left to right; with ``believed`` as its result."""
    if isinstance(expression, int):
        return
    left, right = expression.left, expression.right
    if isinstance(left, int) and isinstance(right, int):
        result = apply(expression.op, left, right) if believed is None else believed
        yield f"{left}{expression.op}{right}={result}", result
    for equation, rest in reductions(left, believed):
        yield equation, Node(expression.op, rest, right)
    for equation, rest in reductions(right, believed):
        yield equation, Node(expression.op, left, rest)


def valid_steps(expression: Node | int, family: Family) -> dict[str, Node | int]:
    """Every valid next step's text, with the expression that it leaves."""
    if isinstance(expression, int):
        return {f"\\boxed{{{expression}}}": expression}
    return {step_text(equation, rest, family, style): rest for equation, rest in reductions(expression) for style in STYLES}


def step_text(equation: str, rest: Node | int, family: Family, style: Style) -> str:
    return equation if style == "terse" else f"{equation};{render_state(rest, family)}"


def first_error(problem: PocketProblem, steps: Sequence[str]) -> tuple[int, int] | None:
    """Where a solution first goes wrong: ``(step, character)``, counted from 0, or None where every step is valid.

    The character is the first that no valid step shares, or the step's length where it stops short of one. Steps after an answer are wrong.
    """
    state: Node | int = problem.expression
    finished = False
    for number, step in enumerate(steps):
        options = {} if finished else valid_steps(state, problem.family)
        if step not in options:
            return number, max((len(commonprefix([step, option])) for option in options), default=0)
        finished = isinstance(state, int)
        state = options[step]
    return None


def parse(text: str) -> PocketProblem:
    """The problem that ``text`` states; raises ``ValueError`` where it is not a pocket problem."""
    expression, *operations = text.removesuffix("=?").split(",")
    for operation in operations:
        expression = f"({expression}){operation}"
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        tree = _tree(ast.parse(expression, mode="eval").body)
        if isinstance(tree, Node) and (problem := PocketProblem("chain" if operations else "tree", tree)).text == text:
            return problem  # else written otherwise, say without its parentheses
    raise ValueError(f"not a pocket problem: {text[:80]!r}; expected, say, '47,+38,*3=?' or '(12+7)*(9-4)=?'")


def _tree(parsed: ast.expr) -> Node | int:
    match parsed:
        case ast.BinOp() if type(parsed.op) in _OPERATORS:
            return Node(_OPERATORS[type(parsed.op)], _tree(parsed.left), _tree(parsed.right))
        case ast.Constant(value=int(number)) if number <= LARGEST:
            return number
    raise ValueError


def _random_chain(operations: int, scale: int, rng: random.Random) -> Any:
    """The expression of a chain of ``operations`` steps with operands up to ``scale`` (factors up to 9)."""
    current = rng.randint(1, scale)
    state: Any = current
    while operations:
        op = rng.choice("+-*")
        operand = rng.randint(2, 9) if op == "*" else rng.randint(1, scale)
        result = apply(op, current, operand)
        if 0 <= result <= LARGEST and not (op == "*" and current < 2):
            state, current, operations = Node(op, state, operand), result, operations - 1
    return state


def _random_tree(operations: int, scale: int, rng: random.Random) -> Any:
    """A parenthesised expression of ``operations`` operations; one side of every product is at most 9."""
    if operations == 0:
        return rng.randint(1, scale)
    left_operations = rng.randrange(operations)
    while True:
        left = _random_tree(left_operations, scale, rng)
        right = _random_tree(operations - 1 - left_operations, scale, rng)
        a, b = value(left), value(right)
        ops = [op for op in "+-*" if 0 <= apply(op, a, b) <= LARGEST and not (op == "*" and not 2 <= min(a, b) <= 9)]
        if ops:
            return Node(rng.choice(ops), left, right)


def _chain_or_tree(scales: Sequence[int], chain: tuple[int, int], tree: tuple[int, int], rng: random.Random) -> PocketProblem:
    """A chain, in two of three cases, or a tree; each with its least and most operations."""
    scale = rng.choice(scales)
    if rng.random() < 2 / 3:
        return PocketProblem("chain", _random_chain(rng.randint(*chain), scale, rng))
    return PocketProblem("tree", _random_tree(rng.randint(*tree), scale, rng))


# A problem of the main set, and a long one for training, with large operands.
random_main = partial(_chain_or_tree, OPERAND_SCALES, (1, 8), (2, 6))
random_long = partial(_chain_or_tree, OPERAND_SCALES[2:], (8, 9), (6, 7))


def random_hard(rng: random.Random) -> PocketProblem:
    """One problem of the harder set: trees of 6 operations with large operands, hard for all policies but the largest."""
    return PocketProblem("tree", _random_tree(6, rng.choice(OPERAND_SCALES[2:]), rng))


SETS: dict[str, Callable[[random.Random], PocketProblem]] = {"pocket-main": random_main, "pocket-hard": random_hard}


@cache
def first_problems(draw: Callable[[random.Random], Any], name: str, split: str, count: int) -> tuple[Any, ...]:
    """The first ``count`` distinct problems of a set's split, of those that ``draw`` gives, each with its ``text`` and ``split``.

    The splits ``confirmation`` and ``confirmation-2`` are of problems of the selection split, drawn anew, but for the first
    :data:`OPENED` of each split before them.
    """
    rng, before = random.Random(f"{split} of {name}"), _AGAIN.get(split, ())
    opened = {problem.text for earlier in before for problem in first_problems(draw, name, earlier, OPENED)}
    drawn: dict[str, Any] = {}
    while len(drawn) < count:
        problem = draw(rng)
        if problem.split == ("selection" if before else split) and problem.text not in opened:
            drawn.setdefault(problem.text, problem)
    return tuple(drawn.values())


def training_problems(seed: int) -> Iterator[PocketProblem]:
    """An endless stream of training problems, one in ten of them long."""
    rng = random.Random(f"train/{seed}")
    while True:
        problem = random_long(rng) if rng.random() < 0.1 else random_main(rng)
        if problem.split == "train":
            yield problem
