"""Problem sets by name, in one schema: a ``datasets.Dataset`` with the columns id, problem, answer."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from datasets import Dataset

from tts.pocket.problems import SETS as POCKET_SETS
from tts.pocket.problems import held_out

MOST = 100_000  # problems that are generated; a larger number is a slip
SPLITS = ("development", "selection", "test")
REASONING_GYM = "reasoning-gym:"


class ProblemError(ValueError):
    """A problem set that cannot be read; the message says what was given and what to do."""


def problem_sets() -> list[str]:
    """The names that :func:`load_problems` takes, apart from files."""
    return [*POCKET_SETS, f"{REASONING_GYM}TASK", "path/to/problems.jsonl"]


def load_problems(name: str, count: int | None = None, split: str = "test", seed: int = 0) -> Dataset:
    """Problems of a set, in the order of their ids; a longer list starts with the shorter one.

    Args:
        name: ``pocket-main``, ``pocket-hard``, ``reasoning-gym:TASK``, or a JSONL file with ``problem`` and ``answer``
            (and optionally ``id``) on each line.
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
    if count is not None and count > MOST and not name.endswith(".jsonl"):
        raise ProblemError(f"the number of problems of {name} must be at most {MOST}; given {count}")
    if name in POCKET_SETS:
        rows = [{"problem": p.text, "answer": p.answer} for p in held_out(name, split, count or 200)]
        prefix = f"{name}-{split}"
    elif name.startswith(REASONING_GYM):
        rows = _reasoning_gym(name.removeprefix(REASONING_GYM), count or 200, f"{split}/{seed}")
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


def _reasoning_gym(task: str, count: int, seed: str) -> list[dict]:
    import reasoning_gym

    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big")
    try:
        dataset = reasoning_gym.create_dataset(task, size=count, seed=number)
    except ValueError as error:
        raise ProblemError(f"reasoning-gym has no task {task!r}: {error}") from None
    return [{"problem": row["question"], "answer": str(row["answer"])} for row in dataset]


def _read_jsonl(path: Path) -> list[dict]:
    if not path.exists():
        raise ProblemError(f"no file {path}; expected JSON lines with 'problem' and 'answer'")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProblemError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ProblemError(f"{path} cannot be read: {error.strerror}; expected a file of JSON lines with 'problem' and 'answer'") from None
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # other line separators may stand inside a JSON string
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
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested by the thousand
        raise ProblemError(f"{where}: not JSON that can be read ({error})") from None
    if not isinstance(row, dict):
        raise ProblemError(f"{where}: expected an object with 'problem' and 'answer', found {type(row).__name__}")
    for key in ("problem", "answer", "id", "unique_id"):
        value = row.get(key)
        if isinstance(value, (bool, list, dict)):
            raise ProblemError(f"{where}: {key!r} must be text or a number, found {json.dumps(value):.80}")
        if re.search("[\ud800-\udfff]", str(value)):
            raise ProblemError(f"{where}: {key!r} holds half a character (a lone surrogate), which no model can read")
        if key in ("problem", "answer") and not str("" if value is None else value).strip():
            raise ProblemError(f"{where}: no {key!r}")
    checked = {"problem": str(row["problem"]), "answer": str(row["answer"])}
    identity = row.get("id", row.get("unique_id"))
    return checked if identity is None else checked | {"id": str(identity)}
