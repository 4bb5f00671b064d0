"""Problem sets by name, in one schema: a ``datasets.Dataset`` with the columns id, problem, answer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from huggingface_hub import hf_hub_download, try_to_load_from_cache

from tts.models import hub
from tts.tasks.pocket_problems import SETS as POCKET_SETS
from tts.tasks.pocket_problems import Split, held_out

if TYPE_CHECKING:
    from datasets import Dataset

MOST = 100_000  # problems that are generated; a larger number is a slip
SPLITS = ("development", "selection", "test", "all")
REASONING_GYM = "reasoning-gym:"
FILES = (".jsonl", ".parquet")


class ProblemError(ValueError):
    """A problem set that cannot be read; the message says what was given and what to do."""


@dataclass(frozen=True)
class Published:
    """A problem set of the study: one file of a data set on the Hugging Face Hub, at a fixed commit.

    Attributes:
        repository: of the data set.
        revision: its commit.
        file: that holds the problems.
    """

    repository: str
    revision: str
    file: str

    @property
    def is_cached(self) -> bool:
        return isinstance(try_to_load_from_cache(self.repository, self.file, repo_type="dataset", revision=self.revision), str)


PUBLISHED = {
    "math500": Published("HuggingFaceH4/MATH-500", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be", "test.jsonl"),
    "aime24": Published("HuggingFaceH4/aime_2024", "2fe88a2f1091d5048c0f36abc874fb997b3dd99a", "data/train-00000-of-00001.parquet"),
}


def problem_sets() -> list[str]:
    """The names that :func:`load_problems` takes, apart from files."""
    return [*POCKET_SETS, *PUBLISHED, f"{REASONING_GYM}TASK[,OPTION=VALUE...]", "path/to/problems.jsonl"]


def absent(names: Iterable[str]) -> list[str]:
    """Those of the problem sets that would have to be downloaded."""
    return [name for name in names if name in PUBLISHED and not PUBLISHED[name].is_cached]


def load_problems(name: str, count: int | None = None, split: str = "test", seed: int = 0) -> Dataset:
    """:func:`problem_rows` as a data set with these columns; parameters and errors are the same."""
    from datasets import Dataset

    return Dataset.from_list(problem_rows(name, count, split, seed))


def problem_rows(name: str, count: int | None = None, split: str = "test", seed: int = 0) -> list[dict]:
    """Problems of a set (``id``, ``problem``, ``answer``), in the order of their ids; a longer list starts with the shorter one.

    The study's sets have no development problems. A problem of theirs belongs to ``selection`` (on which a strategy may be
    chosen) or to ``test`` by the first byte of the SHA-256 of its text, odd or even: 245 and 255 of MATH-500, 16 and 14 of
    AIME24. Its id is made of the same hash, so that a copy from elsewhere gives the same problems the same samples.

    Args:
        name: ``pocket-main``, ``pocket-hard``; ``math500``, ``aime24`` from the Hub, or ``math500:FILE`` from a local copy;
            ``reasoning-gym:TASK`` (with the task's own options after commas, as in ``reasoning-gym:leg_counting,max_animals=5``);
            or a JSONL (or Parquet) file with ``problem`` and ``answer`` (and optionally ``id``) in each row.
        count: how many; None takes a whole file, or 200.
        split: development, selection or test; ``all`` for both halves of the study's sets. Other files have no splits.
        seed: of reasoning-gym.

    Raises:
        ProblemError: for an unknown name or split, a malformed line (with its number), a problem without an answer,
            fewer problems than asked for, or a set that is neither on this machine nor to be had from the Hub.
    """
    if split not in SPLITS:
        raise ProblemError(f"unknown split {split!r}; choose from {', '.join(SPLITS)}")
    if count is not None and count < 1:
        raise ProblemError(f"the number of problems must be at least 1; given {count}")
    rows, prefix = _rows(name, count, split, seed)
    if count is not None and count > len(rows):
        raise ProblemError(f"{name} has {len(rows)} problems{_of_split(name, split)}; asked for {count}")
    for number, row in enumerate(rows):
        row.setdefault("id", f"{prefix}-{number:05d}")
    if len({row["id"] for row in rows}) < len(rows):
        raise ProblemError(f"{name}: two problems share an id")
    return [{key: row[key] for key in ("id", "problem", "answer")} for row in rows[:count]]


def _rows(name: str, count: int | None, split: str, seed: int) -> tuple[list[dict], str]:
    """A set's rows, at least ``count`` where it has no end, and what the ids of rows without one begin with."""
    published, _, copy = name.partition(":")
    if published in PUBLISHED:
        return _half(published, _read(Path(copy) if copy else _fetch(published)), split), published
    if name.endswith(FILES):
        return _read(Path(name)), Path(name).stem
    if name not in POCKET_SETS and not name.startswith(REASONING_GYM):
        raise ProblemError(f"unknown problem set {name!r}; choose from {', '.join(problem_sets())}")
    if count is not None and count > MOST:
        raise ProblemError(f"the number of problems of {name} must be at most {MOST}; given {count}")
    if split == "all":
        raise ProblemError(f"{name} has no split 'all': its problems are drawn for development, selection or test")
    if name in POCKET_SETS:
        return [{"problem": p.text, "answer": p.answer} for p in held_out(name, cast(Split, split), count or 200)], f"{name}-{split}"
    tasks = reasoning_gym_tasks(name, count or 200, split, seed)
    return [{"problem": task["question"], "answer": str(task["answer"])} for task in tasks], f"{name}-{split}-{seed}"


def _of_split(name: str, split: str) -> str:
    return f" in its split {split!r}, and as many as there are in 'all'" if name.partition(":")[0] in PUBLISHED and split != "all" else ""


def _half(name: str, rows: list[dict], split: str) -> list[dict]:
    """The rows of a study's set that belong to a split, with ids made of their texts."""
    if split == "development":
        raise ProblemError(f"{name} has no development problems; choose selection, test or all")
    chosen = []
    for row in rows:
        digest = hashlib.sha256(" ".join(row["problem"].split()).encode()).digest()
        if split in ("all", "selection" if digest[0] % 2 else "test"):
            chosen.append(row | {"id": f"{name}-{digest.hex()[:12]}"})
    return chosen


def _fetch(name: str) -> Path:
    """The file of a study's set, from the local cache or else from the Hub."""
    about = PUBLISHED[name]
    remedy = f"give a local copy as {name}:path/to/problems.jsonl"
    if not about.is_cached and (reason := hub.unreachable()):
        raise ProblemError(f"{name} ({about.repository}) is not on this machine and the Hub cannot be reached ({reason}); {remedy}")
    try:
        return Path(hf_hub_download(about.repository, about.file, repo_type="dataset", revision=about.revision))
    except Exception as error:  # the Hub's client raises many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ProblemError(f"cannot download {name} ({about.repository}): {reason}; {remedy}") from error


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


def _read(path: Path) -> list[dict]:
    """A file's rows, each checked."""
    if not path.exists():
        raise ProblemError(f"no file {path}; expected JSON lines with 'problem' and 'answer'")
    if path.suffix == ".parquet":
        return [_checked_row(row, f"{path}, row {number}") for number, row in enumerate(_table(path), 1)]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProblemError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ProblemError(f"{path} cannot be read: {error.strerror}; expected a file of JSON lines with 'problem' and 'answer'") from None
    # Other line separators may stand inside a JSON string.
    rows = [_checked_line(line, f"{path}, line {number}") for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise ProblemError(f"{path} holds no problems; expected JSON lines with 'problem' and 'answer'")
    return rows


def _table(path: Path) -> list[dict]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ProblemError(f"{path} is not a Parquet file that can be read; copy or download it again") from error


def _checked_line(line: str, where: str) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ProblemError(f"{where}: not valid JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested by the thousand
        raise ProblemError(f"{where}: not JSON that can be read ({error})") from None
    if not isinstance(row, dict):
        raise ProblemError(f"{where}: expected an object with 'problem' and 'answer', found {type(row).__name__}")
    return _checked_row(row, where)


def _checked_row(row: dict, where: str) -> dict:
    if "answer" not in row and "extracted_groundtruth" in row:  # as the study's repository calls the answers of AIME24
        row = row | {"answer": row["extracted_groundtruth"]}
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
