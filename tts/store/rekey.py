"""Gives stored runs that were made before keys held the task its name, version and prompt, so that they are found again."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from tts.models.hub import ModelError
from tts.models.loading import load_tokenizer
from tts.models.locate import locate
from tts.policies import DEFAULT, engine_of, prompt_of, weights_of
from tts.store.chunk_file import read_chunk
from tts.store.run_spec import RunSpec, TaskKey
from tts.store.store import Run, Store
from tts.tasks import DEFAULT as MATHS
from tts.tasks import TASKS, task_named
from tts.tasks.base import Task
from tts.tasks.prompts import render_prompt


def outdated(store: Store) -> list[Run]:
    """Runs without a task in their key, which no grid asks for any more."""
    return [run for run in store.runs() if run.spec.task is None and not run.spec.elsewhere]


def rekey(store: Store) -> Iterator[str]:
    """Moves the chunks of outdated runs to runs whose key holds the task; yields a line for each.

    The task of a chunk is that of its problems' ids. A run stays as it is where its policy is no longer there, or has other weights,
    or where a stored prompt is not the one that the task makes today: such samples are of another prompt.
    """
    with store.lock():
        for run in outdated(store):
            moved, reasons = 0, {}
            for path in run.files:
                row = read_chunk(path).slice(0, 1).to_pylist()[0]
                task = _task_of(row["problem_id"])
                try:
                    _check_same(run.spec, task, row)
                except ModelError as error:
                    reasons[str(error)] = path
                    continue
                key = TaskKey(task.name, task.version, prompt_of(run.spec.policy.name, task))
                path.replace(store.open(replace(run.spec, task=key)).folder / path.name)
                moved += 1
            if not reasons:
                run.remove()
            yield f"{run.spec} ({run.key}): {moved} chunks moved" + "".join(f"; left as they are: {reason}" for reason in reasons)


def _task_of(problem_id: str) -> Task:
    tasks = map(task_named, TASKS)
    return next((task for task in tasks if problem_id.startswith(tuple(f"{name}-" for name in task.sets))), task_named(MATHS))


_tokenizer = cache(lambda name: load_tokenizer(locate(name)))


def _check_same(spec: RunSpec, task: Task, row: dict) -> None:
    """Raises ``ModelError`` where a chunk's samples cannot be told to be those that a task's prompt gives today."""
    name = spec.policy.name
    if weights_of(name) != spec.policy.weights:
        raise ModelError(f"{name} has other weights now")
    if row["prompt"] and engine_of(name)[0] == DEFAULT and render_prompt(_tokenizer(name), row["problem"], task) != row["prompt"]:
        raise ModelError("they were sampled with another prompt")
