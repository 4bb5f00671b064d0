r"""Answers brought to one way of writing, and compared as far as that needs no algebra. Case by case: ``docs/grading.md``.

:func:`normal_form` removes what never matters (fonts, spacing, dollar signs, words around a value) and writes in LaTeX what people write
otherwise (``8pi``, ``½``, ``1.5e3``, ``0.\overline{3}``, ``28 percent``); only a list has a comma and a blank inside.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

_FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log|exp"
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
_GREEK = r"pi theta alpha beta gamma phi omega".split()
_SIGNS = {"÷": "/", "−": "-", "–": "-", "—": "-", "°": "^{\\circ}", "√": "\\sqrt "} | {
    sign: f"\\{name} "
    for sign, name in zip("×·⋅∙≤≥≠∞∪∩∈±∅πθαβγφω", [*"times cdot cdot cdot le ge ne infty cup cap in pm emptyset".split(), *_GREEK])
}
_FRACTIONS = dict(zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", "12 13 23 14 34 15 25 35 45 16 56 18 38 58 78".split()))
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_WIDE = str.maketrans("０１２３４５６７８９\u00a0\u2009\u202f", "0123456789   ")


def _repeating(found: re.Match) -> str:
    r"""``0.1\overline{6}`` as a fraction: the digits before and after the repeat begins, less those before, over nines and noughts."""
    whole, fixed, repeat = found[1] or "0", found[2], found[3]
    value = Fraction(int(whole + fixed + repeat) - int(whole + fixed), (10 ** len(repeat) - 1) * 10 ** len(fixed))
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


# In this order: Unicode, wrappings, fonts, words with a meaning, then numbers.
_REWRITTEN: list[tuple[re.Pattern[str], str | Callable[[re.Match], str]]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (f"[{''.join(_SIGNS)}]", lambda found: _SIGNS[found[0]]),
        (f"[{''.join(_FRACTIONS)}]", lambda found: " \\frac{{{}}}{{{}}}".format(*_FRACTIONS[found[0]])),
        ("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", lambda found: f"^{{{found[0].translate(_RAISED)}}}"),
        (r"(?<=\d)(?:,\s*\\!|\{,\}|\\,)\s*(?=\d{3}(?!\d))|(?<!\\)\\!", ""),
        (r"(?<!\\)\\[ ,;:]|\\q?quad(?![a-zA-Z])|~", " "),
        (r"\\?\$|(?<!\\)\\[()\[\]]|\*\*|^[\s`\"':*]+|[\s`\"'*]+$", " "),
        (r"\\(?:left|right|[bB]igg?[lrm]?)(?![a-zA-Z])\s*(?:\.(?!\d))?", ""),
        (r"\\(?:bf|rm|it|sf|tt|bfseries|(?:display|text)style|[lL]arge|color\s*\{\w+\})(?![a-zA-Z])\s*", " "),
        (r"\\(?:math(?:bf|it|sf|tt|normal)|boldsymbol|bm|underline|emph|textcolor\s*\{\w+\})\s*\{([^{}]*)\}", r"{\1}"),
        (r"\\(?:text(?:bf|it|rm|sf|tt|up|normal)?|[mh]box|mathrm|operatorname\*?)\s*\{([^{}]*)\}", r" \1 "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (rf"(?<![\\a-zA-Z])({_FUNCTIONS}|{'|'.join(_GREEK)}|frac|sqrt)(?![a-zA-Z])", r"\\\1"),
        (r"(?<![\\a-zA-Z])(?:infinity|inf|oo)(?![a-zA-Z])", r"\\infty"),
        (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\\(ne|le|ge)q(?![a-zA-Z])", r"\\\1"),
        (r"\\varnothing", r"\\emptyset"),
        (r"([_^])\s*(\d)(?=\s+\d)", r"\1{\2}"),
        (r"\s*(?:(?<!\.)\.|[,;:])\s*$|^\s*(?:\\approx|\\sim(?:eq)?|=)\s*|^\s*\{([^{}]*)\}\s*$", r"\1"),
        (
            rf"(?<=\w)(?:\s*_\s*\{{?\s*(?:base\s*)?|\s*\(?\s*(?:in )?base\s*)(\d+|{'|'.join(_NUMBERS)})\s*\}}?\s*\)?\s*$",
            lambda found: f"_{{{_NUMBERS.index(found[1]) if found[1] in _NUMBERS else found[1]}}}",
        ),
        (r"(?<![\d.,])(\d{1,3}(?: \d{3})+)(?![\d/ ])", lambda found: found[1].replace(" ", "")),
        (r"(?<=\d)\s+(\d+)\s*/\s*(\d+)", r"\\frac{\1}{\2}"),
        (r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?(\d+)\}?", _repeating),
        (r"(\d*)\.(\d*?)(\d+?)\3{2,}(?:\.\.\.|\\[lc]?dots)", _repeating),
        (r"(?<![a-zA-Z\d.])(\d+\.?\d*|\.\d+)[eE]([+-]?\d+)(?![a-zA-Z\d.])", r"\1\\times10^{\2}"),
    )
]
# Space stays between two digits ("3 4" is not 34) and, as one blank, between a command and a letter ("\pi r" is not "\pir").
_SPACE = re.compile(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])|(?<!\d)\s+|\s+(?!\d)")
_GROUPED = re.compile(r"(?<![\d,.])(?<!,-)[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")  # 12,500 is a number, and "12, 500" two
_UNITS = "cm|mm|km|kg|mg|ft|mi|lb|oz|hr|ml|mL|mph|percent|degrees?"
# A bare word has three letters, or is a unit or one of the short ones; "2xyz" and "ab" are products.
_WORD = re.compile(
    rf"(?:(?<![\\a-zA-Z\d{{_^])[a-zA-Z][a-zA-Z'-]*[a-zA-Z]{{2}}|(?<![\\a-zA-Z{{_^])(?:{_UNITS})|(?<![\\a-zA-Z\d{{_^])(?:or|no|is|of|at|to|by|an|am|pm))"
    r"(?![a-zA-Z(_]|\s*[{(])(?:\s*\^\s*\{?[23]\}?(?!\d))?"
)
_VALUE = re.compile(r"\d|\\[a-zA-Z]+\s*[a-z{]|\\(?:pi|infty)|^[a-z]$|[-=+*/^]")
_ENDS = re.compile(r"^[*/^_<>]|[-+*/^_=<>\\]$|\\(?:cdot|times|pm|le|ge)\s*$")
_OF_NUMBERS = re.compile(r"\s*(?:[a-zA-Z]\([-\d.,\s]*\)|[-\d\s+*/.^()]+)\s*")  # f(2), 3 + 4
# Words that change what the value beside them means.
_CHANGING = set(
    "or more less fewer than least most not no of remainder over under up below above minus negative plus times to by dozen hundred"
    " thousand million billion trillion between from half squared cubed january february march april may june july august september"
    " october november december am pm".split()
)


@lru_cache(maxsize=100_000)
def normal_form(answer: str) -> str:
    """An answer in one way of writing; nothing that changes a value is removed."""
    text = answer.translate(_WIDE)
    for pattern, replacement in _REWRITTEN:
        text = pattern.sub(replacement, text)
    return ", ".join(filter(None, map(_member, members(text))))


def members(text: str) -> list[str]:
    """The members of a list, at commas, semicolons and the words and, or outside of brackets; the text alone where it is none."""
    found, depth, start, grouped = [], 0, 0, list(_GROUPED.finditer(text))
    for part in re.finditer(r"\\?[(\[{]|\\?[)\]}]|[,;]|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])", text):
        if part[0][-1] in "([{":
            depth += 1
        elif part[0][-1] in ")]}":
            depth -= 1
        elif depth == 0 and not any(one.start() < part.start() < one.end() for one in grouped):
            found.append(text[start : part.start()])
            start = part.end()
    return [one.strip() for one in (*found, text[start:]) if one.strip()] if depth == 0 else [text]


def _member(text: str) -> str:
    text = _SPACE.sub(lambda found: f"{found[1]} " if found[1] else "", _without_words(text))
    return _GROUPED.sub(lambda found: found[0].replace(",", ""), text) if "(" not in text and "{" not in text else text


def _without_words(text: str) -> str:
    """A value without the words around it; the text in small letters where they are more than a unit or an introduction."""
    left, equals, right = text.partition("=")
    named = _WORD.search(left) and not _OPERATION.search(_WORD.sub("", left))
    if equals and "=" not in right and (named or _OF_NUMBERS.fullmatch(left)):
        return _without_words(right)
    words = [found[0] for found in _WORD.finditer(text)]
    if not words:
        return text
    rest = [part for part in (part.strip() for part in _WORD.sub("\0", text).split("\0")) if part]
    plain = len(rest) == 1 and _VALUE.search(rest[0]) and not _ENDS.search(rest[0])
    return rest[0] if plain and not _CHANGING & {word.lower() for word in words} else text.lower()


_INTEGER = re.compile(r"[+-]?\d{1,18}")
_DIGITS = re.compile(r"([0-9A-Z]*\d[0-9A-Z]*|[A-Z]+)(?:_\{(\d+)\})?")  # of a number, with its base
_TIME = re.compile(r"\d{1,2}:\d\d(?:([ap])\.?m\.?)?", re.IGNORECASE)
_DATE = re.compile(r"(?=.*\d{4})(?:\d{4}|\d{1,2})[/-]\d{1,2}[/-](?:\d{4}|\d{1,2})")  # with a year of four digits: 10-3-2 is a number
_RATIO = re.compile(r"\d+(?::\d+)+")
_VARIABLE = re.compile(r"(?<![\\a-zA-Z])[a-z]{1,2}(?![a-zA-Z])")
_OPERATION = re.compile(r"[-+*/^]|\\(?:cdot|times|frac|sqrt)|\d[a-z]|(?<![\\a-zA-Z])[a-z]{2}(?![a-zA-Z])")


def quickly_same(a: str, b: str) -> bool | None:
    """Whether two normal forms are equal where that needs no algebra: integers, words, times, dates, ratios, bases; else None."""
    if a == b:
        return True
    if not b or not a:
        return False
    if _INTEGER.fullmatch(a) and _INTEGER.fullmatch(b):
        return int(a) == int(b)
    if (one := _TIME.fullmatch(a)) and (other := _TIME.fullmatch(b)):
        return _numbers(a) == _numbers(b) and (None in (one[1], other[1]) or one[1].lower() == other[1].lower())
    if _RATIO.fullmatch(a) and _RATIO.fullmatch(b):
        first, second = _numbers(a), _numbers(b)
        return len(first) == len(second) and all(x * second[0] == y * first[0] for x, y in zip(first, second))
    if (dates := [_DATE.fullmatch(text) for text in (a, b)]) != [None, None]:
        return None not in dates and _numbers(a) == _numbers(b)
    one, other = (_DIGITS.fullmatch(text) for text in (a, b))
    if (one and one[2]) or (other and other[2]):
        return bool(one and other and one[1] == other[1] and (None in (one[2], other[2]) or one[2] == other[2]))
    if any(_INTEGER.fullmatch(text) for text in (a, b)) and "," in a + b:
        return False  # [5,5] is no number
    if any(_WORD.search(text) or not _complete(text) for text in (a, b)):
        return a.lower() == b.lower()
    if ("=" in a) != ("=" in b) and (_says_more_than_a_value(a) or _says_more_than_a_value(b)):
        return False  # math-verify would compare an equation's right side alone
    return None


def quickly_readable(answer: str) -> bool | None:
    """Whether a normal form means anything, where that shows without algebra; else None."""
    if not answer:
        return False
    with_base = (digits := _DIGITS.fullmatch(answer)) and digits[2]
    if with_base or _WORD.search(answer) or any(pattern.fullmatch(answer) for pattern in (_INTEGER, _TIME, _DATE, _RATIO)):
        return True
    return None if _complete(answer) else False


def _numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def _complete(text: str) -> bool:
    """Whether a formula ends: no operator without what follows it, no bracket that is not closed."""
    return (
        not _ENDS.search(text)
        and not re.search(r"\d \d", text)
        and text.count("{") == text.count("}")
        and sum(map(text.count, "([")) == sum(map(text.count, ")]"))
    )


def _says_more_than_a_value(text: str) -> bool:
    """Whether it is an equation whose left side is more than a name or numbers: ``2x=6``, not ``x=3``, ``f(2)=3`` or ``1+2=3``."""
    left, sign, right = text.partition("=")
    return bool(sign) and "=" not in right and bool(_VARIABLE.search(left) or re.search(r"\d[a-z]", left)) and bool(_OPERATION.search(left))
