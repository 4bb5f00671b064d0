"""Right or wrong: mathematical equality of answers, decided behind a time, length and memory limit.

Equal strings and plain integers are decided at once. Everything else goes to math-verify in a process of its own,
because parsing a hostile answer such as ``\\boxed{1000000000!}`` can ignore every alarm: the process is killed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from functools import lru_cache

from tts.tasks.judge import Judge

LONGEST_ANSWER = 500
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_WITH_BASE = re.compile(r"([0-9A-Z]*\d[0-9A-Z]*)_(?:\{(\d+)\}|(\d+))")
_WORDS = re.compile(r"\\(?:text|textbf|mbox|mathrm)\s*\{[^{}]*\}")
_VARIABLE = re.compile(r"(?<![\\a-zA-Z])[a-z]{1,2}(?![a-zA-Z])")
_OPERATION = re.compile(r"[-+*/^]|\\(?:cdot|times|d?frac|sqrt)|\d[a-z]|(?<![\\a-zA-Z])[a-z]{2}(?![a-zA-Z])")
# Space stays between two digits ("3 1/2" is not 31/2) and, as one blank, between a command and a letter ("\pi r" is not "\pir").
# The second backslash of a matrix's row break begins no spacing command.
_NOISE = re.compile(
    r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])|(?<!\\)\\[ ,;!]|\\(?:left|right)(?![a-zA-Z])|\\text\s*\{\s*\}|\\?\$|(?<!\d)\s+|\s+(?!\d)|\.$"
)


class Grader:
    """Decides whether answers equal gold answers; keeps every verdict, so each distinct pair is judged once.

    Convention: what math-verify 0.9 accepts, with the gold answer first. It ignores units, degree and percent signs, takes
    ``x=5`` for ``5`` (but not ``2x=5``) and ``\\{1,2\\}`` for ``(1,2)``, and compares words without regard to case; a decimal does
    not equal a surd, nor an inequality an interval. Numbers in a base are equal where their digits are, and their bases unless one
    is left out.
    No answer is wrong, and so is one over 500 characters or one that cannot be judged within the limits.

    Args:
        seconds: of processor time, limit for one pair.
        memory_mb: limit of the judging process.
        stop: ends a verdict under way with :class:`tts.tasks.judge.Stopped` when it is set.

    Attributes:
        uncertain: answers that count as wrong because their judges were lost, which another try may see otherwise.
    """

    def __init__(self, seconds: float = 5.0, memory_mb: int = 2048, stop: threading.Event | None = None):
        self.uncertain = 0
        self.judge = Judge(seconds, memory_mb, stop or threading.Event())
        self._verdicts: dict[tuple[str, str], bool] = {}
        self._hopeless: dict[str, bool] = {}  # texts that no judge survived, and whether that is certain

    def equal(self, gold: str, answer: str | None) -> bool:
        """Whether ``answer`` is mathematically equal to ``gold``."""
        if answer is None or len(answer) > LONGEST_ANSWER:
            return False
        gold, answer = normalise(gold), normalise(answer)
        quick = _quickly_equal(gold, answer)
        if quick is not None:
            return quick
        if (gold, answer) in self._verdicts:
            return self._verdicts[gold, answer]
        before = self.uncertain
        verdict = self._judged(gold, answer)
        if self.uncertain == before:
            self._verdicts[gold, answer] = verdict
        return verdict

    def close(self) -> None:
        self.judge.close()

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _judged(self, gold: str, answer: str) -> bool:
        blamed = next((text for text in (gold, answer) if text in self._hopeless), None)
        if blamed is not None:
            self.uncertain += not self._hopeless[blamed]
            return False
        verdict = self.judge.verdict(gold, answer)
        if verdict.hopeless is not None:  # no other pair needs to wait for the side that is to blame
            self._hopeless[(gold, answer)[verdict.hopeless]] = verdict.certain
        self.uncertain += not verdict.certain
        return verdict.equal


def groups(answers: Sequence[str | None], grader: Grader) -> list[int]:
    """Numbers that are the same for equal answers: 0, 1, ... by first appearance; -1 for no answer."""
    representatives: list[str] = []
    by_text: dict[str, int] = {}
    by_value: dict[int, int] = {}  # of integers, which are equal to each other by their value only
    others: list[int] = []
    numbers = []
    for answer in answers:
        if answer is None or len(answer) > LONGEST_ANSWER:
            numbers.append(-1)
            continue
        text = normalise(answer)
        if text not in by_text:
            value = int(text) if _INTEGER.fullmatch(text) else None
            match = by_value.get(value) if value is not None else None
            if match is None:
                compared = range(len(representatives)) if value is None else others
                match = next((i for i in compared if grader.equal(representatives[i], text)), len(representatives))
            if match == len(representatives):
                representatives.append(text)
                if value is None:
                    others.append(match)
            if value is not None:
                by_value.setdefault(value, match)
            by_text[text] = match
        numbers.append(by_text[text])
    return numbers


@lru_cache(maxsize=100_000)
def normalise(answer: str) -> str:
    """Spacing commands, dollar signs and a full stop at the end removed; nothing that changes a value."""
    return _NOISE.sub(lambda found: f"{found[1]} " if found[1] else "", answer.strip())


def _quickly_equal(gold: str, answer: str) -> bool | None:
    if gold == answer:
        return True
    if not answer:
        return False
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return int(gold) == int(answer)
    bases = _WITH_BASE.fullmatch(gold), _WITH_BASE.fullmatch(answer)
    if any(bases):
        digits, of = zip(*((found[1], found[2] or found[3]) if found else (text, None) for found, text in zip(bases, (gold, answer))))
        return digits[0] == digits[1] and (None in of or of[0] == of[1])
    if ("=" in gold) != ("=" in answer) and (_says_more_than_a_value(gold) or _says_more_than_a_value(answer)):
        return False  # math-verify would compare an equation's right side alone
    return None


def _says_more_than_a_value(text: str) -> bool:
    """Whether it is an equation whose left side is more than a name or numbers: ``2x=6``, not ``x=3``, ``f(2)=3`` or ``1+2=3``."""
    left, sign, right = text.partition("=")
    left = _WORDS.sub("", left)
    return bool(sign) and "=" not in right and bool(_VARIABLE.search(left) or re.search(r"\d[a-z]", left)) and bool(_OPERATION.search(left))
