"""Stored samples as text: a problem, and what a run's solutions of it say, with their answers, verdicts and scores."""

from collections import Counter
from itertools import zip_longest

from tts.analysis import grades
from tts.common import names
from tts.store.run_spec import RunSpec
from tts.tasks.base import Task
from tts.tasks.grading import Grader


def shown(spec: RunSpec, row: dict, task: Task, count: int = 3, wrong: bool = False) -> str:
    """A problem with its reference, and the first ``count`` solutions of a stored row, or those of them that are wrong, step by step."""
    candidates = row["trajectories"]
    with Grader(task) as grader:
        graded = grades.of_row(row, grader)
    statuses = ", ".join(f"{number} {status}" for status, number in Counter(graded.status).items())
    lines = [
        f"{spec}, seed {spec.seed}; problem {row['problem_id']}",
        f"problem: {row['problem']}",
        f"reference: {row['answer']}",
        f"samples: {len(candidates)}, {sum(graded.correct)} right; {statuses or 'none finished'}",
        f"tokens: {names.shown(row['policy_tokens'], ',.0f')} of the policy, {names.shown(row['prm_tokens'], ',.0f')} of the PRM",
    ]
    chosen = [number for number, right in enumerate(graded.correct) if not (wrong and right)][:count]
    for number in chosen:
        solution, status, verdict = candidates[number], graded.status[number], "right" if graded.correct[number] else "wrong"
        answer = task.answer(task.join(solution["steps"])) if solution["status"] == "finished" else None
        found = status if answer is None else f"{status}: {answer}"
        lines.append(f"\nsample {number + 1}: {verdict}, {found}; {names.shown(solution['tokens'], ',.0f')} tokens")
        for step, score in zip_longest(solution["steps"], solution["scores"] or ()):
            lines.append(f"{'' if score is None else f'{score:.2f}':>6}  " + step.replace("\n", f"\n{'':8}"))
    return names.printable("\n".join(lines if chosen else [*lines, "\nno such sample"]))
