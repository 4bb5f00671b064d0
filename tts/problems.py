"""Problem sets by name, in one schema: a ``datasets.Dataset`` with the columns id, problem, answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from datasets import Dataset

from tts.pocket.problems import SETS as POCKET_SETS
from tts.pocket.problems import held_out

SPLITS = ("development", "selection", "test")
REASONING_GYM = "reasoning-gym:"


class ProblemError(ValueError):
    """A problem set that cannot be read; the message says what was given and what to do."""


def problem_sets() -> list[str]:
    """The names that :func:`load_problems` takes, apart from files."""
    return [*POCKET_SETS, f"{REASONING_GYM}TASK[,OPTION=VALUE...]", "path/to/problems.jsonl"]


def load_problems(name: str, count: int | None = None, split: str = "test", seed: int = 0) -> Dataset:
    """Problems of a set, in the order of their ids; a longer list starts with the shorter one.

    Args:
        name: ``pocket-main``, ``pocket-hard``, ``reasoning-gym:TASK`` (with the task's own options after commas, as in
            ``reasoning-gym:leg_counting,max_animals=5``), or a JSONL file with ``problem`` and ``answer`` (and optionally
            ``id``) on each line.
        count: how many; None takes a whole file, or 200.
        split: of the pocket sets and reasoning-gym: development, selection or test.
        seed: of reasoning-gym.

    Raises:
        ProblemError: for an unknown name or split, a malformed line (with its number), a problem without an answer,
            or fewer problems than asked for.
    """
    if split not in SPLITS:
        raise ProblemError(f"unknown split {split!r}; choose from {', '.join(SPLITS)}")
    if count is not None and count < 1:
        raise ProblemError(f"the number of problems must be at least 1; given {count}")
    if name in POCKET_SETS:
        rows = [{"problem": p.text, "answer": p.answer} for p in held_out(name, split, count or 200)]
        prefix = f"{name}-{split}"
    elif name.startswith(REASONING_GYM):
        tasks = reasoning_gym_tasks(name, count or 200, split, seed)
        rows = [{"problem": task["question"], "answer": str(task["answer"])} for task in tasks]
        prefix = f"{name}-{split}-{seed}"
    elif name.endswith(".jsonl"):
        rows, prefix = _read_jsonl(Path(name)), Path(name).stem
        if count is not None and count > len(rows):
            raise ProblemError(f"{name} has {len(rows)} problems; asked for {count}")
    else:
        raise ProblemError(f"unknown problem set {name!r}; choose from {', '.join(problem_sets())}")
    for number, row in enumerate(rows):
        row.setdefault("id", f"{prefix}-{number:05d}")
    if len({row["id"] for row in rows}) < len(rows):
        raise ProblemError(f"{name}: two problems share an id")
    return Dataset.from_list([{key: row[key] for key in ("id", "problem", "answer")} for row in rows[:count]])


def fingerprint(problems: list[dict]) -> str:
    """A hash over ids, texts and answers."""
    text = json.dumps([[p["id"], p["problem"], p["answer"]] for p in problems], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def reasoning_gym_tasks(name: str, count: int, split: str, seed: int = 0) -> list[dict]:
    """Tasks as reasoning-gym makes them: ``question``, ``answer`` and ``metadata``; parameters as of :func:`load_problems`.

    Raises:
        ProblemError: for an unknown task or option, or a value that does not fit.
    """
    import reasoning_gym

    task, *options = name.removeprefix(REASONING_GYM).split(",")
    number = int.from_bytes(hashlib.sha256(f"{split}/{seed}".encode()).digest()[:4], "big")
    try:
        chosen = dict(_option(name, option) for option in options)
        return list(reasoning_gym.create_dataset(task, size=count, seed=number, **chosen))
    except (ValueError, TypeError, AssertionError) as error:
        raise ProblemError(f"reasoning-gym cannot make {name!r}: {error}") from None


def _option(name: str, text: str) -> tuple[str, object]:
    key, separator, value = text.partition("=")
    if not separator or not key.isidentifier() or key in ("size", "seed"):
        raise ProblemError(f"{name!r}: expected OPTION=VALUE after a comma, found {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _read_jsonl(path: Path) -> list[dict]:
    if not path.exists():
        raise ProblemError(f"no file {path}; expected JSON lines with 'problem' and 'answer'")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            rows.append(_checked_row(line, f"{path}, line {number}"))
    if not rows:
        raise ProblemError(f"{path} holds no problems; expected JSON lines with 'problem' and 'answer'")
    return rows


def _checked_row(line: str, where: str) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ProblemError(f"{where}: not valid JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(row, dict):
        raise ProblemError(f"{where}: expected an object with 'problem' and 'answer', found {type(row).__name__}")
    for key in ("problem", "answer"):
        if not str(row.get(key) if row.get(key) is not None else "").strip():
            raise ProblemError(f"{where}: no {key!r}")
    checked = {"problem": str(row["problem"]), "answer": str(row["answer"])}
    identity = row.get("id", row.get("unique_id"))
    return checked if identity is None else checked | {"id": str(identity)}
