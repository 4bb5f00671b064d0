"""Right or wrong, and the same or not: what a task tells at a glance, what was judged before, and else math-verify's verdict.

Math-verify works in a process of its own behind a limit of time and memory, because parsing a hostile answer such as
``\\boxed{1000000000!}`` can ignore every alarm: the process is killed.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from functools import cache

from tts.tasks.base import Task
from tts.tasks.judge import Judge
from tts.tasks.maths import MATHS
from tts.tasks.verdicts import Verdicts


class Grader(AbstractContextManager):
    """Grades the answers of a task; keeps every verdict of its judge, so that each distinct pair is judged once.

    No answer is wrong, and so is one that is longer than the task allows, or cannot be judged within the limits. ``judge`` may have other
    limits, or serve other graders too; ``verdicts`` holds what was judged before, and keeps new verdicts.
    """

    def __init__(self, task: Task = MATHS, judge: Judge | None = None, verdicts: Verdicts | None = None):
        self.task, self.judge, self._kept = task, judge or Judge(), verdicts
        # Normal forms of answers that count as wrong because their judges were lost, which another try may see otherwise.
        self.doubted: set[str] = set()
        self._verdicts: dict[tuple[str, str], bool] = {}

    def right(self, reference: str, answer: str | None) -> bool:
        """Whether an answer is right."""
        return self._decide(self.task.right, reference, answer)

    def same(self, a: str, b: str) -> bool:
        """Whether two answers are one in a vote."""
        return self._decide(self.task.same, a, b)

    def readable(self, answer: str | None) -> bool:
        """Whether an answer can be read: math-verify takes one that it cannot read for unequal to itself."""
        return answer is not None and self._decide(lambda text, _: self.task.readable(text), answer, answer)

    def __exit__(self, *exception: object) -> None:
        self.judge.close()

    def _decide(self, at_a_glance: Callable[[str, str], bool | None], first: str, second: str | None) -> bool:
        if second is None or len(second) > self.task.longest:
            return False
        pair = self.task.normal(first), self.task.normal(second)
        if (verdict := at_a_glance(*pair)) is not None:
            return verdict
        if pair not in self._verdicts:
            verdict = self._kept.of(self.task, *pair) if self._kept else None
            if verdict is None:
                if (verdict := self.task.verdict(self.judge, *pair)) is None:
                    self.doubted.add(pair[1])
                    return False
                if self._kept:
                    self._kept.keep(self.task, *pair, verdict)
            self._verdicts[pair] = verdict
        return self._verdicts[pair]


def groups(answers: Sequence[str | None], grader: Grader) -> list[int]:
    """Numbers that are the same for equal answers: 0, 1, ... by first appearance; -1 for none, and for one that cannot be read."""
    task = grader.task
    representatives: list[tuple[str, Hashable | None]] = []  # not normal forms: to take those once more may change them

    @cache
    def number_of(answer: str | None) -> int:
        if answer is None or not grader.readable(answer):
            return -1
        value = task.value(task.normal(answer))
        for number, (other, its) in enumerate(representatives):
            if grader.same(other, answer) if value is None or its is None else value == its:
                return number
        representatives.append((answer, value))
        return len(representatives) - 1

    return [number_of(answer) for answer in answers]
