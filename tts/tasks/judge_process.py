"""The process that judges answers for :mod:`tts.tasks.judge`: a numbered pair a line in, a verdict a line out; made to be killed.

It imports math-verify once and forks the judge that works; a judge that was killed is replaced in milliseconds.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from functools import lru_cache


def main(memory_mb: int, seconds: float) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    except (ImportError, ValueError, OSError):  # not on every system; the time limit still holds
        pass
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those who ask, and reaches all: it must not become a verdict
    logging.disable(logging.CRITICAL)
    replies = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints must not pass for a verdict
    _verified(_understood("1"), _understood("2"))  # loads grammars before the first fork
    parent, judge = os.getppid(), 0

    def end_with_parent(*_: object) -> None:
        if os.getppid() != parent:
            os.kill(judge, signal.SIGKILL)  # it may be in the middle of something endless
            os._exit(1)

    signal.signal(signal.SIGALRM, end_with_parent)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    while True:
        judge = os.fork()
        if not judge:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            _judge(replies, seconds)
            os._exit(0)
        _, status = os.waitpid(judge, 0)
        if status == 0:  # there is nothing more to judge
            return
        limit = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
        os.write(replies, b"limit\n" if limit else b"lost\n")


def _judge(replies: int, seconds: float) -> None:
    """Says "ready" with its process id; then per pair, after its number, "parsed" for each side and the verdict.

    The system kills it where a pair takes more than ``seconds`` of processor time, so that a busy machine changes no verdict.
    """
    os.write(replies, f"ready {os.getpid()}\n".encode())
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        (number, *texts), sides = json.loads(line), []
        for text in texts:
            sides.append(_understood(text))
            os.write(replies, f"{number} parsed\n".encode())
        verdict = _verified(*sides)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(replies, f"{number} {'true' if verdict else 'false'}\n".encode())


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
    main(int(sys.argv[1]), float(sys.argv[2]))
