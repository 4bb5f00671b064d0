"""Names of models as figures and tables show them, and texts as a terminal may."""

from __future__ import annotations


def short(name: str) -> str:
    """A model's name as a panel title: without its folder, server and kind."""
    own = name.partition("?")[0].replace("#", "/").rsplit("/", 1)[-1]
    return own.removeprefix("policy-").removeprefix("prm-").replace("implicit:policy-", "implicit ")


def printable(text: str) -> str:
    """A text without the control characters that an input may hold: they would move a terminal's cursor or colour it."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def counted(number: float | None) -> str:
    """A number of tokens; ``unknown`` where it is None or NaN, which is not 0."""
    return "unknown" if number is None or number != number else f"{number:,.0f}"
