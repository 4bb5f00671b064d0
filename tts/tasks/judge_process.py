"""The process that judges pairs of answers for :mod:`tts.tasks.judge`; made to be killed."""

import fcntl
import logging
import math
import os
import resource
import signal
import sys
from contextlib import suppress
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any

from tts.tasks.answer_text import members


def main(connection: Connection, memory_mb: int, seconds: float) -> None:
    """Says None once it can judge; then a fork of it says, per pair, None for each side that was parsed, and whether they are equal.

    The system kills the fork where a pair takes more than ``seconds`` of processor time, so that a busy machine changes no verdict; its
    status is said, as a tuple, and another takes its place. SIGIO ends all where the parent is gone, for then their standard input ends.
    """
    with suppress(ValueError, OSError):  # not on every system; the time limit still holds
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those who ask, and reaches all: it must not become a verdict
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the limit of time, which a parent may ignore or block, and so its children
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    fcntl.fcntl(0, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(0, fcntl.F_SETFL, os.O_ASYNC)
    logging.disable(logging.CRITICAL)
    _verified(_understood("1"), _understood("2"))  # loads grammars
    connection.send(None)
    while fork := os.fork():
        _, status = os.waitpid(fork, 0)
        if status == 0:
            return
        connection.send((os.waitstatus_to_exitcode(status),))
    with suppress(EOFError):
        while True:
            pair, sides = connection.recv(), []
            signal.setitimer(signal.ITIMER_PROF, seconds)
            for text in pair:
                sides.append(_understood(text))
                connection.send(None)
            equal = _verified(*sides)
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.send(equal)


@lru_cache(maxsize=4096)
def _understood(text: str) -> Any:
    """What math-verify makes of a normal form, None where it cannot read all of it; a list becomes a set of its members."""
    from latex2sympy2_extended.sets import FiniteSet
    from math_verify import LatexExtractionConfig, parse

    # Only as LaTeX and only as a whole: math-verify would go on to take the first number out of what it cannot read.
    strictly = {"fallback_mode": "no_fallback", "parsing_timeout": None, "raise_on_error": False}
    try:
        parsed = [parse(f"${member}$", [LatexExtractionConfig()], **strictly) for member in members(text)]
    except BaseException:  # math-verify's own timeout is one, and so is running out of memory
        return None
    if not all(parsed):
        return None
    found = [one[0] for one in parsed]
    value = found[0] if len(found) == 1 else FiniteSet(*(x for one in found for x in (one.args if isinstance(one, FiniteSet) else (one,))))
    if text != "1":
        _verified(_understood("1"), value)  # shows now, and once, whether its value can be worked out at all
    return value


def _verified(gold: Any, answer: Any) -> bool:
    from math_verify import verify

    if gold is None or answer is None:
        return False
    try:
        if (multiples := _multiples(gold, answer)) is not None:
            return multiples
        return bool(verify(gold, answer, float_rounding=_digits(gold, answer), timeout_seconds=None, raise_on_error=False))
    except BaseException:
        return False


def _multiples(gold: Any, answer: Any) -> bool | None:
    """Whether two equations, or two inequalities of one kind, are multiples of each other; None for anything else.

    Math-verify compares solutions, so that ``x^2+1=0`` and ``x^2+2=0`` are the same to it.
    """
    from sympy import Eq, Expr, StrictGreaterThan, StrictLessThan, simplify
    from sympy.core.relational import Relational

    sides = gold, answer
    if not all(isinstance(side, Relational) and all(isinstance(end, Expr) for end in side.args) for side in sides):
        return None
    (equation, strict), other = [(isinstance(side, Eq), isinstance(side, StrictGreaterThan | StrictLessThan)) for side in sides]
    if (equation, strict) != other:
        return False
    first, second = (side.lhs - side.rhs if equation else side.gts - side.lts for side in sides)
    ratio = simplify(first / second)
    return bool(ratio.is_number and (ratio.is_nonzero if equation else ratio.is_positive))


def _digits(*values: Any) -> int:
    """Decimals to which floating-point numbers must agree: six, and of small numbers so many that three digits count."""
    numbers = [
        abs(float(x)) for value in values for x in (value, *getattr(value, "args", ())) if getattr(x, "is_number", False) and x.is_real
    ]
    smallest = min((x for x in numbers if x > 0), default=1.0)
    return max(6, 3 - math.floor(math.log10(smallest)))


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]), float(sys.argv[3]))
