"""The process that judges pairs of answers for :mod:`tts.tasks.judge`; made to be killed."""

import fcntl
import logging
import os
import resource
import signal
import sys
from contextlib import suppress
from functools import lru_cache
from multiprocessing.connection import Connection


def main(connection: Connection, memory_mb: int, seconds: float) -> None:
    """Says None once it can judge; then per pair None for each side that was parsed, and whether they are equal.

    The system kills it where a pair takes more than ``seconds`` of processor time, so that a busy machine changes no verdict; and by
    SIGIO where its parent is gone, whatever it is in the middle of: nobody writes to its standard input, which then ends.
    """
    with suppress(ValueError, OSError):  # not on every system; the time limit still holds
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those who ask, and reaches all: it must not become a verdict
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, os.O_ASYNC)
    logging.disable(logging.CRITICAL)
    _verified(_understood("1"), _understood("2"))  # loads grammars
    connection.send(None)
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
def _understood(text: str) -> list:
    """What math-verify makes of an answer. A comparison with 1 shows now, and once, whether its value can be worked out at all."""
    from math_verify import parse

    try:
        found = parse(f"${text}$", parsing_timeout=None, raise_on_error=False)
    except BaseException:  # math-verify's own timeout is one, and so is running out of memory
        return []
    if text != "1":
        _verified(_understood("1"), found)
    return found


def _verified(gold: list, answer: list) -> bool:
    from math_verify import verify

    try:
        return bool(gold and answer and verify(gold, answer, timeout_seconds=None, raise_on_error=False))
    except BaseException:
        return False


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]), float(sys.argv[3]))
