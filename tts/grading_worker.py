"""The process that judges answers for :mod:`tts.grading`: a pair a line in, a verdict a line out; made to be killed."""

from __future__ import annotations

import json
import logging
import os
import sys


def main(memory_mb: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    except (ImportError, ValueError, OSError):  # not on every system; the time limit still holds
        pass
    logging.disable(logging.CRITICAL)
    from math_verify import parse, verify

    verdicts = os.fdopen(os.dup(1), "w")  # what a library prints on stdout must not pass for a verdict
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    print("ready", file=verdicts, flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        try:
            sides = [parse(f"${text}$", parsing_timeout=None, raise_on_error=False) for text in (gold, answer)]
            verdict = all(sides) and verify(*sides, timeout_seconds=None, raise_on_error=False)
        except BaseException:  # math-verify's own timeout is one, and so is running out of memory
            verdict = False
        print(json.dumps(bool(verdict)), file=verdicts, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
