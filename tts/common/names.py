"""Names of models, numbers and strangers' texts as figures, tables and terminals show them."""

from collections.abc import Iterable
from difflib import get_close_matches


def shown(number: float | None, how: str) -> str:
    """A number by its format; ``unknown`` for None and NaN."""
    return "unknown" if number is None or number != number else format(number, how)


def short(name: str) -> str:
    """A model's name as a panel title: without its folder, server and kind, but what is made of a policy apart from it, and its options."""
    kind, _, rest = name.partition(":")
    made = kind in ("implicit", "judge")
    model, _, query = (rest if made else name).partition("?")
    own = model.replace("#", "/").rsplit("/", 1)[-1]
    told = [option for option in query.split("&") if option and not option.startswith(("context=", "tokenizer="))]
    return f"{kind} " * made + own.removeprefix("policy-").removeprefix("prm-") + (f" ({', '.join(told)})" if told else "")


def printable(text: str) -> str:
    """A text without the control characters that an input may hold: they would move a terminal's cursor or colour it."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def listed(known: Iterable[object], given: object) -> str:
    """Known names as an error lists them, then the one that was meant, where one is much like the name that was given."""
    names = list(map(str, known))
    return ", ".join(names) + "".join(f"; did you mean {name!r}?" for name in get_close_matches(str(given), names, 1))
