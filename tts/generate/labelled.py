"""Solutions whose first wrong step is known, by the name of their set, and the step scores that a PRM gives them."""

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tts.common.files import write_text
from tts.common.paths import DATA
from tts.generate.chunks import warn
from tts.models import hub
from tts.policies import address_in
from tts.reward_models import open_prm, weights_of
from tts.tasks.problems import records

SOLUTIONS = DATA / "localisation"
POCKET = "pocket"
FILES = (".jsonl", ".json", ".parquet")
PROCESS_BENCH = ("problem", "steps", "label")
MR_BEN = ("Question", "Model_Solution_Steps", "Model_Solution_Correctness", "Model_Solution_First_Error_Step")
KEPT = "labelled"  # folder of kept scores in a store
SCORING = 1  # raised whenever a PRM would give the same steps other scores here; those kept before are not read then
VALIDATION = 4  # one in so many of a set's problems is for thresholds


class LabelledError(ValueError):
    """A labelled set that does not exist or cannot be read; the message says what was given and what to do."""


@dataclass(frozen=True)
class Labelled:
    """A solution with its first wrong step."""

    problem: str  # its text
    steps: tuple[str, ...]
    first_error: int  # counted from 0; -1 where every step is right
    policy: str  # who wrote it
    group: str = ""  # subject or split; empty where the data have none


def own() -> list[str]:
    """The sets that come with the suite, one for each pocket task, by its name."""
    return sorted({POCKET, *(path.stem.rpartition("-")[0] for path in SOLUTIONS.glob("*.jsonl"))})


def read(split: str, name: str = POCKET) -> list[Labelled]:
    """The solutions of a set that are for thresholds, ``validation``, or for figures, ``test``.

    ``name`` is one of :func:`own`, which have both; a data set on the Hub, ``Qwen/ProcessBench``, ``Qwen/ProcessBench@REVISION:SPLIT``;
    or a JSONL, JSON or parquet file with the columns :data:`PROCESS_BENCH` (``label``: number of the first wrong step, from 0; -1 for
    none) or :data:`MR_BEN`. Of the latter two a quarter of the problems is for thresholds, chosen by a hash of their texts.

    Raises :class:`LabelledError` for an unknown name, a missing column, a label outside the steps, or a part without right or wrong
    solutions; ``ValueError`` for a file that cannot be read; ``ModelError`` where the Hub does not have or give a data set.
    """
    if name in own():
        try:
            rows = records(SOLUTIONS / f"{name}-{split}.jsonl", "problem, steps, first_error, policy")
            return [_solution(row | {"label": row.get("first_error"), "generator": row.get("policy")}, where, "") for where, row in rows]
        except ValueError as error:
            raise ValueError(f"{error}; restore the file, say with git checkout") from None
    chosen = [s for s in _solutions(name) if (hashlib.sha256(s.problem.encode()).digest()[0] % VALIDATION == 0) == (split == "validation")]
    if {s.first_error < 0 for s in chosen} != {True, False}:
        part = f"the {len(chosen)} of its solutions that are for {'thresholds' if split == 'validation' else 'figures'}"
        raise LabelledError(f"{name}: {part} are not right ones and wrong ones; give a larger set")
    return chosen


def check(name: str) -> None:
    """Reads a set, from the Hub where it is there; raises as :func:`read`."""
    for split in ("validation", "test"):
        read(split, name)


def source(name: str) -> str:
    """The set with its commit, where it is on the Hub."""
    repo, colon, split = name.partition(":")
    return name if name in own() or name.endswith(FILES) else f"{hub.resolve(repo, 'dataset')}{colon}{split}"


@cache
def _solutions(name: str) -> list[Labelled]:
    repo, _, split = name.partition(":")
    if name.endswith(FILES):
        files = {"": [Path(name)]}
    elif hub.is_name(repo):
        files = {}
        for path in hub.data_files(hub.resolve(repo, "dataset"), FILES):
            files.setdefault(re.sub(r"-\d+-of-\d+$", "", path.stem), []).append(path)  # large files are in parts
    else:
        raise LabelledError(
            f"no labelled set {name!r}; give {', '.join(own())}, a data set on the Hugging Face Hub as in Qwen/ProcessBench:math, or a "
            f"file that ends in {', '.join(FILES)}"
        )
    if split and split not in files:
        raise LabelledError(f"{repo} has no split {split!r}; it has {', '.join(files) or 'no ' + ', '.join(FILES)}")
    columns = f"{', '.join(PROCESS_BENCH)} or {', '.join(MR_BEN)}"
    paths = [(path, held) for held in ([split] if split else files) for path in files[held]]
    found = [_solution(row, where, held) for path, held in paths for where, row in records(path, columns)]
    if not found:
        raise LabelledError(f"{name} holds no solutions; expected rows with {columns}")
    return found


def _solution(row: dict, where: str, split: str) -> Labelled:
    """A row as a solution, its subject the group, or else its split."""
    columns = MR_BEN if set(MR_BEN) & set(row) else PROCESS_BENCH
    if missing := [column for column in columns if row.get(column) is None and (column != MR_BEN[-1] or column not in row)]:
        raise LabelledError(f"{where}: no {', '.join(missing)}; expected {', '.join(columns)}")
    steps = row[columns[1]]
    if not (isinstance(steps, list) and steps and all(isinstance(step, str) for step in steps)):
        raise LabelledError(f"{where}: {columns[1]} must be a list of texts; given {steps!r:.80}")
    if columns is MR_BEN:
        return _of_mr_ben(row, where, steps)
    if type(label := row["label"]) is not int or not -1 <= label < len(steps):
        raise LabelledError(f"{where}: label must be -1 or the number of one of its {len(steps)} steps, from 0; given {label!r:.80}")
    own = re.fullmatch(r"(.+)-\d+", str(row.get("id")))  # "gsm8k-0"
    group = row.get("subject") or split or (own[1] if own else "")
    return Labelled(str(row["problem"]), tuple(steps), label, str(row.get("generator") or ""), str(group))


def _of_mr_ben(row: dict, where: str, lines: list[str]) -> Labelled:
    """Mr-Ben's steps are lines, but its labels are numbers of the steps as a solution itself counts them, where it does: lines without a
    number of their own belong to the step before. In 135 wrong solutions of its chemistry they differ; no label exceeds the numbers.

    Labels judge the reasoning beside the corrected answer, so that neither answer is read: of its chemistry's right solutions that name
    an option, 379 of 379 name one of ``Ground_Truth_Answer_Modified``, 341 one of ``Ground_Truth_Answer``; 65 wrong ones do so too.
    """
    counted = any(re.match(r"\s*Step \d", line) for line in lines)
    steps: list[str] = []
    for line in lines:
        if counted and steps and not re.match(r"\s*(Step \d|Solution\b)", line):
            steps[-1] += f"\n{line}"
        else:
            steps.append(line)
    correctness, number = str(row["Model_Solution_Correctness"]).lower(), str(row["Model_Solution_First_Error_Step"]).strip()
    if correctness not in ("correct", "incorrect"):
        raise LabelledError(f"{where}: Model_Solution_Correctness must be correct or incorrect; given {correctness!r:.80}")
    right = correctness == "correct"
    if not right and not (number.isdecimal() and 1 <= int(number) <= len(steps)):
        given = f"one of its {len(steps)} steps, from 1; given {number!r:.80}"
        raise LabelledError(f"{where}: Model_Solution_First_Error_Step must be the number of {given}")
    problem = "\n".join(str(part) for part in (row["Question"], row.get("Options")) if part)
    first = -1 if right else int(number) - 1
    return Labelled(problem, tuple(steps), first, str(row.get("Sampled_Model") or ""), str(row.get("Subject") or ""))


def step_scores(prm: str, *sets: Sequence[Labelled], kept: Path | None = None) -> list[list[tuple[float, ...]]]:
    """Per set of solutions, the step scores of each by a PRM, which is opened for it; raises as :func:`tts.reward_models.open_prm` does.

    Steps beyond the PRM's context score 0, and are told of; scores without any are kept in a folder, for the next notebook that asks,
    if it can be written, and unless a server has the PRM: which weights it serves the next time is not known.
    """
    kept = None if address_in(prm) else kept
    asked = (SCORING, prm, weights_of(prm), [[(s.problem, s.steps) for s in part] for part in sets]) if kept else ()
    path = (kept or Path()) / f"{hashlib.sha256(repr(asked).encode()).hexdigest()}.json"
    digest, _, text = path.read_text(encoding="utf-8", errors="replace").partition("\n") if path.is_file() else ("", "", "")
    if digest == hashlib.sha256(text.encode()).hexdigest():
        return [[tuple(scores) for scores in part] for part in json.loads(text)]
    opened, found = open_prm(prm), []
    for solutions in sets:
        problems = [(s.problem, s.problem) for s in solutions]
        found.append(opened.score(problems, [s.steps for s in solutions])[0])
        for problem_id, _ in problems:
            opened.forget(problem_id)
    if hasattr(opened, "report_unread") and (line := opened.report_unread()[1]):
        warn([line])
    elif kept:
        with suppress(OSError):
            write_text(path, f"{hashlib.sha256((text := json.dumps(found)).encode()).hexdigest()}\n{text}")
    return found
