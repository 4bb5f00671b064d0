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

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tts.exchange.records import (
    Contents,
    Record,
    Solution,
    clean_scores,
    copies,
    json_lines,
    problem_key,
    steps_and_scores,
    total,
    whole_number,
)
from tts.tasks.extraction import boxed_answer
from tts.tasks.selection import Rule

NAME = "compute-optimal-tts"
_RUN = re.compile(r"([^/]+)_(best_of_n|beam_search|cot)/([^/]+)/([^/]+)/\d+_(\d+)_(\d+)")
_QUESTION = re.compile(r"question_(\d+)")
_RECORD = re.compile(r"record_(\d+)\.jsonl")
# Its verdicts for several candidates, by the names in its records.
_RULES = {"majority_vote": Rule("", "majority")} | {
    f"prm_{how}_{vote}": Rule(how, vote) for how in ("min", "last", "avg") for vote in ("max", "vote")
}


@dataclass(frozen=True)
class Run:
    """A ``DEPTH_WIDTH_SEQUENCES`` folder, the last four parts of its path, and what they say."""

    folder: Path
    name: str
    task: str
    method: str
    policy: str
    prm: str
    width: int
    sequences: int

    def records(self) -> list[tuple[int, int, Path]]:
        """Question number, record number and file of each record, in order."""
        paths = ((_QUESTION.fullmatch(path.parent.name), _RECORD.fullmatch(path.name), path) for path in self.folder.glob("question_*/*"))
        return sorted((int(question[1]), int(record[1]), path) for question, record, path in paths if question and record)


def runs(root: Path) -> list[Run]:
    """The runs at or below a folder."""
    folders = [path for path in (root, *sorted(root.rglob("*_*_*"))) if path.is_dir()]
    names = [(path, _RUN.fullmatch("/".join(path.parts[-4:]))) for path in folders]
    return [Run(path, named[0], *named.groups()[:4], int(named[5]), int(named[6])) for path, named in names if named]


def read_folders(root: Path, known: list[Run]) -> Iterator[Contents]:
    """What runs below ``root`` hold, one problem set for each task."""
    for task in dict.fromkeys(run.task for run in known):
        of_task = [run for run in known if run.task == task]
        contents = Contents(NAME, task)
        texts, again = _questions(of_task), copies(path for run in of_task for *_, path in run.records())
        for run in of_task:
            _read_run(run, root, texts, again, contents)
        yield contents


def _questions(of_task: list[Run]) -> dict[int, str]:
    """Each question's text, as most of its records in all runs have it."""
    counts: dict[int, Counter] = defaultdict(Counter)
    for run in of_task:
        for question, _, path in run.records():
            for _, row, _ in json_lines(path):
                if row and isinstance(row.get("question"), str):
                    counts[question][problem_key(row["question"])] += 1
    return {question: texts.most_common(1)[0][0] for question, texts in counts.items()}


def _read_run(run: Run, root: Path, texts: dict[int, str], again: dict[Path, Path], contents: Contents) -> None:
    config, records, repeated = _config(run.folder, root, contents), run.records(), 0
    if run.method == "best_of_n" and run.folder.name == "1_1_1":
        contents.notes.append(f"{run.name}: each record is one sample; a question's records together are a pool, not best-of-N")
    if run.method == "beam_search" and run.sequences == 1:
        contents.notes.append(f"{run.name}: a question's records are repetitions (seeds) of beam search, and together the subtrees of DVTS")
    for question, number, path in records:
        where, first = path.relative_to(root), again.get(path)
        if first and path.parts[-6:-1] == first.parts[-6:-1]:  # of the same run and question
            # Independent samples may be the same, byte for byte; whole searches, with their counts of pruned tokens, are not.
            if path.name == first.name or run.method == "beam_search":
                contents.skip(where, f"a byte-identical copy of {first.relative_to(root)}")
                continue
            repeated += 1
        rows = list(json_lines(path))
        if not rows:
            contents.skip(where, "empty file")
        for line, row, problem in rows:
            source = f"{where}, {line}" if len(rows) > 1 else str(where)
            if row is None:
                contents.skip(source, problem)
            elif row is not rows[0][1] and row == rows[0][1]:
                contents.skip(source, "the same record again")
            elif record := _record(row, source, run, config, question, number, texts, contents):
                contents.add(record)
                if record.n == record.width and len(record.solutions) == 1 and run.method == "beam_search":  # also a subtree of DVTS
                    contents.add(replace(record, method="dvts", n=None, seed=0, recorded={}))
    if repeated:
        contents.notes.append(
            f"{run.name}: {repeated} records are byte for byte another one of their question; samples may repeat: all are used"
        )
    known = {path for _, _, path in records}
    for path in sorted(run.folder.rglob("*")):
        if path.is_file() and path not in known and path.name not in ("config.json", "avg_result.json") and "lock_dir" not in path.parts:
            contents.skip(path.relative_to(root), "not a record (record_J.jsonl in a folder question_I)")
    for path in sorted(run.folder.glob("question_*/")):
        if not any(_RECORD.fullmatch(p.name) for p in path.iterdir()):
            contents.skip(path.relative_to(root), "a question without records")


def _config(folder: Path, root: Path, contents: Contents) -> dict:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config, dict) and isinstance(config.get("gen_config", {}), dict):
            return config
        reason = "not an object"
    except FileNotFoundError:
        contents.notes.append(f"{folder.relative_to(root)} has no config.json: temperature and token limit are unknown")
        return {}
    except (ValueError, RecursionError, OSError) as error:
        reason = str(error).splitlines()[0]
    contents.skip(path.relative_to(root), f"not readable ({reason}): temperature and token limit are unknown")
    return {}


def _record(
    row: dict, source: str, run: Run, config: dict, question: int, number: int, texts: dict[int, str], contents: Contents
) -> Record | None:
    text, truth, output = row.get("question"), row.get("groundtruth"), row.get("output")
    if not isinstance(text, str) or not text.strip():
        return contents.skip(source, "no question")
    if problem_key(text) != texts[question]:
        whose = next((f"question {i}" for i, known in texts.items() if known == problem_key(text)), "no other question of the task")
        return contents.skip(source, f"a record from another problem (its text is that of {whose})")
    if not isinstance(truth, (str, int, float)) or not str(truth).strip():
        return contents.skip(source, "no groundtruth")
    if not isinstance(output, list) or not output or not all(isinstance(o, dict) and isinstance(o.get("text"), str) for o in output):
        return contents.skip(source, "no output texts")
    searched, generation = run.method == "beam_search", config.get("gen_config", {})
    limit, tag = None if searched else generation.get("max_new_tokens"), config.get("prm_step_tag")
    solutions = tuple(_solution(o, limit, tag if isinstance(tag, str) else "") for o in output)
    prm = None if "dummy" in run.prm.lower() or run.method == "cot" else run.prm
    if prm and not any(s.scores for s in solutions):
        contents.skip(source, f"step scores (there are none of {prm}, or not all are numbers); the text is used")
    result = row.get("result") if isinstance(row.get("result"), dict) else {}
    return Record(
        problem=text,
        answer=boxed_answer(str(truth)) or str(truth).strip(),
        method="samples" if run.method == "best_of_n" else run.method,
        policy=run.policy,
        solutions=solutions,
        source=source,
        prm=prm,
        n=run.width if searched else 1 if run.method == "cot" else None,
        seed=number if run.method != "best_of_n" else 0,
        width=max(1, run.width // max(1, run.sequences)) if searched else None,
        sampling={key: generation[key] for key in ("temperature", "top_p") if isinstance(generation.get(key), (int, float))},
        place=question,
        policy_tokens=whole_number(result.get("total_completion_tokens")) or total([o.get("completion_tokens") for o in output]) or None,
        recorded={(rule, len(solutions)): bool(result[key]) for key, rule in _RULES.items() if result.get(key) in (0, 1)},
    )


def _solution(output: dict, limit: object, tag: str) -> Solution:
    steps, scores = steps_and_scores(output["text"], clean_scores(output.get("value")), tag)
    history = output.get("token_history")
    tokens = total(history) or None if isinstance(history, list) else None
    cut = isinstance(limit, int) and tokens is not None and tokens >= limit
    return Solution(steps, scores, tokens, "truncated" if cut else "finished")
