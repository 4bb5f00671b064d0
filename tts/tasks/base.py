"""What makes a kind of problem: its sets, what a policy is told, where a step ends, what an answer is and when it is right."""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from copy import copy
from functools import cache
from typing import TYPE_CHECKING

from tts.common.thinking import UNCLOSED, after_thinking

if TYPE_CHECKING:
    from tts.tasks.judge import Judge


class Task:
    """One kind of problem. This one has no sets of its own, and its answers are right where they are equal texts."""

    name: str  # in ``TASK:FILE`` and in the keys of runs
    version = 1  # raised whenever other samples would be made, say where a step ends; part of the keys of runs
    grading = 1  # raised whenever another answer is found in a solution, or another answer is right; all is then judged anew
    ways: Sequence[str] = ("",)  # names of the ways in which it finds an answer in a solution, in this order; "" for the only one
    known_ways: Sequence[str] = ()  # names of all the ways that it has
    sets: Sequence[str] = ()  # names of its problem sets; one that ends in a colon goes on with options
    instruction = ""  # text that a policy is told beside the problem; "" for nothing
    system: str | None = None  # text that a policy of any family is told instead; None for the instruction
    separator = "\n\n"  # text that ends a step, one character or two
    answer_mark = ""  # text that a step holds which gives an answer; "" where none tells
    longest = 500  # characters of the longest answer that is read
    aliases: dict[str, str] = {}  # other names that files have for the fields of a problem's record
    rules: Sequence[str] = ()  # names of the rule verifiers that it has, which :meth:`rule` judges by
    fields: Sequence[str] = ()  # keys that a record may hold beside id, problem and answer
    telling = ""  # a regular expression that answers in its files begin with, and none in mathematics; "" for none

    def has(self, name: str) -> bool:
        """Whether a problem set is one of its own."""
        return name in self.sets

    def load(self, name: str, count: int | None, split: str, seed: int) -> tuple[list[dict], str]:
        """The records of one of its own sets, at least ``count`` where it has no end, and what the ids of those without one begin with.

        Raises :class:`tts.tasks.problems.ProblemError` where there is no such set or split.
        """
        raise NotImplementedError(f"the task {self.name} has no problem sets of its own; give a file as {self.name}:path/to/problems.jsonl")

    def published(self, name: str) -> Sequence:
        """The files (:class:`tts.tasks.published.Published`) of the Hub that one of its own sets is read from."""
        return ()

    def prepared(self, row: dict, seed: int) -> dict:
        """A file's row as a problem's record, as a policy is asked it: with ``problem`` and ``answer``, which a row of another form lacks.

        ``seed`` is of whatever is drawn, say the order of options. Raises ``KeyError`` for what is missing, and ``ValueError``, which says
        what is wrong and what to do, for what is malformed.
        """
        return row

    def check_ready(self) -> None:
        """Raises where no solution could be graded on this machine; asked before any is sampled."""

    def instruction_for(self, family: str) -> str:
        """What a policy of a model family (of :data:`tts.tasks.prompts.STYLES`; "" for any other) is told."""
        return self.instruction

    def split(self, text: str) -> tuple[str, ...]:
        """A solution's steps, blank ones left out."""
        boundary = r"\n\s*\n" if self.separator == "\n\n" else re.escape(self.separator)
        return tuple(filter(None, map(self.step, re.split(boundary, text))))

    def step(self, text: str) -> str:
        """A step's text without the blanks around it that do not matter."""
        return text.strip()

    def join(self, steps: Iterable[str]) -> str:
        return self.separator.join(steps)

    def answer(self, text: str) -> str | None:
        """The answer that a solution's text gives; None where it gives none."""
        raise NotImplementedError

    def found(self, text: str) -> tuple[str | None, str]:
        """:meth:`answer`, and the way in which it was found."""
        return self.answer(text), ""

    def found_in(self, steps: Iterable[str], prompt: str | None = "") -> tuple[str | None, str]:
        """:meth:`found` in what follows the end of thinking in a solution; its way is :data:`UNCLOSED` where thinking never ends.

        The rendered ``prompt`` may open the thinking.
        """
        text = after_thinking(self.join(steps), prompt or "")
        return (None, UNCLOSED) if text is None else self.found(text)

    def normal(self, answer: str) -> str:
        """An answer without what never matters; answers of equal normal forms are the same. The methods below get these forms."""
        return answer.strip()

    def value(self, answer: str) -> Hashable | None:
        """What alone tells whether two answers that have one are the same; None where :meth:`same` must be asked."""
        return answer

    def same(self, a: str, b: str) -> bool | None:
        """Whether two answers are one in a vote; None leaves it to :meth:`verdict`."""
        return a == b

    def right(self, reference: str, answer: str) -> bool | None:
        """Whether an answer is right; None as of :meth:`same`."""
        return self.same(reference, answer)

    def readable(self, answer: str) -> bool | None:
        """Whether an answer means anything; None leaves it to :meth:`verdict`. One that does not is wrong and no vote."""
        return True

    def vote(self, row: Mapping, answer: str, right: bool) -> str | None:
        """An answer as it votes beside others of a problem, whose record is ``row``; None for a right one where all right are one vote.

        They are where right means equal to the reference. Where it does not, a vote that merged them would know which are right.
        """
        return None if right else answer

    def rule(self, name: str, problem: str, text: str) -> float:
        """1 where a whole solution's text passes one of its :attr:`rules`, else 0; a rule knows what a policy sees, and no reference.

        Raises ``ValueError`` for a problem that the rule cannot read.
        """
        raise NotImplementedError

    def verdict(self, judge: "Judge", first: str, second: str) -> bool | None:
        """What the methods above leave open: math-verify's verdict, in a process that is killed where it takes too long.

        ``first`` is the reference, or another answer; None where no verdict was to be had now. Verdicts are kept.
        """
        return judge.verdict(first, second)

    def check_steps(self, problem: str, steps: Sequence[str]) -> int | None:
        """The number of the first wrong step, from 0; the number of steps where none is; None where no exact checker tells."""
        return None


@cache
def changed(task: Task, system: str | None, ways: tuple[str, ...]) -> Task:
    """The task with another system prompt, unless None, and other ways of finding an answer, if any; ``ValueError`` for unknown ways."""
    if system is None and not ways:
        return task
    if unknown := [way for way in ways if way not in task.known_ways]:
        known = ", ".join(task.known_ways) or "no other ways than its own"
        raise ValueError(f"extract: the task {task.name} cannot find answers by {unknown[0]!r}; it has {known}")
    other = copy(task)
    other.system = task.system if system is None else system
    other.ways = ways or task.ways
    return other
