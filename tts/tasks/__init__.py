"""Kinds of problems: their sets, prompts, steps, answers, grading, selection."""

from collections.abc import Mapping, Sequence
from pkgutil import resolve_name

from tts.common.names import listed
from tts.tasks.base import Task, changed

# A kind of problem is one file in this folder and one line here. Imported when first used.
TASKS: dict[str, str | Task] = {
    "pocket": "tts.tasks.pocket:POCKET",
    "pocket-puzzles": "tts.tasks.pocket_puzzles:POCKET_PUZZLES",
    "pocket-code": "tts.tasks.pocket_code:POCKET_CODE",
    "pocket-chemistry": "tts.tasks.pocket_chemistry:POCKET_CHEMISTRY",
    "maths": "tts.tasks.maths:MATHS",
    "code": "tts.tasks.code:CODE",
    "choice": "tts.tasks.choice:CHOICE",
    "quantity": "tts.tasks.quantity:QUANTITY",
}
DEFAULT = "maths"  # of files whose name does not say their task


def register(task: Task) -> None:
    """Makes a task known in this process, as a line in :data:`TASKS` does in all; raises ``ValueError`` where its name is taken."""
    if TASKS.setdefault(task.name, task) is not task:
        raise ValueError(f"there is a task {task.name!r} already; choose another name")


def task_named(name: str) -> Task:
    """A task by its name; raises ``ValueError`` where there is none."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; known: {listed(TASKS, name)}")
    if isinstance(entry := TASKS[name], str):
        TASKS[name] = entry = resolve_name(entry)
    return entry


def split_set(name: str) -> tuple[Task, str]:
    """A problem set's task, and its name there: ``TASK:FILE`` says it, a task has sets of its own, and other files are mathematics."""
    prefix, _, rest = name.partition(":")
    if rest and prefix in TASKS:
        return task_named(prefix), rest
    return next((task for task in map(task_named, TASKS) if task.has(name)), task_named(DEFAULT)), name


def task_of(name: str) -> Task:
    """The task of a problem set, by the set's name."""
    return split_set(name)[0]


def task_in(problems: Sequence[Mapping]) -> Task:
    """The task of problems of one set, as :func:`tts.tasks.problems.problem_rows` gives them."""
    return task_named(problems[0].get("task", DEFAULT))


def task_of_key(key: object) -> Task:
    """The task that the key of a stored run names, with the run's system prompt; mathematics where it names none, as of imported runs."""
    return changed(task_named(getattr(key, "name", DEFAULT)), getattr(key, "system", None), ())
