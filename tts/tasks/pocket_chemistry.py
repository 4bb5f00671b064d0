"""Balancing chemical equations as a task: coefficients are hard to find, atoms are easy to count.

``C3H8+O2=CO2+H2O?`` asks for the smallest whole coefficients. A step chooses one compound, states its coefficient, counts its atoms, and
says how many atoms the left side has more by now: ``C3H8*1=C3H8``, ``-CO2*3=C3O6;H8O-6``, ``-H2O*4=H8O4;O-10``, ``O2*5=O10``. A minus in
front marks what stands on the right. The first step has nothing to add to, and the last one leaves nothing. The first coefficient has to
be guessed. Those that follow from it are easy, and a wrong guess shows only later: atoms are left over, or all coefficients have a common
factor.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, partial
from math import gcd, lcm
from os.path import commonprefix

from tts.tasks.base import Task
from tts.tasks.pocket_problems import first_problems, split_of
from tts.tasks.problems import check_drawn

LARGEST = {3: range(2, 13), 4: range(3, 13), 5: range(4, 21)}
"""What the largest coefficient of a problem of so many compounds may be."""
LONGEST = 25  # characters of a problem, but for the question mark
MOST_ATOMS = 99  # of an element on one side, so that no count in a solution has three digits
COMMON = """
H2 O2 O3 N2 F2 Cl2 Br2 I2 C S P Si B Na K Ca Mg Al Fe Cu Zn Mn Cr Pb Ag Ba Ti Sn Ni
H2O H2O2 CO CO2 SO2 SO3 NO NO2 N2O N2O5 P2O5 SiO2 B2O3 Cl2O7 Na2O Na2O2 K2O CaO MgO Al2O3 FeO Fe2O3 Fe3O4 CuO Cu2O ZnO MnO2 Cr2O3 CrO3
PbO PbO2 Ag2O BaO TiO2 SnO2 NiO CH4 C2H2 C2H4 C2H6 C3H8 C4H10 C6H6 C8H18 CH4O C2H6O C2H4O2 C6H12O6 C12H22O11 CS2 HCN NH3 N2H4 PH3 SiH4
B2H6 H2S HF HCl HBr HI H2SO4 H2SO3 HNO3 HNO2 H3PO4 H2CO3 HClO HClO3 HClO4 H3BO3 NaOH KOH Ca(OH)2 Mg(OH)2 Al(OH)3 Fe(OH)3 Cu(OH)2 Zn(OH)2
Ba(OH)2 NaCl KCl CaCl2 MgCl2 AlCl3 FeCl2 FeCl3 CuCl2 ZnCl2 MnCl2 CrCl3 PbCl2 AgCl BaCl2 TiCl4 SnCl4 SiCl4 PCl3 PCl5 CCl4 NaF CaF2 SiF4
BF3 NaBr KBr KI Na2S FeS FeS2 CuS Cu2S ZnS PbS Ag2S Mg3N2 CaC2 Al4C3 SiC Na2SO4 K2SO4 CaSO4 MgSO4 Al2(SO4)3 FeSO4 Fe2(SO4)3 CuSO4 ZnSO4
MnSO4 BaSO4 PbSO4 NaNO3 KNO3 Ca(NO3)2 Cu(NO3)2 AgNO3 Pb(NO3)2 Al(NO3)3 NH4Cl NH4NO3 (NH4)2SO4 Na2CO3 K2CO3 CaCO3 MgCO3 NaHCO3 Na3PO4
Ca3(PO4)2 KMnO4 K2MnO4 K2CrO4 K2Cr2O7 KClO3 KClO4 NaClO
""".split()
_WRITTEN = "K Na Ca Ba Mg Al Ti Cr Mn Fe Ni Cu Zn Sn Pb Ag Si B C N H P S I Br Cl O F".split()  # the order in generated formulae
_SUBSCRIPTS = (1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 8)  # of generated formulae, each as likely

_ATOM = r"[A-Z][a-z]?(?:[1-9]\d?)?"
_FORMULA = rf"(?:{_ATOM}|\((?:{_ATOM})+\)(?:[1-9]\d?)?)+"
_EQUATION = re.compile(rf"({_FORMULA}(?:\+{_FORMULA})*)=({_FORMULA}(?:\+{_FORMULA})*)\?", re.ASCII)
_STEP = re.compile(rf"(-?)({_FORMULA})\*([1-9]\d{{0,2}})=(?:[A-Z][a-z]?\d*)+(;(?:[A-Z][a-z]?-?\d*)+)?", re.ASCII)
Counts = Mapping[str, int]  # atoms of each element


@cache
def atoms(formula: str) -> dict[str, int]:
    """How many atoms of each element a formula has: ``Ca(OH)2`` has Ca 1, O 2, H 2."""
    counts: dict[str, int] = {}
    for element, number, group, times in re.findall(r"([A-Z][a-z]?)(\d*)|\(([^)]*)\)(\d*)", formula):
        for name, count in (atoms(group) if group else {element: 1}).items():
            counts[name] = counts.get(name, 0) + count * int(number or times or 1)
    return counts


def null_vector(formulae: Sequence[str]) -> list[int] | None:
    """Smallest whole factors, signed, with which the compounds' atoms sum to nothing; None unless unique up to a factor, and none is 0."""
    rows = [[atoms(f).get(element, 0) for f in formulae] for element in {e for f in formulae for e in atoms(f)}]
    pivots: list[int] = []
    for column in range(len(formulae)):  # Gauss-Jordan elimination in whole numbers: exact
        at = len(pivots)
        if (row := next((r for r in range(at, len(rows)) if rows[r][column]), None)) is not None:
            rows[at], rows[row] = rows[row], rows[at]
            pivot = rows[at]
            for r, other in enumerate(rows):
                if r != at and other[column]:
                    rows[r] = [pivot[column] * b - other[column] * a for a, b in zip(pivot, other)]
            pivots.append(column)
    free = set(range(len(formulae))) - set(pivots)
    if len(free) != 1:
        return None
    factors = [lcm(*(rows[r][column] for r, column in enumerate(pivots)))] * len(formulae)
    for r, column in enumerate(pivots):
        factors[column] = -rows[r][next(iter(free))] * factors[next(iter(free))] // rows[r][column]
    return [factor // gcd(*factors) for factor in factors] if all(factors) else None


def _compounds(formulae: Sequence[str]) -> str:
    return "+".join(sorted(formulae))


@dataclass(frozen=True)
class Equation:
    """The compounds of both sides. Its coefficients must be unique, which :func:`parse` checks."""

    left: tuple[str, ...]
    right: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"{'+'.join(self.left)}={'+'.join(self.right)}?"

    @property
    def split(self) -> str:
        return split_of(_compounds(self.left + self.right))  # in whatever order: they are one problem

    @cached_property
    def coefficients(self) -> dict[str, int]:
        """Of each compound, negative on the right; empty where the equation has no balance or several."""
        formulae = self.left + self.right
        factors = null_vector(formulae) or [0]
        signed = dict(zip(formulae, factors if factors[0] > 0 else [-factor for factor in factors]))
        fitting = len(signed) == len(formulae) and all((c > 0) == (formula in self.left) for formula, c in signed.items())
        return signed if fitting else {}


def parse(text: str) -> Equation:
    """The equation that ``text`` states; raises ``ValueError`` where it is none, or not exactly one balance of it exists."""
    if match := _EQUATION.fullmatch(text):
        equation = Equation(tuple(match[1].split("+")), tuple(match[2].split("+")))
        if equation.coefficients:
            return equation
        raise ValueError(f"no balance, or more than one, exists of {text[:80]!r}; give an equation that has one up to a factor")
    raise ValueError(f"not an equation to balance: {text[:80]!r}; expected compounds without coefficients, say 'C3H8+O2=CO2+H2O?'")


def after(balance: Counts, counted: Counts, times: int) -> dict[str, int]:
    """How many atoms more the left side has when so many times those counted are added to it; elements with none left out."""
    left = dict(balance)
    for element, count in counted.items():
        left[element] = left.get(element, 0) + times * count
    return {element: count for element, count in left.items() if count}


def first_error(equation: Equation, steps: Sequence[str]) -> tuple[int, int] | None:
    """Where a solution first goes wrong: ``(step, character)``, counted from 0, or None where every step is right.

    A step is right where its coefficient is that of the smallest whole solution, and what it says of the atoms is true. The character is
    the first that no right step shares, or the step's length where it stops short of one.
    """
    balance: dict[str, int] = {}
    missing = dict(equation.coefficients)
    for number, step in enumerate(steps):
        options = {}
        for formula, c in missing.items():
            left = after(balance, atoms(formula), c)
            options[_step(formula, c, after({}, atoms(formula), abs(c)), left if balance else {})] = formula, left
        if step not in options:
            return number, max((len(commonprefix([step, option])) for option in options), default=0)
        formula, balance = options[step]
        del missing[formula]
    return None


def solve(equation: Equation, rng: random.Random, wrong_at: int | None = None) -> list[str]:
    """A solution: next comes a compound that alone still can balance an element, where there is one, else any; drawn at random.

    At ``wrong_at`` a coefficient or, as often, a product or a sum is wrong. What follows from it does so as far as whole
    numbers allow, and the last step leaves nothing, as policies say. So a multiple of a first coefficient leaves a common factor.
    """
    balance: dict[str, int] = {}
    steps: list[str] = []
    missing, factor = dict(equation.coefficients), Fraction(1)
    while missing:
        able = {element: [f for f in missing if element in atoms(f)] for element in balance}
        forced = [(formulae[0], element) for element, formulae in able.items() if len(formulae) == 1]
        formula, element = rng.choice(forced or [(f, "") for f in missing])
        right = missing.pop(formula)
        sign = 1 if right > 0 else -1
        size = max(1, round(sign * (Fraction(-balance[element], atoms(formula)[element]) if element else right * factor)))
        slip = rng.choice(("coefficient", "coefficient", "product", "sum")) if len(steps) == wrong_at else ""
        if slip == "coefficient":
            near = [size + 1, size + 1, size + 2, 2 * size, 2 * size, 3 * size, size - 1, size - 1, size - 2, size // 2, rng.randint(1, 12)]
            size = rng.choice([other for other in near if other > 0 and other != size])
            factor = Fraction(size, abs(right))
        counted = after({}, atoms(formula), size)
        if slip == "product":
            _miscount(counted, rng)
        first, balance = not balance, after(balance, counted, sign)
        if slip == "sum" and balance:
            _miscount(balance, rng)
        steps.append(_step(formula, sign * size, counted, balance if missing and not first else {}))
    return steps


def _miscount(counts: dict[str, int], rng: random.Random) -> None:
    """Makes one of the counts wrong by one or two."""
    element, by = rng.choice(list(counts)), rng.choice((-2, -1, 1, 2))
    counts[element] += by if (counts[element] + by) * counts[element] > 0 else -by


@cache
def _common(elements: frozenset[str]) -> list[str]:
    return [formula for formula in COMMON if atoms(formula).keys() <= elements]


def _generated(elements: frozenset[str], rng: random.Random) -> str:
    """A formula of two or three of the elements."""
    chosen = sorted(rng.sample(sorted(elements), min(len(elements), rng.choice((2, 2, 2, 3)))), key=_WRITTEN.index)
    return "".join(element + (str(number) if (number := rng.choice(_SUBSCRIPTS)) > 1 else "") for element in chosen)


def draw(count: int, rng: random.Random, split: str = "") -> Equation:
    """An equation, of one split where it is given, of ``count`` compounds over the elements of two or three common ones.

    Some of the compounds are common, the others generated.
    """
    while True:
        elements = frozenset().union(*(atoms(rng.choice(COMMON)) for _ in range(rng.choice((2, 2, 3)))))
        fewer = rng.random() < 0.7  # so many elements as compounds balance only where some go together, as in common compounds
        if len(elements) != count - fewer:
            continue
        share = rng.choice((0, 0.3, 0.6, 0.9)) if fewer else 1
        formulae = [rng.choice(_common(elements)) if rng.random() < share else _generated(elements, rng) for _ in range(count)]
        if len("+".join(formulae)) > LONGEST or split not in ("", split_of(_compounds(formulae))):
            continue
        factors = null_vector(formulae)
        if factors is None or max(map(abs, factors)) not in LARGEST[count]:
            continue
        sign = rng.choice((1, -1))
        left, right = (tuple(f for f, factor in zip(formulae, factors) if side * factor > 0) for side in (sign, -sign))
        if max(sum(abs(c) * atoms(f).get(e, 0) for f, c in zip(formulae, factors)) for e in elements) <= 2 * MOST_ATOMS:
            return Equation(left, right)


SETS = {"pocket-chemistry": partial(draw, 4), "pocket-chemistry-hard": partial(draw, 5)}


def training_problems(seed: int) -> Iterator[Equation]:
    """An endless stream of training problems: seven in ten of four compounds, two of five, one of three."""
    rng = random.Random(f"train chemistry/{seed}")
    while True:
        yield draw(rng.choice((3, 4, 4, 4, 4, 4, 4, 4, 5, 5)), rng, "train")


def stated(steps: Sequence[str]) -> dict[str, int] | None:
    """The coefficients that a whole solution states, negative on the right; None where it is none or settles a compound twice."""
    coefficients: dict[str, int] = {}
    for number, step in enumerate(steps):
        match = _STEP.fullmatch(step)
        if not match or match[2] in coefficients or (match[4] is None) != (number in (0, len(steps) - 1)):
            return None
        coefficients[match[2]] = int(match[1] + match[3])
    return coefficients if len(coefficients) > 1 else None


def balanced(coefficients: Mapping[str, int]) -> str:
    """The equation with its coefficients: ``C3H8+5O2=3CO2+4H2O``, each side in alphabetical order."""
    terms = [(c > 0, f"{abs(c) if abs(c) > 1 else ''}{formula}") for formula, c in sorted(coefficients.items())]
    return "=".join("+".join(term for left, term in terms if left == side) for side in (True, False))


class PocketChemistry(Task):
    """The answer of a solution is the balanced equation, so votes are by coefficients; one only is right."""

    name = "pocket-chemistry"
    sets = tuple(SETS)
    rules = ("atoms",)
    instruction = (
        "Balance the equation with the smallest whole coefficients. In each step choose a compound that was not chosen yet, and write it, "
        "an asterisk, its coefficient, an equals sign and its atoms, with a minus in front where it stands on the right; from the second "
        "step on also a semicolon, and how many atoms of each element the left side has more so far, such as C3H8*1=C3H8 and then "
        "-CO2*3=C3O6;H8O-6. Separate steps by a blank line. The last step leaves no atoms: O2*5=O10"
    )

    def load(self, name: str, count: int | None, split: str, seed: int) -> tuple[list[dict], str]:
        check_drawn(name, count, split)
        equations = first_problems(SETS[name], name, split, count or 200)
        return [{"problem": e.text, "answer": balanced(e.coefficients)} for e in equations], f"{name}-{split}"

    def prepared(self, row: dict, seed: int) -> dict:
        if self.normal(row["answer"]) != (right := balanced(parse(row["problem"]).coefficients)):
            raise ValueError(f"the answer {row['answer']!r:.80} is not the balanced equation, which is {right}")
        return row

    def answer(self, text: str) -> str | None:
        coefficients = stated(self.split(text))
        return balanced(coefficients) if coefficients else None

    def normal(self, answer: str) -> str:
        """Without blanks, each side in alphabetical order; ``->`` is ``=``."""
        sides = answer.replace(" ", "").replace("->", "=").split("=")
        return "=".join("+".join(sorted(side.split("+"), key=lambda term: term.lstrip("0123456789"))) for side in sides)

    def check_steps(self, problem: str, steps: Sequence[str]) -> int | None:
        try:
            error = first_error(parse(problem), steps)
        except ValueError:
            return None
        return len(steps) if error is None else error[0]

    def rule(self, name: str, problem: str, text: str) -> float:
        """``atoms``: 1 where the coefficients balance every element of the problem and have no common factor, else 0."""
        if name not in self.rules:
            raise ValueError(f"{self.name} has no rule {name!r}; it has {', '.join(self.rules)}")
        match, coefficients = _EQUATION.fullmatch(problem), stated(self.split(text)) or {}
        balance: dict[str, int] = {}
        for formula, c in coefficients.items():
            balance = after(balance, atoms(formula), c)
        sides = [{formula for formula, c in coefficients.items() if (c > 0) == left} for left in (True, False)]
        same = match and sides == [set(side.split("+")) for side in match.groups()]
        return float(bool(same) and not balance and gcd(*coefficients.values()) == 1)


def _step(formula: str, coefficient: int, counted: Counts, balance: Counts) -> str:
    """A step's text; an empty ``balance`` is not written."""
    atoms_counted, left = ("".join(f"{element}{n if n != 1 else ''}" for element, n in counts.items()) for counts in (counted, balance))
    return f"{'-' if coefficient < 0 else ''}{formula}*{abs(coefficient)}={atoms_counted}" + (f";{left}" if left else "")


POCKET_CHEMISTRY = PocketChemistry()
