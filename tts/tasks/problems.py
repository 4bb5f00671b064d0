"""Problem sets by name, in one schema: a ``datasets.Dataset`` with the columns id, problem, answer."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tts.common.names import listed
from tts.tasks import DEFAULT, TASKS, split_set, task_in, task_named

if TYPE_CHECKING:
    from datasets import Dataset

    from tts.tasks.base import Task

MOST = 100_000  # problems that are generated; a larger number is a slip
Split = Literal["development", "selection", "confirmation", "confirmation-2", "test", "all"]
SPLITS: tuple[str, ...] = get_args(Split)
FILES = (".jsonl", ".parquet")


class ProblemError(ValueError):
    """A problem set that cannot be read; the message says what was given and what to do."""


def problem_sets() -> list[str]:
    """The names that :func:`load_problems` takes, apart from files."""
    sets = [name for task in TASKS for name in task_named(task).sets]
    return [*sets, "path/to/problems.jsonl", f"TASK:path/to/problems.jsonl of the tasks {', '.join(TASKS)}"]


def load_problems(name: str, count: int | None = None, split: str = "test", seed: int = 0) -> Dataset:
    """:func:`problem_rows` as a data set with these columns; parameters and errors are the same."""
    from datasets import Dataset

    return Dataset.from_list(problem_rows(name, count, split, seed))


def problem_rows(name: str, count: int | None = None, split: str = "test", seed: int = 0) -> list[dict]:
    """Problems of a set (``id``, ``problem``, ``answer``, ``task``), in the order of their ids; a longer list starts with the shorter one.

    ``name`` is ``pocket-main``, ``pocket-hard``; ``math500``, ``aime24`` from the Hub, or ``math500:FILE`` from a copy;
    ``reasoning-gym:TASK``, with options as in ``reasoning-gym:leg_counting,max_animals=5``; ``gpqa``, ``mmlu-pro``, ``scibench:chemistry``
    (:mod:`tts.tasks.choice`, :mod:`tts.tasks.quantity`); or a JSONL or Parquet file with ``problem``,
    ``answer`` and perhaps ``id``, of mathematics or, as ``TASK:FILE``, a task. ``count`` None is a whole file, or 200. ``split`` is
    development, selection, confirmation, confirmation-2 or test; selection, test or ``all`` of the study's sets; files have none.
    ``seed``: of what is drawn, reasoning-gym's problems and the order of options.

    A problem of the study's sets is for ``selection`` or ``test`` by the first byte of the SHA-256 of its text, odd or even: 245 and 255 of
    MATH-500, 16 and 14 of AIME24. Its id is made of the same hash, so that a copy gives the same problems the same samples.

    Raises :class:`ProblemError` for an unknown name or split, a malformed line (with its number), a problem without an answer, fewer
    problems than asked for, or a set that is neither on this machine nor to be had from the Hub.
    """
    if split not in SPLITS:
        raise ProblemError(f"unknown split {split!r}; choose from {listed(SPLITS, split)}")
    if count is not None and count < 1:
        raise ProblemError(f"the number of problems must be at least 1; given {count}")
    task, own = split_set(name)
    if task.has(own):
        rows, prefix = task.load(own, count, split, seed)
    elif own.endswith(FILES):
        rows, prefix = read(Path(own), task, seed), Path(own).stem
        if own == name and (other := _owner(records(Path(own), "")[0][1])):
            told = f"looks like one of the task {other}, and would be read as mathematics, its answers as wrong"
            raise ProblemError(f"the first problem of {own} {told}; give {other}:{own}, or {task.name}:{own} for mathematics")
    else:
        raise ProblemError(f"unknown problem set {name!r}; choose from {listed(problem_sets(), name)}")
    if count is not None and count > len(rows):
        within = f" in its split {split!r}, and as many as there are in 'all'" if task.has(own) and split != "all" else ""
        raise ProblemError(f"{name} has {len(rows)} problems{within}; asked for {count}")
    for number, row in enumerate(rows):
        row.setdefault("id", f"{prefix}-{number:05d}")
    if len({row["id"] for row in rows}) < len(rows):
        raise ProblemError(f"{name}: two problems share an id")
    kept = ("id", "problem", "answer", *task.fields)
    return [{key: row[key] for key in kept if key in row} | {"task": task.name} for row in rows[:count]]


def check_drawn(name: str, count: int | None, split: str) -> None:
    """Raises :class:`ProblemError` for what a set of problems drawn at random does not have: millions, or the split ``all``."""
    if count is not None and count > MOST:
        raise ProblemError(f"the number of problems of {name} must be at most {MOST}; given {count}")
    if split == "all":
        raise ProblemError(f"{name} has no split 'all': its problems are drawn for {', '.join(SPLITS[:-1])}")


def fingerprint(problems: list[dict]) -> str:
    """A hash over ids, texts, answers, and the fields that a task has beside them."""
    fields = ("id", "problem", "answer", *(task_in(problems).fields if problems else ()))
    text = json.dumps([[p[key] for key in fields if key in p] for p in problems], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(path: Path, task: Task, seed: int = 0) -> list[dict]:
    """A file's problems, each checked and prepared by its task; raises :class:`ProblemError` where file or row cannot be read."""
    if not path.exists() and ":" in str(path):
        raise ProblemError(f"no file {path}; the tasks that may stand before a colon are {', '.join(TASKS)}")
    rows = [checked_row(row, where, task, seed) for where, row in records(path, "'problem' and 'answer'")]
    if not rows:
        raise ProblemError(f"{path} holds no problems; expected JSON lines with 'problem' and 'answer'")
    return rows


def records(path: Path, columns: str) -> list[tuple[str, dict]]:
    """The rows of a JSONL, parquet or CSV file, or of a JSON array in a ``.json``, each with its place in words.

    Raises :class:`ProblemError`, which says what ``columns`` a row holds, where the file cannot be read, or a row is no object.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            return [(f"{path}, row {number}", row) for number, row in enumerate(pq.read_table(path).to_pylist(), 1)]
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                return [(f"{path}, row {number}", row) for number, row in enumerate(csv.DictReader(file), 1)]
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ProblemError(f"no file {path}; expected JSON lines with {columns}") from None
    except UnicodeDecodeError as error:
        raise ProblemError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (pa.ArrowException, csv.Error, OSError, ValueError) as error:
        raise ProblemError(f"{path} cannot be read ({error}); copy or download it again, or give JSON lines with {columns}") from error
    if path.suffix == ".json" and text.lstrip().startswith("["):
        rows = [(f"{path}, row {number}", row) for number, row in enumerate(_parsed(text, str(path)), 1)]
    else:  # other line separators may stand inside a JSON string
        lines = ((f"{path}, line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        rows = [(where, _parsed(line, where)) for where, line in lines]
    for where, row in rows:
        if not isinstance(row, dict):
            raise ProblemError(f"{where}: expected an object with {columns}, found {type(row).__name__}")
    return rows


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ProblemError(f"{where}: not valid JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested by the thousand
        raise ProblemError(f"{where}: not JSON that can be read ({error})") from None


def checked_row(row: dict, where: str, task: Task, seed: int = 0) -> dict:
    """A row of a file as a problem's record; raises :class:`ProblemError`, which begins with its place, where it is malformed."""
    row = {key: value for key, value in row.items() if value is not None}
    row = {key: row[alias] for key, alias in task.aliases.items() if alias in row} | row
    try:
        row = task.prepared(row | _texts(row), seed)
        return {key: row[key] for key in ("problem", "answer")} | {key: row[key] for key in task.fields if key in row} | _texts(row)
    except KeyError as missing:
        raise ProblemError(f"{where}: no {missing}") from None
    except ValueError as error:
        raise ProblemError(f"{where}: {error}") from None


def _owner(row: dict) -> str:
    """The task that a file's row evidently is of, by a field, its answer's form, or as its step checker reads the problem; "" for none."""
    for task in map(task_named, TASKS):
        if {*task.fields} & {*row} or task.telling and re.match(task.telling, str(row.get("answer"))):
            return task.name
        if not isinstance(task, type(task_named(DEFAULT))) and task.check_steps(str(row.get("problem")), ()) is not None:
            return task.name
    return ""


def _texts(row: dict) -> dict[str, str]:
    """What a row holds of problem, answer and id, as texts; raises ``ValueError`` for one that is malformed or blank."""
    for key in (found := [key for key in ("problem", "answer", "id") if key in row]):
        if isinstance(row[key], (bool, list, dict)):
            raise ValueError(f"{key!r} must be text or a number, found {json.dumps(row[key]):.80}")
        if re.search("[\ud800-\udfff]", str(row[key])):
            raise ValueError(f"{key!r} holds half a character (a lone surrogate), which no model can read")
        if key != "id" and not str(row[key]).strip():
            raise ValueError(f"no {key!r}")
    return {key: str(row[key]) for key in found}
