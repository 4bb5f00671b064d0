"""The suite's own exchange format, ``docs/formats.md``: JSON lines, one problem of one run a line. Reader and writer."""

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tts.analysis.grades import Judges
from tts.common.files import replacing
from tts.exchange.reading import clean_scores, objects, steps_and_scores, summed, total, whole_number
from tts.exchange.records import COUNTS, SAMPLES, Contents, ExchangeError, Header, Record, Solution, expect, pack, writing
from tts.search.registry import GREEDY, POOL, SCORES, Settings, is_search, method_of, searches
from tts.store.imported import is_imported, original, task_of_run
from tts.store.run_spec import RunSpec
from tts.store.store import Run, Store
from tts.tasks.maths import MATHS

NAME = "plain"
REQUIRED = ("problem", "answer", "completions")
STATUSES = ("finished", "truncated", "open")

_TEXT, _NUMBER = pa.string(), pa.int64()
_SOLUTION = {"steps": pa.list_(_TEXT), "scores": pa.list_(pa.float64()), "tokens": _NUMBER, "status": _TEXT, "path": pa.list_(pa.int32())}
_GRADES = {"correct": pa.bool_(), "outcome": _TEXT}


def schema(graded: bool = False) -> pa.Schema:
    """Schema of the parquet export; ``sampling`` is JSON text there, for its fields differ between engines."""
    return pa.schema(
        dict.fromkeys(("id", "problem", "answer", "method", "policy", "prm"), _TEXT)
        | dict.fromkeys(("n", "seed", "width"), _NUMBER)
        | {"sampling": _TEXT}
        | dict.fromkeys(COUNTS, _NUMBER)
        | {"extract": pa.list_(_TEXT), "completions": pa.list_(pa.struct({"text": _TEXT} | _SOLUTION | (_GRADES if graded else {})))}
    )


def is_row(row: dict) -> bool:
    """Whether a JSON line is in this format."""
    held = row.get("completions")
    return "problem" in row and "answer" in row and isinstance(held, list) and all(isinstance(c, dict) for c in held)


def read_file(path: Path, name: str, contents: Contents) -> None:
    """Adds what a file holds to ``contents``; ``name`` is the file's in messages."""
    for source, row in objects(path, name, contents):
        with contents.using(source):
            contents.records.append(record(row, source, path.stem, contents))


def record(row: dict, source: str, default_policy: str, contents: Contents) -> Record:
    """One line as a record; an ExchangeError where a field is missing or does not fit."""
    for key in REQUIRED:
        expect(key in row, f"no {key}; its fields are {', '.join(map(str, row))!s:.120}")
    expect(is_row(row), f"completions must be a list of objects; given {row['completions']!r:.60}")
    for key in ("problem", "answer"):
        expect(row[key] is not None and str(row[key]).strip(), f"an empty {key}")
    told = {key: value for key, value in row.items() if value is not None}
    method, sampling = told.get("method", SAMPLES), told.get("sampling", {})
    known = (GREEDY, SAMPLES, *searches())
    expect(method in known, f"unknown method {method!r}; known: {', '.join(known)}")
    solutions = [_solution(completion, f"completion {number}") for number, completion in enumerate(row["completions"])]
    n, width, seed = (_count(row, key) for key in ("n", "width", "seed"))
    if is_search(method):
        try:
            method_of(method).check(n or 0, Settings(width or 0))
        except ValueError as error:
            raise ExchangeError(f"{method} needs n and width: {error}") from None
        expect(n, f"{method} needs n; given {n!r}")
        told_apart = not method_of(method).part or all(s.path for s in solutions)
        expect(told_apart, f"{method} needs a path for each completion, whose first index divided by width is its subtree")
    expect(isinstance(sampling, dict), f"sampling must be an object; given {sampling!r:.60}")
    counts = {key: _count(row, key) for key in COUNTS}
    if "policy_tokens" not in row and method in (SAMPLES, GREEDY):
        counts["policy_tokens"] = total([s.tokens for s in solutions])
    ways = told.get("extract", [])
    fit = isinstance(ways, list) and set(map(str, ways)) <= set(MATHS.known_ways)
    expect(fit, f"extract must be a list of {', '.join(MATHS.known_ways)}; given {ways!r:.60}")
    contents.extract = tuple(dict.fromkeys([*contents.extract, *ways]))
    contents.boxed.update(MATHS.answer(MATHS.join(s.steps)) is not None for s in solutions)
    policy, prm = row.get("policy") or default_policy, row.get("prm") or ("prm" if any(s.scores for s in solutions) else None)
    return Record(
        Header(method, str(policy), str(prm) if prm else None, n, seed or 0, width if is_search(method) else None, sampling),
        str(row["problem"]),
        str(row["answer"]),
        (pack(solutions),),
        source,
        problem_id=str(told["id"]) if "id" in told else None,
        counts=counts,
        seconds=summed([_seconds(row)]) or summed([_seconds(completion) for completion in row["completions"]]),
    )


def _solution(completion: dict, where: str) -> Solution:
    text, steps, given, correct = (completion.get(key) for key in ("text", "steps", "scores", "correct"))
    scores, path = clean_scores(given), completion.get("path") or []
    status = "finished" if completion.get("status") is None else completion["status"]
    expect(scores or not given, f"{where}: scores must be finite numbers; given {given!r:.60}")
    if steps is None:
        expect(isinstance(text, str), f"{where}: no text")
        steps, scores = steps_and_scores(text, scores)
    expect(isinstance(steps, (list, tuple)) and all(isinstance(s, str) for s in steps), f"{where}: steps must be a list of texts")
    expect(status in STATUSES, f"{where}: unknown status {status!r}; known: {', '.join(STATUSES)}")
    expect(isinstance(path, list) and None not in map(whole_number, path), f"{where}: path must be a list of sample indices")
    expect(correct is None or isinstance(correct, bool), f"{where}: correct must be true or false")
    return Solution(steps, scores, _count(completion, "tokens"), status, path, correct)


def _seconds(held: dict) -> float | None:
    """The wall time of a row or a completion, by either name."""
    value = held.get("seconds", held.get("latency"))
    fits = value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf)
    expect(fits, f"seconds must be a number, 0 or more; given {value!r:.40}")
    return value


def _count(row: dict, key: str) -> int | None:
    value = row.get(key)
    expect(value is None or whole_number(value) is not None, f"{key} must be a whole number; given {value!r:.40}")
    return whole_number(value)


def rows(store: Store, graded: bool = False) -> Iterator[dict]:
    """Everything in a store, one row per run and problem, sorted, without times; ``graded`` adds what became of each completion."""
    runs = [run for run in store.runs() if any(run.folder.glob("*.parquet"))]
    headers = _headers(runs)
    with Judges() if graded else nullcontext() as judges:
        for run in sorted(runs, key=lambda run: json.dumps(headers[run.key], sort_keys=True)):
            task = task_of_run(run)
            ways = list(task.ways) if task.ways != type(task).ways else None  # null where they are the task's own
            for row in sorted(run.rows(), key=lambda row: row["problem_id"]):
                completions = [{"text": MATHS.join(t["steps"])} | {key: t[key] for key in _SOLUTION} for t in row["trajectories"]]
                if judges:
                    [grades] = judges.of_rows([row], task, judges.verdicts(store.folder))
                    for one, right, status in zip(completions, grades.correct, grades.status):
                        one |= {"correct": right, "outcome": status}
                named = {"id": row["problem_id"], "problem": row["problem"], "answer": row["answer"]}
                yield named | headers[run.key] | {key: row[key] for key in COUNTS} | {"extract": ways, "completions": completions}


def _headers(runs: list[Run]) -> dict[str, dict]:
    """What tells runs apart, by key; a PRM that scored imported samples here has its weights, if one of its name came along."""
    headers = {run.key: _header(run.spec)._asdict() for run in runs}
    here = [run for run in runs if run.spec.prm and is_imported(run.spec.policy.name) > is_imported(run.spec.prm.name)]
    others = [headers[run.key] for run in runs if run not in here]
    for run in here:
        if (header := headers[run.key]) in others:
            headers[run.key] = header | {"prm": f"{header['prm']}@{run.spec.prm.weights[:12]}"}
    return headers


def _header(spec: RunSpec) -> Header:
    method = SAMPLES if spec.method in (POOL, SCORES) else spec.method
    sampling = {key: value for key, value in spec.sampling.items() if key != "seed"}
    sampling |= {"constants": spec.constants} if spec.constants else {}  # what else tells runs apart
    sampling |= {"max_steps": spec.max_steps} if spec.max_steps not in (None, Settings().max_steps) else {}
    sampling |= {"system": spec.task.system} if spec.task and spec.task.system is not None else {}
    return Header(method, original(spec.policy.name), spec.guide and original(spec.guide), spec.n, spec.seed, spec.width, sampling)


def write(exported: Iterable[dict], target: Path, graded: bool = False) -> int:
    """Writes :func:`rows` as JSON lines or parquet, by the file's name; returns how many. Raises :class:`ExchangeError` where it cannot."""
    expect(target.suffix in (".jsonl", ".parquet"), f"{target}: give a file that ends in .jsonl or .parquet")
    count, rows = 0, iter(exported)
    with writing(target), replacing(target) as path:
        if target.suffix == ".jsonl":
            with path.open("w", encoding="utf-8") as file:
                for row in rows:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
            return count
        with pq.ParquetWriter(path, schema(graded), compression="zstd") as writer:
            while held := [row | {"sampling": json.dumps(row["sampling"], sort_keys=True)} for row in islice(rows, 500)]:
                writer.write_table(pa.Table.from_pylist(held, writer.schema))
                count += len(held)
    return count
