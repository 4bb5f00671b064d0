"""Rule verifiers: what a task can check of a whole solution without its reference answer, as public tests of a program."""

from collections.abc import Sequence

from tts.models.hub import ModelError
from tts.reward_models.prefix_plan import Steps
from tts.tasks import TASKS, task_named
from tts.tasks.base import Task


def owners(name: str) -> list[str]:
    """Names of the tasks that have a rule of this name; none where it is no rule."""
    return [task for task in TASKS if name in task_named(task).rules]


def names() -> list[str]:
    """Those of all tasks."""
    return list(dict.fromkeys(rule for task in TASKS for rule in task_named(task).rules))


def in_searches(name: str, *tasks: Task) -> str:
    """What is told beside a rule's name, as searches then go by an oracle: "" where no task, of all that have it by default, has one."""
    oracle = any(map(can_check_steps, tasks or map(task_named, owners(name))))
    return " (searches: exact step checker)" if oracle and owners(name) else ""


def can_check_steps(task: Task) -> bool:
    return type(task).check_steps is not Task.check_steps


def check(name: str, task: Task, searches: Sequence[str] = ()) -> None:
    """Raises ``ModelError`` for a rule that the task does not have, or searches by step scores where it cannot check steps."""
    if name not in task.rules:
        own = ", ".join(task.rules) or "none"
        raise ModelError(f"{name} is a rule of the tasks {', '.join(owners(name))}; the task {task.name} has {own}: take another PRM")
    if searches and not can_check_steps(task):
        raise ModelError(
            f"{name} scores whole solutions only; {', '.join(searches)} needs scores of steps, which the task {task.name} cannot check: "
            "leave it out of methods, or take another PRM"
        )


class RuleVerifier:
    """Gives each step of a whole solution the rule's score of the solution, 1 or 0; it reads no tokens.

    A search's open candidates, which no rule can judge, score 1 where the task's step checker finds no wrong step, else 0.
    """

    def __init__(self, name: str, task: Task):
        check(name, task)
        self.name, self.task = name, task

    def score(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> tuple[list[tuple[float, ...]], list[int]]:
        """As :meth:`tts.search.driver.RewardModel.score`; raises ``ValueError`` for a problem that the rule cannot read."""
        scores = [self.task.rule(self.name, text, self.task.join(solution)) for (_, text), solution in zip(problems, steps)]
        return [(score,) * len(solution) for score, solution in zip(scores, steps)], [0] * len(steps)

    def score_open(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> tuple[list[tuple[float, ...]], list[int]]:
        """Likewise of solutions that may go on."""
        right = [self.task.check_steps(text, solution) == len(solution) for (_, text), solution in zip(problems, steps)]
        return [(float(fine),) * len(solution) for fine, solution in zip(right, steps)], [0] * len(steps)

    def forget(self, problem_id: str) -> None:
        """Drops nothing: nothing is kept."""
