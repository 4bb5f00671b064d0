"""Right or wrong: mathematical equality of answers, decided behind a time, length and memory limit.

Equal strings and plain integers are decided at once. Everything else goes to math-verify in a process of its own,
because parsing a hostile answer such as ``\\boxed{1000000000!}`` can ignore every alarm: the process is killed.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from tqdm.auto import tqdm

LONGEST_ANSWER = 500
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NOISE = re.compile(r"\\[ ,;!]|\\left|\\right|\\text\s*\{\s*\}|[\s$]|\.$")


class Grader:
    """Decides whether answers equal gold answers; keeps every verdict, so each distinct pair is judged once.

    Convention: what math-verify 0.9 accepts, with the gold answer first. It ignores units and percent signs and takes
    ``x=5`` for ``5``; a decimal does not equal a surd. No answer is wrong, and so is one over 500 characters or one
    that cannot be judged within the limits.

    Args:
        seconds: limit for one pair.
        memory_mb: limit of the judging process.
    """

    def __init__(self, seconds: float = 5.0, memory_mb: int = 2048):
        self.seconds, self.memory_mb = seconds, memory_mb
        self._verdicts: dict[tuple[str, str], bool] = {}
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe = None

    def equal(self, gold: str, answer: str | None) -> bool:
        """Whether ``answer`` is mathematically equal to ``gold``."""
        if answer is None or len(answer) > LONGEST_ANSWER:
            return False
        gold, answer = normalise(gold), normalise(answer)
        quick = _quickly_equal(gold, answer)
        if quick is not None:
            return quick
        if (gold, answer) not in self._verdicts:
            self._verdicts[gold, answer] = self._judge(gold, answer)
        return self._verdicts[gold, answer]

    def equal_many(self, pairs: Iterable[tuple[str, str | None]]) -> list[bool]:
        """:meth:`equal` for many pairs, with a progress bar where the slow path is needed often."""
        pairs = list(pairs)
        return [self.equal(*pair) for pair in tqdm(pairs, desc="grading", unit="answer", leave=False, delay=3)]

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _judge(self, gold: str, answer: str) -> bool:
        if self._process is None or not self._process.is_alive():
            self._start()
        try:
            self._pipe.send((gold, answer))
            if self._pipe.poll(self.seconds):
                return bool(self._pipe.recv())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass
        self.close()
        return False

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_worker, args=(theirs, self.memory_mb), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(120):
            self.close()
            raise RuntimeError("the grading process did not start within 120 seconds")
        self._pipe.recv()


def groups(answers: Sequence[str | None], grader: Grader) -> list[int]:
    """Numbers that are the same for equal answers: 0, 1, ... by first appearance; -1 for no answer."""
    representatives: list[str] = []
    by_text: dict[str, int] = {}
    numbers = []
    for answer in answers:
        if answer is None or len(answer) > LONGEST_ANSWER:
            numbers.append(-1)
            continue
        text = normalise(answer)
        if text not in by_text:
            match = next((i for i, known in enumerate(representatives) if grader.equal(known, text)), None)
            if match is None:
                match = len(representatives)
                representatives.append(text)
            by_text[text] = match
        numbers.append(by_text[text])
    return numbers


@lru_cache(maxsize=100_000)
def normalise(answer: str) -> str:
    """Spacing commands, dollar signs and a full stop at the end removed; nothing that changes a value."""
    return _NOISE.sub("", answer.strip())


def _quickly_equal(gold: str, answer: str) -> bool | None:
    if gold == answer:
        return True
    if not answer:
        return False
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return int(gold) == int(answer)
    return None


def _worker(pipe, memory_mb: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    except (ImportError, ValueError, OSError):  # not on every system; the time limit still holds
        pass
    import logging

    logging.disable(logging.CRITICAL)
    from math_verify import parse, verify

    pipe.send("ready")
    while True:
        try:
            gold, answer = pipe.recv()
        except EOFError:
            return
        try:
            sides = [parse(f"${text}$", parsing_timeout=None, raise_on_error=False) for text in (gold, answer)]
            verdict = bool(sides[0]) and bool(sides[1]) and verify(*sides, timeout_seconds=None, raise_on_error=False)
        except BaseException:  # math-verify's own timeout is one, and so is running out of memory
            verdict = False
        pipe.send(bool(verdict))
