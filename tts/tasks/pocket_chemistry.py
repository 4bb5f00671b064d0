"""Balancing chemical equations as a task: coefficients are hard to find, atoms are easy to count.

``aC3H8+bO2=cCO2+dH2O?`` asks for the smallest whole numbers that the letters stand for. A step settles one of them. Where it is the last
one of an element, the step begins with the element's atoms that the others leave to it: ``a1``, ``C3=c3``, ``H8=d4``, ``O10=b5``. So the
first coefficient has to be guessed, those that follow from it are easy, and a wrong guess shows only later: atoms do not divide, an
element does not balance, or all coefficients have a common factor.

Elements have one letter, numbers in formulae one digit, and steps name compounds by letters, since the smallest policies copy no formula.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from math import gcd, lcm
from os.path import commonprefix

from tts.tasks.drawn import Drawn
from tts.tasks.pocket_problems import split_of

MOST_ATOMS = 30  # of an element on one side
LETTERS = "abcdefgh"
COMMON = """
H2 O2 O3 N2 F2 I2 C S P K B S8 P4 H2O H2O2 CO CO2 SO2 SO3 NO NO2 N2O N2O3 N2O4 N2O5 P2O3 P2O5 B2O3 I2O5 K2O K2O2 KO2 CH4 C2H2 C2H4 C2H6
C3H4 C3H6 C3H8 C4H6 C4H8 C6H6 C7H8 CH4O C2H6O C3H8O CH2O C2H4O C3H6O CH2O2 C2H4O2 CS2 COS CF4 HCN C2N2 NH3 N2H4 HN3 NF3 PH3 P2H4 B2H6
H2S HF HI HFO PF3 PF5 PI3 SF4 SF6 BF3 BI3 IF5 IF7 OF2 BN BP H2SO4 H2SO3 HNO3 HNO2 H3PO4 H3PO3 H2CO3 H3BO3 HIO3 HIO4 KOH KH KF KI K2S
K2SO4 K2SO3 KNO3 KNO2 K2CO3 KHCO3 K3PO4 KIO3 KIO4 KCN KSCN
""".split()
WRITTEN = "KBCPNHSIOF"  # the order of elements in generated formulae
_SUBSCRIPTS = (1, 1, 1, 2, 2, 3, 4)  # of generated formulae, each as likely

_STEP = re.compile(r"(?:[A-Z]\d+=)?([a-h])([1-9]\d{0,2})", re.ASCII)


@cache
def atoms(formula: str) -> dict[str, int]:
    """How many atoms of each element a formula has: ``C2H4O2`` has C 2, H 4, O 2, and ``HCOOH`` C 1, H 2, O 2."""
    counts: dict[str, int] = {}
    for element, number in re.findall(r"([A-Z])(\d?)", formula):
        counts[element] = counts.get(element, 0) + int(number or 1)
    return counts


def null_vector(columns: Sequence[Mapping[str, int]]) -> list[int] | None:
    """Smallest whole factors with which the compounds' atoms sum to nothing, the first above 0; None unless unique, and none is 0."""
    rows = [[column.get(element, 0) for column in columns] for element in {e for column in columns for e in column}]
    pivots: list[int] = []
    for column in range(len(columns)):  # Gauss-Jordan elimination in whole numbers: exact
        at = len(pivots)
        if (row := next((r for r in range(at, len(rows)) if rows[r][column]), None)) is not None:
            rows[at], rows[row] = rows[row], rows[at]
            pivot = rows[at]
            for r, other in enumerate(rows):
                if r != at and other[column]:
                    rows[r] = [pivot[column] * b - other[column] * a for a, b in zip(pivot, other)]
            pivots.append(column)
    if len(pivots) != len(columns) - 1:
        return None
    (free,) = set(range(len(columns))) - set(pivots)
    factors = [lcm(*(rows[r][column] for r, column in enumerate(pivots)))] * len(columns)
    for r, column in enumerate(pivots):
        factors[column] = -rows[r][free] * factors[free] // rows[r][column]
    common = gcd(*factors) if factors[0] > 0 else -gcd(*factors)
    return [factor // common for factor in factors] if all(factors) else None


@dataclass(frozen=True)
class Equation:
    """The compounds of both sides. Its coefficients must be unique, which :func:`parse` checks."""

    left: tuple[str, ...]
    right: tuple[str, ...]

    @property
    def text(self) -> str:
        terms = [letter + formula for letter, formula in zip(LETTERS, self.left + self.right)]
        return f"{'+'.join(terms[: len(self.left)])}={'+'.join(terms[len(self.left) :])}?"

    @property
    def split(self) -> str:
        """Of the compounds alone, so that no held-out problem can be trained on in another order."""
        return split_of("+".join(sorted(self.left + self.right)))

    @cached_property
    def atoms(self) -> dict[str, dict[str, int]]:
        """Of each letter's compound; negative on the right."""
        right = [{element: -count for element, count in atoms(formula).items()} for formula in self.right]
        return dict(zip(LETTERS, [*map(atoms, self.left), *right]))

    @cached_property
    def coefficients(self) -> dict[str, int]:
        """What each letter stands for; empty where the equation has no balance or several."""
        factors = null_vector(list(self.atoms.values())) or [0]
        return dict(zip(self.atoms, factors)) if min(factors) > 0 else {}

    def surplus(self, element: str, coefficients: Mapping[str, int]) -> int:
        """How many of the element's atoms the left side has more, with these coefficients; a letter without one counts nothing."""
        return sum(coefficient * self.atoms[letter].get(element, 0) for letter, coefficient in coefficients.items())


def parse(text: str) -> Equation:
    """The equation that ``text`` states; raises ``ValueError`` where it is none, or not exactly one balance of it exists."""
    left, _, right = re.sub("[a-h]", "", text.removesuffix("?")).partition("=")
    equation = Equation(tuple(left.split("+")), tuple(right.split("+")))
    if equation.text != text or not all(re.fullmatch("([A-Z][2-9]?)+", formula, re.ASCII) for formula in equation.left + equation.right):
        raise ValueError(
            f"not an equation to balance: {text[:80]!r}; expected formulae of one-letter elements after the letters a, b, c, ..., say "
            "'aC3H8+bO2=cCO2+dH2O?'"
        )
    if equation.coefficients:
        return equation
    raise ValueError(f"no balance, or more than one, exists of {text[:80]!r}; give an equation that has one up to a factor")


def first_error(equation: Equation, steps: Sequence[str]) -> tuple[int, int] | None:
    """Where a solution first goes wrong: ``(step, character)``, counted from 0, or None where every step is right.

    A step is right where its coefficient is that of the smallest whole solution, and what it says of an element is true. The character is
    the first that no right step shares, or the step's length where it stops short of one.
    """
    missing = dict(equation.coefficients)
    for number, step in enumerate(steps):
        options = {letter + str(c): letter for letter, c in missing.items()}
        options |= {f"{e}{c * abs(n)}={letter}{c}": letter for letter, c in missing.items() for e, n in equation.atoms[letter].items()}
        if step not in options:
            return number, max((len(commonprefix([step, option])) for option in options), default=0)
        del missing[options[step]]
    return None


def solve(equation: Equation, rng: random.Random, wrong_at: int | None = None) -> list[str]:
    """A solution: next comes a letter of an element that has the fewest left, drawn at random.

    At ``wrong_at`` a coefficient or, as often, a count of atoms is wrong, or another letter is taken. What follows from it does so as far
    as whole numbers allow. So a multiple of a first coefficient leaves a common factor.
    """
    settled: dict[str, int] = {}
    steps: list[str] = []
    while missing := [letter for letter in equation.atoms if letter not in settled]:
        able = {element: [m for m in missing if element in equation.atoms[m]] for m in missing for element in equation.atoms[m]}
        fewest = min(map(len, able.values()))
        letter, element = rng.choice([(m, element) for element, letters in able.items() if len(letters) == fewest for m in letters])
        slips = ("coefficient", "count", "letter") if fewest == 1 else ("coefficient",)
        slip = rng.choice(slips) if len(steps) == wrong_at else ""
        if slip == "letter":
            letter = rng.choice(missing)
        size, count = equation.coefficients[letter], abs(equation.surplus(element, settled)) or 1
        if slip == "count":
            count = max(1, count + rng.choice((-2, -1, 1, 2)))
        if fewest == 1:
            size = round(count / abs(equation.atoms[letter].get(element, 1))) or 1
        if slip == "coefficient":
            near = [size + 1, size + 1, size + 2, 2 * size, 2 * size, 3 * size, size - 1, size - 1, size - 2, size // 2, rng.randint(1, 6)]
            size = rng.choice([other for other in near if other > 0 and other != size])
        settled[letter] = size
        steps.append(f"{element}{count}={letter}{size}" if fewest == 1 else f"{letter}{size}")
    return steps


@cache
def _common(elements: frozenset[str]) -> list[str]:
    return [formula for formula in COMMON if atoms(formula).keys() <= elements]


def _generated(elements: frozenset[str], rng: random.Random) -> str:
    """A formula of two of the elements."""
    chosen = sorted(rng.sample(sorted(elements), 2), key=WRITTEN.index)
    return "".join(element + (str(number) if (number := rng.choice(_SUBSCRIPTS)) > 1 else "") for element in chosen)


def draw(kinds: Mapping[int, range], rng: random.Random) -> Equation:
    """An equation over the elements of a common compound and one more; some of its compounds are common, the others generated.

    ``kinds`` are numbers of compounds, each as likely, with what the largest coefficient may be. The same compounds have one order only.
    """
    count, largest = rng.choice(list(kinds.items()))
    while True:
        elements = frozenset(rng.choice(WRITTEN)).union(atoms(rng.choice(COMMON)))
        if not count - 1 <= len(elements) <= count:
            continue
        # So many elements as compounds balance only where some go together, as in common compounds.
        share = rng.choice((0.3, 0.6, 0.9)) if len(elements) < count else 1
        formulae = sorted(rng.choice(_common(elements)) if rng.random() < share else _generated(elements, rng) for _ in range(count))
        factors = null_vector([atoms(formula) for formula in formulae])
        if factors is None or max(map(abs, factors)) not in largest:
            continue
        if all(sum(abs(c) * atoms(f).get(e, 0) for f, c in zip(formulae, factors)) <= 2 * MOST_ATOMS for e in elements):
            return Equation(*(tuple(f for f, factor in zip(formulae, factors) if (factor > 0) == left) for left in (True, False)))


SETS = {
    "pocket-chemistry": partial(draw, {3: range(2, 7), 4: range(2, 7)}),
    "pocket-chemistry-hard": partial(draw, {4: range(7, 13), 5: range(4, 13)}),
}


def training_problems(seed: int) -> Iterator[Equation]:
    """An endless stream of training problems, one in five as of the harder set."""
    rng = random.Random(f"train chemistry/{seed}")
    while True:
        if (equation := rng.choices(list(SETS.values()), (4, 1))[0](rng)).split == "train":
            yield equation


def stated(coefficients: Mapping[str, int]) -> str:
    """An answer's text: ``a1,b5,c3,d4``."""
    return ",".join(f"{letter}{c}" for letter, c in sorted(coefficients.items()))


class PocketChemistry(Drawn):
    """The answer of a solution is its coefficients, so votes are by them; one only is right."""

    name = "pocket-chemistry"
    sets, draws = tuple(SETS), SETS
    parse, first_error = staticmethod(parse), staticmethod(first_error)
    rules = ("atoms",)
    instruction = (
        "Find the smallest whole numbers that the letters stand for, so that the equation is balanced. Settle one letter in a step, such "
        "as a1. Where it is the last letter of an element, write before it the element, its atoms in that compound, and an equals sign, "
        "such as C3=c3. Separate steps by a blank line"
    )

    def record(self, equation: Equation) -> dict:
        return {"problem": equation.text, "answer": stated(equation.coefficients)}

    def prepared(self, row: dict, seed: int) -> dict:
        if self.normal(row["answer"]) != (right := stated(parse(row["problem"]).coefficients)):
            raise ValueError(f"the answer {row['answer']!r:.80} does not balance the equation; {right} does")
        return row

    def normal(self, answer: str) -> str:
        """Without blanks, in alphabetical order."""
        return ",".join(sorted(answer.replace(" ", "").split(",")))

    def answer(self, text: str) -> str | None:
        """None where a step is none, a letter comes twice, or one is left out before the last."""
        matches = [_STEP.fullmatch(step) for step in self.split(text)]
        coefficients = {match[1]: int(match[2]) for match in matches if match}
        return stated(coefficients) if matches and "".join(sorted(coefficients)) == LETTERS[: len(matches)] else None

    def rule(self, name: str, problem: str, text: str) -> float:
        """``atoms``: 1 where the coefficients balance every element of the problem and have no common factor, else 0."""
        if name not in self.rules:
            raise ValueError(f"{self.name} has no rule {name!r}; it has {', '.join(self.rules)}")
        answer = self.answer(text)
        try:
            equation = parse(problem)
        except ValueError:
            return 0.0
        coefficients = {term[0]: int(term[1:]) for term in answer.split(",")} if answer else {}
        if coefficients.keys() != equation.atoms.keys() or gcd(*coefficients.values()) > 1:
            return 0.0
        return float(not any(equation.surplus(element, coefficients) for column in equation.atoms.values() for element in column))


POCKET_CHEMISTRY = PocketChemistry()
