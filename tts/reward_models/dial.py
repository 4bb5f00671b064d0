"""The exact step checker of a task, the pocket problems' say, with its two error rates dialled in."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from tts.models.hub import ModelError
from tts.reward_models.prefix_plan import Steps
from tts.tasks.base import Task
from tts.tasks.pocket import POCKET


class DialledChecker:
    """Judges each prefix of a solution as right or wrong, and errs at the given rates.

    A prefix whose steps are all valid is rejected with probability ``false_negative``, any other is accepted with probability
    ``false_positive``, each by a hash of problem and prefix: the same prefix always gets the same judgement, errors are independent of
    each other. The score of an accepted prefix is uniform in [0.5, 1), of a rejected one in [0, 0.5). It reads no tokens.
    """

    def __init__(self, name: str, task: Task | None = None):
        self.name, self.task = name, task or POCKET
        self.false_positive, self.false_negative = rates(name)
        self._scores = lru_cache(1 << 12)(self._judged)  # a pool holds many a solution more than once

    def score(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> tuple[list[tuple[float, ...]], list[int]]:
        """As :meth:`tts.search.driver.RewardModel.score`; raises ``ValueError`` for a problem whose steps the task cannot check."""
        return [self._scores(text, solution) for (_, text), solution in zip(problems, steps)], [0] * len(steps)

    def forget(self, problem_id: str) -> None:
        """Drops nothing: what is remembered has a bound."""

    def _judged(self, text: str, steps: Steps) -> tuple[float, ...]:
        right_until = _right_until(self.task, text, steps)
        if right_until is None:
            raise ValueError(
                f"{self.name}: the task {self.task.name} cannot check the steps of {text[:80]!r}, which is not a pocket problem "
                "(say '47,+38,*3=?' or '(12+7)*(9-4)=?') of pocket-main, pocket-hard or pocket:FILE; take another PRM"
            )
        scores = []
        for depth in range(len(steps)):
            digest = hashlib.sha256("\0".join((self.name, text, *steps[: depth + 1])).encode()).digest()
            judgement, place = (int.from_bytes(digest[at : at + 8], "big") / 2**64 for at in (0, 8))
            accepted = judgement >= self.false_negative if depth < right_until else judgement < self.false_positive
            scores.append(0.5 * place + (0.5 if accepted else 0.0))
        return tuple(scores)


@lru_cache(1 << 14)
def _right_until(task: Task, text: str, steps: Steps) -> int | None:
    """Checkers of other rates ask the same of the same solutions."""
    return task.check_steps(text, steps)


def rates(name: str) -> tuple[float, float]:
    """False-positive and false-negative rate of ``dial:FALSE_POSITIVE,FALSE_NEGATIVE``; raises ``ModelError`` for any other name."""
    try:
        false_positive, false_negative = (float(part) for part in name.removeprefix("dial:").split(","))
        if not (0 <= false_positive <= 1 and 0 <= false_negative <= 1):
            raise ValueError
    except ValueError:
        raise ModelError(f"{name!r} is not a dialled checker; expected dial:FALSE_POSITIVE,FALSE_NEGATIVE, say dial:0.1,0.2") from None
    return false_positive, false_negative
