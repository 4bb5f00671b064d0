"""Output folders of the study's own code (RyanLiu112/compute-optimal-tts).

``TASK_METHOD/POLICY/PRM/DEPTH_WIDTH_SEQUENCES/question_I/record_J.jsonl``, with a ``config.json`` beside the questions. What the
folders mean follows from that code's README and ``evaluate.py``:

- ``best_of_n`` is run with width 1 and many records: each record is *one* sample, so that a question's records are a pool.
- ``beam_search`` with width W and S sequences has N = W and M = W / S; its records are repetitions.
- DVTS has no folder of its own: it is beam search with one sequence, and each record is a subtree of width W.
- ``cot`` is greedy.
- ``value`` holds the PRM's step scores, ``completion_tokens`` what the policy generated, pruned branches included, and
  ``token_history`` the tokens of each step of the solution itself.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tts.exchange.records import (
    STEP_TAGS,
    Found,
    Record,
    Recorded,
    Solution,
    clean_scores,
    json_lines,
    problem_key,
    steps_and_scores,
    whole_number,
)
from tts.tasks.prompts import boxed_answer
from tts.tasks.selection import Rule

NAME = "compute-optimal-tts"
_TASK = re.compile(r"(.+)_(best_of_n|beam_search|cot)")
_PARAMETERS = re.compile(r"(\d+)_(\d+)_(\d+)")
_QUESTION = re.compile(r"question_(\d+)")
_RECORD = re.compile(r"record_(\d+)\.jsonl")
# Its verdicts for several candidates, by the names in its records.
_RULES = {"majority_vote": Rule("", "majority")} | {
    f"prm_{how}_{vote}": Rule(how, vote) for how in ("min", "last", "avg") for vote in ("max", "vote")
}


def folders(root: Path) -> list[Path]:
    """The ``DEPTH_WIDTH_SEQUENCES`` folders at or below a folder."""
    found = [path for path in sorted(root.rglob("*_*_*")) if path.is_dir()]
    return [path for path in ([root] if root.is_dir() else []) + found if _run_of(path)]


def read(root: Path) -> Iterator[Found]:
    """What the folders below ``root`` hold, one problem set for each task."""
    by_task: dict[str, list[Path]] = {}
    for folder in folders(root):
        by_task.setdefault(_run_of(folder)[0], []).append(folder)
    for task, runs in by_task.items():
        found = Found(NAME, task)
        texts = _questions(runs, root)
        for folder in runs:
            _read_run(folder, root, texts, found)
        yield found


def files(root: Path) -> set[Path]:
    """Every file that belongs to such a folder."""
    return {path for folder in folders(root) for path in folder.rglob("*") if path.is_file()}


def _run_of(folder: Path) -> tuple[str, str] | None:
    """Task and method of a ``DEPTH_WIDTH_SEQUENCES`` folder, by the names above it."""
    if len(folder.parts) < 4 or not _PARAMETERS.fullmatch(folder.name):
        return None
    match = _TASK.fullmatch(folder.parts[-4])
    return match.groups() if match else None


def _records(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Question number, record number and file of each record, in order."""
    for question in folder.glob("question_*"):
        number = _QUESTION.fullmatch(question.name)
        for path in question.iterdir() if number and question.is_dir() else ():
            if record := _RECORD.fullmatch(path.name):
                yield int(number[1]), int(record[1]), path


def _questions(runs: list[Path], root: Path) -> dict[int, str]:
    """Each question's text, as most of its records in all runs have it."""
    counts: dict[int, Counter] = {}
    for folder in runs:
        for question, _, path in sorted(_records(folder)):
            for _, row, _ in json_lines(path):
                if row and isinstance(row.get("question"), str):
                    counts.setdefault(question, Counter())[problem_key(row["question"])] += 1
    return {question: texts.most_common(1)[0][0] for question, texts in counts.items()}


def _read_run(folder: Path, root: Path, texts: dict[int, str], found: Found) -> None:
    config = _config(folder, root, found)
    _, method = _run_of(folder)
    name = "/".join(folder.parts[-4:])
    if method == "best_of_n" and folder.name == "1_1_1":
        found.notes.append(f"{name}: each record is one sample; a question's records together are a pool, not best-of-N")
    if method == "beam_search" and folder.name.endswith("_1"):
        found.notes.append(f"{name}: a question's records are repetitions (seeds) of beam search, and together the subtrees of DVTS")
    known = set()
    for question, number, path in sorted(_records(folder)):
        known.add(path)
        where = path.relative_to(root)
        rows = list(json_lines(path))
        if not rows:
            found.skip(where, "empty file")
        for line, row, problem in rows:
            source = f"{where}, line {line}" if len(rows) > 1 else str(where)
            if row is None:
                found.skip(source, problem)
            elif len(rows) > 1 and line > 1 and row == rows[0][1]:
                found.skip(source, "the same record again")
            elif record := _record(row, source, folder, method, config, question, number, texts, found):
                found.records += _with_subtree(record)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in known and path.name not in ("config.json", "avg_result.json") and "lock_dir" not in path.parts:
            found.skip(path.relative_to(root), "not a record (record_J.jsonl in a folder question_I)")
    for path in sorted(folder.glob("question_*")):
        if path.is_dir() and not any(_RECORD.fullmatch(p.name) for p in path.iterdir()):
            found.skip(path.relative_to(root), "a question without records")


def _config(folder: Path, root: Path, found: Found) -> dict:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config, dict) and isinstance(config.get("gen_config", {}), dict):
            return config
        reason = "not an object"
    except FileNotFoundError:
        found.notes.append(f"{folder.relative_to(root)} has no config.json: temperature and token limit are unknown")
        return {}
    except (ValueError, RecursionError, OSError) as error:
        reason = str(error).splitlines()[0]
    found.skip(path.relative_to(root), f"not readable ({reason}): temperature and token limit are unknown")
    return {}


def _record(
    row: dict, source: str, folder: Path, method: str, config: dict, question: int, number: int, texts: dict[int, str], found: Found
) -> Record | None:
    text, truth, output = row.get("question"), row.get("groundtruth"), row.get("output")
    if not isinstance(text, str) or not text.strip():
        return found.skip(source, "no question")
    if problem_key(text) != texts[question]:
        other = next((i for i, known in texts.items() if known == problem_key(text)), None)
        whose = f"question {other}" if other is not None else "no other question of the task"
        return found.skip(source, f"a record from another problem (its text is that of {whose})")
    if not isinstance(truth, (str, int, float)) or not str(truth).strip():
        return found.skip(source, "no groundtruth")
    if not isinstance(output, list) or not output or not all(isinstance(o, dict) and isinstance(o.get("text"), str) for o in output):
        return found.skip(source, "no output texts")
    generation = config.get("gen_config", {})
    limit = generation.get("max_new_tokens") if method != "beam_search" else None
    tags = tuple(tag for tag in (config.get("prm_step_tag"), *STEP_TAGS) if isinstance(tag, str))
    solutions = tuple(_solution(o, limit, tags) for o in output)
    _, width, sequences = (int(part) for part in _PARAMETERS.fullmatch(folder.name).groups())
    prm = None if "dummy" in folder.parent.name.lower() or method == "cot" else folder.parent.name
    if prm and not any(s.scores for s in solutions):
        found.skip(source, f"step scores (there are none of {prm}, or not all are numbers); the text is used")
    searched = method == "beam_search"
    result = row.get("result") if isinstance(row.get("result"), dict) else {}
    recorded = [Recorded(rule, correct=bool(result[key])) for key, rule in _RULES.items() if result.get(key) in (0, 1)]
    return Record(
        problem=text,
        answer=boxed_answer(str(truth)) or str(truth).strip(),
        method="samples" if method == "best_of_n" else method,
        policy=folder.parent.parent.name,
        solutions=solutions,
        source=source,
        prm=prm,
        n=width if searched else 1 if method == "cot" else None,
        seed=number if method != "best_of_n" else 0,
        width=max(1, width // max(1, sequences)) if searched else None,
        sampling={key: generation[key] for key in ("temperature", "top_p") if isinstance(generation.get(key), (int, float))},
        place=question,
        policy_tokens=_generated(result, output),
        recorded=tuple(recorded),
    )


def _solution(output: dict, limit: object, tags: tuple[str, ...]) -> Solution:
    steps, scores = steps_and_scores(output["text"], clean_scores(output.get("value")), tags)
    history = output.get("token_history")
    counts = [whole_number(t) for t in history] if isinstance(history, list) else []
    tokens = sum(counts) if counts and None not in counts and sum(counts) else None
    cut = isinstance(limit, int) and tokens is not None and tokens >= limit
    return Solution(steps, scores, tokens, "truncated" if cut else "finished")


def _generated(result: dict, output: list[dict]) -> int | None:
    """Every token that the policy generated for a record."""
    counts = [whole_number(o.get("completion_tokens")) for o in output]
    total = whole_number(result.get("total_completion_tokens"))
    return total or (sum(counts) if None not in counts and sum(counts) else None)


def _with_subtree(record: Record) -> list[Record]:
    """A beam search with one place is also one subtree of DVTS."""
    if record.method != "beam_search" or record.n != record.width or len(record.solutions) != 1:
        return [record]
    return [record, replace(record, method="dvts", n=None, seed=0, recorded=())]
