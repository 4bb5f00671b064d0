"""Problems with worked solutions, for policies to be trained on: steps split by a blank line, the answer in a box."""

from collections.abc import Callable
from pathlib import Path

from tts.tasks.maths import MATHS, REASONING_GYM, reasoning_gym_tasks
from tts.tasks.problems import ProblemError, problem_rows, records


def leg_counting(task: dict) -> list[str]:
    """Steps of reasoning-gym's ``leg_counting``: per kind of animal its legs, and the total so far."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    steps, total = [], 0
    for animal, count in task["metadata"]["animals"].items():
        legs = count * ANIMALS[animal]
        total += legs
        steps.append(f"{animal}: {count}*{ANIMALS[animal]}={legs}, total {total}")
    return steps


# A task whose solutions can be worked out is one function above and one line here.
WRITERS: dict[str, Callable[[dict], list[str]]] = {"leg_counting": leg_counting}


def load_worked(name: str, count: int, skip: int = 0, split: str = "development") -> list[dict]:
    """Problems after the first ``skip``, with a ``solution`` each beside the columns of :func:`tts.tasks.problems.problem_rows`.

    ``name`` is ``reasoning-gym:TASK`` for a task of ``WRITERS``, or a JSONL file whose lines have a ``solution`` too. Raises
    :class:`ProblemError` where there are no solutions for such problems, or too few problems.
    """
    problems = problem_rows(name, skip + count, split)
    if name.startswith(REASONING_GYM):
        task = name.removeprefix(REASONING_GYM).split(",")[0]
        if task not in WRITERS:
            raise ProblemError(f"no worked solutions for {name!r}; there are for {', '.join(WRITERS)}, or give a JSONL file with solutions")
        tasks = reasoning_gym_tasks(name, skip + count, split)
        solutions = [MATHS.join([*WRITERS[task](one), f"\\boxed{{{one['answer']}}}"]) for one in tasks]
    else:
        rows = records(Path(name), "'problem', 'answer' and 'solution'")
        solutions = [str(row.get("solution") or "").strip() for _, row in rows]
        if "" in solutions:
            raise ProblemError(f"{rows[solutions.index('')][0]}: no 'solution' to train on")
    return [problem | {"solution": solution} for problem, solution in list(zip(problems, solutions))[skip:]]
