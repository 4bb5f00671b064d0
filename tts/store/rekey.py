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
                try:
                    key = _key_of(run.spec, read_chunk(path).slice(0, 1).to_pylist()[0])
                except ModelError as error:
                    reasons[str(error)] = path
                else:
                    path.replace(store.open(replace(run.spec, task=key)).folder / path.name)
                    moved += 1
            if not reasons:
                run.remove()
            yield f"{run.spec} ({run.key}): {moved} chunks moved" + "".join(f"; left as they are: {reason}" for reason in reasons)


_tokenizer = cache(lambda name: load_tokenizer(locate(name)))


def _key_of(spec: RunSpec, row: dict) -> TaskKey:
    """A chunk's task, by a row of it; raises ``ModelError`` where its samples cannot be told to be those that the prompt gives today."""
    name, tasks = spec.policy.name, map(task_named, TASKS)
    task = next((task for task in tasks if row["problem_id"].startswith(tuple(f"{own}-" for own in task.sets))), task_named(MATHS))
    if weights_of(name) != spec.policy.weights:
        raise ModelError(f"{name} has other weights now")
    if row["prompt"] and engine_of(name)[0] == DEFAULT and render_prompt(_tokenizer(name), row["problem"], task) != row["prompt"]:
        raise ModelError("they were sampled with another prompt")
    return TaskKey(task.name, task.version, prompt_of(name, task))
