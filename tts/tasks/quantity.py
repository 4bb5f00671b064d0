r"""Numbers with units: right within a relative tolerance after conversion (pint), as SciBench judges numbers (Wang et al. 2024).

A file's record has ``answer``, a number with or without its unit (``12.5 kJ/mol``), perhaps ``unit`` apart, of which the problem is then
told, and perhaps ``tolerance``, a share of the answer (0.05 unless given). The stored answer holds all of it: ``12.5 kJ/mol within 5 %``.
"""

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any, NamedTuple

from tts.tasks.maths import SYSTEM_PROMPT, Maths
from tts.tasks.published import Published, PublishedSet, load

TOLERANCE = 0.05  # SciBench's
SCIBENCH = "scibench:chemistry"
_SOURCES = ("atkins", "chemmc", "quan", "matter")  # its books of chemistry


def _scibench(row: dict) -> dict:
    unit = str(row.get("unit") or "")
    category = "chemistry" if row.get("source") in _SOURCES else str(row.get("source"))
    if category == "chemistry" and _read(_plain(f"1 {unit}")) is None:
        category = "unreadable"  # two of them: kPA, and a sentence
    return {"problem": row.get("problem_text"), "answer": row.get("answer_number"), "unit": unit, "category": category}


# The commit as a public evaluation records it; nobody could ask the Hub when this was written.
SETS = {
    "scibench": PublishedSet(
        [Published("xw27/scibench", "93931252bc1b71d495e67390235940643d926958", f"{source}.json") for source in _SOURCES], _scibench
    )
}

# From LaTeX and Unicode to "1.2*10^-3 kJ mol^-1", in this order.
_SIGNS = dict(zip(r"\times \ast × ℃ \mathring{A} \AA \mu μ \Omega \% − –".split(), "* * * °C Å Å µ µ Ω % - -".split()))
_REWRITTEN = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=\d)(?:\\[,!]|\{,\}|[\u2009\u202f])+(?=\d{3})", ""),
        (r"\^\s*\{\s*([-+−–]?\d+)\s*\}", r"^\1 "),
        (r"\\[dtc]?frac\s*\{((?:[^{}]|\{[^{}]*\})*)\}\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1/(\2)"),
        (r"\\(?:text|math)(?:rm|bf|it|up|sf|tt|normal)?(?![a-zA-Z])|\\(?:SI|si|unit|qty|operatorname|boldsymbol|rm)(?![a-zA-Z])", " "),
        (r"\\(?:left|right|displaystyle|q?quad|cdot)(?![a-zA-Z])|\\[,;:! ()\[\]]|[~$·⋅∙\[\]]", " "),
        ("|".join(map(re.escape, _SIGNS)), lambda found: _SIGNS[found[0]]),
        (r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", lambda found: "^" + found[0].translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+"))),
        (r"\^?\s*\{?\s*\\circ\s*\}?|°|\\?\bdegrees?\b", " deg "),
        (r"[{}]", " "),
        (r"\s*(?:\*\*|\^)\s*", "^"),
        (r"\bper ?cent\b", "%"),
        (r"\bper\b", "/"),
        (r"µ\s+", "µ"),
        (r"\bdeg\s+([CF])(?:elsius)?\b", r"deg\1"),
        (r"\bK(?=J|cal|Pa)", "k"),
        (r"^.*(?:=|≈|\\approx|\\simeq?)", ""),
        (r"^\s*([-+]?)(?=10\s*\^)", r"\g<1>1*"),
        (r"\s+", " "),
    )
]
_number = re.compile(
    r"([-+]? ?(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?)"
    r"(?: ?/ ?\(?(\d+(?:\.\d+)?)\)?)?(?: ?[*xX]? ?10 ?\^ ?\(?([-+]?\d{1,3})\)?)?(?: ?(?:\\pm|±|\+/-) ?[\d.]+)?"
).match
_FACTOR = re.compile(r"(/ ?\(|[/()])|([^\W\d_]+|%)(?:\^? ?(?:([-+]?\d{1,2})|\(([-+]?\d{1,2})\))(?!\d))?|([^\s.*])")
_TOLD = "The unit of the answer is"
_COUNTED = re.compile("(?:photon|electron|molecule|atom|ion|particle)s?")  # things, which have no unit
# As LaTeX without a blank gives them, and what pint takes for something else.
_NAMES = {"%": "percent", "JK": "J K", "kJK": "kJ K", "Js": "J s", "Nm": "N m"}


class Unit(NamedTuple):
    scale: float  # ``value`` of it are ``scale * value + offset`` in base units
    offset: float
    dimensions: Any  # pint's


class Amount(NamedTuple):
    value: float
    unit: Unit | None  # None where none is given


@lru_cache(maxsize=100_000)
def _plain(text: str) -> str:
    for pattern, replacement in _REWRITTEN:
        text = pattern.sub(replacement, text)
    return text.strip().rstrip(".,;")


@lru_cache(maxsize=100_000)
def _read(text: str) -> Amount | None:
    """The amount that a plain text gives; None where it is no number, or pint does not know its unit."""
    if not (number := _number(text)):
        return None
    try:
        unit = _unit(text[number.end() :])
        value = float(number[1].replace(",", "").replace(" ", "")) / float(number[2] or 1) * 10.0 ** int(number[3] or 0)
    except (ValueError, ArithmeticError):
        return None
    return Amount(value, unit) if math.isfinite(value) and (unit is None or math.isfinite(unit.scale)) else None


@lru_cache(maxsize=10_000)
def _unit(text: str) -> Unit | None:
    """The unit of a text, None for a blank one; ``ValueError`` for an unknown one. J/mol K is J/(mol K), and J/(mol) K is J K/mol."""
    below, depth, within = False, 0, 0
    factors: list[tuple[Unit, int]] = []
    for sign, name, power, bracketed, other in _FACTOR.findall(text):
        if other or len(factors) > 12:
            raise ValueError(f"no unit: {text}")
        depth += ("(" in sign) - (sign == ")")
        below, within = (True, depth) if "/" in sign else (below and depth >= within, within)
        for single, exponent in zip(_NAMES.get(name, name).split()[::-1], (int(power or bracketed or 1), 1)):
            factors.append((_known(single), -exponent if below and exponent > 0 else exponent))
    if not factors:
        return None
    if factors[1:] or factors[0][1] != 1:  # in products, as in J/°C, a temperature is a difference
        factors = [(unit._replace(offset=0.0), exponent) for unit, exponent in factors]
    dimensions = math.prod((unit.dimensions**exponent for unit, exponent in factors), start=factors[0][0].dimensions ** 0)
    return Unit(math.prod(unit.scale**exponent for unit, exponent in factors), factors[0][0].offset, dimensions)


@cache
def _known(name: str) -> Unit:
    """A unit by its name or symbol; ``ValueError`` where pint does not know it. Only single names are given to pint, never expressions."""
    import pint  # takes a second

    units = pint.get_application_registry()
    for spelling in ("dimensionless" if _COUNTED.fullmatch(name) else name, name.lower() if len(name) > 3 else name):  # Kelvin, Torr
        with suppress(Exception):  # pint raises many kinds
            offset, one = (units.Quantity(value, spelling).to_base_units().magnitude for value in (0.0, 1.0))
            return Unit(one - offset, offset, units.Unit(spelling).dimensionality)
    raise ValueError(f"no unit: {name}")


class Quantity(Maths):
    """A number is right within the reference's tolerance, a share of the reference, in its unit; one without a unit is taken to have it.

    If either has none, both readings of per cent and the like count: 88 % gives 88 and 0.88. Other units then do not matter.

    Being close is not transitive, so two answers are one vote where they agree to three significant digits in base units, right or
    wrong, and whatever the reference is; in a vote, one without a unit has the reference's only where the problem tells it. An answer
    whose unit does not fit is wrong.
    """

    name = "quantity"
    # 2: the tolerance was of the larger, units in nested LaTeX were unknown, and units were wrong where the reference has none
    # 3: answers inside thinking counted
    grading = 4
    sets = (SCIBENCH,)
    instruction = f"{SYSTEM_PROMPT} Give it as a decimal number with its unit inside the box."
    aliases = {"units": "unit"}
    fields = ("unit", "tolerance")

    def has(self, name: str) -> bool:
        return name == SCIBENCH or name.startswith(f"{SCIBENCH}:")

    def published(self, name: str) -> Sequence[Published]:
        return SETS["scibench"].files if name == SCIBENCH else ()

    def load(self, name: str, count: int | None, split: str, seed: int) -> tuple[list[dict], str]:
        return load(name, SETS, self, split, seed)

    def instruction_for(self, family: str) -> str:
        return self.instruction

    def prepared(self, row: dict, seed: int) -> dict:
        answer, unit, tolerance = _plain(row["answer"]), str(row.get("unit") or "").strip(), row.get("tolerance", TOLERANCE)
        if type(tolerance) not in (int, float) or not 0 <= tolerance < 1:
            raise ValueError(f"'tolerance' must be a share of the answer, from 0 to below 1, as 0.05; given {tolerance!r:.80}")
        full = _plain(f"{row['answer']} {unit}").replace(" 10^", "*10^")  # units of SciBench begin with powers of ten
        if not (alone := _number(answer)) or not (whole := _number(full)) or unit and answer[alone.end() :].strip():
            raise ValueError(f"the answer {row['answer']!r:.80} must be a number" + (", as the unit is given apart" if unit else ""))
        shown = full[whole.end() :].strip()
        if _read(full) is None:
            raise ValueError(f"pint does not know the unit {shown!r:.80} of the answer; write it as in kJ/mol or J K^-1, or leave it out")
        asked = f"{row['problem']}\n{_TOLD} {shown}." if unit and shown else row["problem"]
        return row | {"problem": asked, "answer": f"{full} within {100 * tolerance:g} %", "unit": shown, "tolerance": tolerance}

    normal = staticmethod(_plain)

    def readable(self, answer: str) -> bool:
        return _read(answer) is not None

    def value(self, answer: str) -> Hashable | None:
        if (amount := _read(answer)) is None:
            return answer
        unit = amount.unit or _known("dimensionless")
        base = float(f"{amount.value * unit.scale + unit.offset:.12g}")  # without what conversion adds, lest it round otherwise
        return f"{base + 0.0:.2e}", unit.dimensions

    def same(self, a: str, b: str) -> bool:
        return self.value(a) == self.value(b)

    def right(self, reference: str, answer: str) -> bool:
        text, _, within = reference.partition(" within ")
        gold, given = _read(text), _read(answer)
        if gold is None or given is None:
            return False
        wanted = gold.unit or _known("dimensionless")
        units = [given.unit or wanted, *([] if gold.unit and given.unit else [_known("dimensionless")])]
        values = [(given.value * u.scale + u.offset - wanted.offset) / wanted.scale for u in units if u.dimensions == wanted.dimensions]
        tolerance = float(within.rstrip(" %")) / 100 if within else TOLERANCE
        return any(abs(value - gold.value) <= (tolerance + 1e-9) * abs(gold.value) for value in values)

    def vote(self, row: Mapping, answer: str, right: bool) -> str:
        given, text = _read(_plain(answer)), _plain(row["answer"]).partition(" within ")[0]
        if given is None or given.unit or _TOLD not in row["problem"] or not (number := _number(text)):
            return answer
        return f"{_plain(answer)} {text[number.end() :]}"


QUANTITY = Quantity()
