"""The suite's own exchange format, ``docs/formats.md``: JSON lines, one problem of one run a line. Reader and writer."""

import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tts.analysis.grades import VERDICTS, Judges
from tts.common.files import replacing
from tts.exchange.records import COUNTS, Contents, ExchangeError, Record, Solution, clean_scores, steps_and_scores, whole_number, writing
from tts.search.registry import GREEDY, POOL, SCORES, Settings, is_search, method_of, searches
from tts.store.imported import is_imported, original
from tts.store.run_spec import RunSpec
from tts.store.store import Run, Store
from tts.tasks import task_of_key
from tts.tasks.maths import MATHS
from tts.tasks.verdicts import Verdicts

NAME = "plain"
REQUIRED = ("problem", "answer", "completions")
STATUSES = ("finished", "truncated", "open")
SAMPLES = "samples"  # a pool, with scores or without

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
        | {"completions": pa.list_(pa.struct({"text": _TEXT} | _SOLUTION | (_GRADES if graded else {})))}
    )


def is_row(row: dict) -> bool:
    """Whether a JSON line is in this format."""
    held = row.get("completions")
    return "problem" in row and "answer" in row and isinstance(held, list) and all(isinstance(c, dict) for c in held)


def read_rows(path: Path, name: str, rows: Iterator[tuple[str, dict]], contents: Contents) -> None:
    """Adds what a file holds to ``contents``; arguments as of :func:`tts.exchange.search_and_learn.read_rows`."""
    for source, row in rows:
        try:
            contents.add(_record(row, source, path.stem))
        except ExchangeError as error:
            contents.skip(source, str(error))


def _record(row: dict, source: str, default_policy: str) -> Record:
    """One line as a record; an ExchangeError where a field is missing or does not fit."""
    for key in REQUIRED:
        _expect(key in row, f"no {key}; its fields are {', '.join(map(str, row))!s:.120}")
    _expect(is_row(row), f"completions must be a list of objects; given {row['completions']!r:.60}")
    for key in ("problem", "answer"):
        _expect(row[key] is not None and str(row[key]).strip(), f"an empty {key}")
    method = SAMPLES if row.get("method") is None else row["method"]
    known = (GREEDY, SAMPLES, *searches())
    _expect(method in known, f"unknown method {method!r}; known: {', '.join(known)}")
    solutions = tuple(_solution(c, number) for number, c in enumerate(row["completions"]))
    n, width, seed = (_count(row, key) for key in ("n", "width", "seed"))
    if is_search(method):
        try:
            method_of(method).check(n or 0, Settings(width or 0))
        except ValueError as error:
            raise ExchangeError(f"{method} needs n and width: {error}") from None
        _expect(n, f"{method} needs n; given {n!r}")
        told_apart = not method_of(method).part or all(s.path for s in solutions)
        _expect(told_apart, f"{method} needs a path for each completion, whose first index divided by width is its subtree")
    sampling = {} if row.get("sampling") is None else row["sampling"]
    _expect(isinstance(sampling, dict), f"sampling must be an object; given {sampling!r:.60}")
    prm = row.get("prm") or ("prm" if any(s.scores for s in solutions) else None)
    counts = {key: _count(row, key) for key in COUNTS}
    tokens = [s.tokens for s in solutions]
    if "policy_tokens" not in row and method in (SAMPLES, GREEDY) and None not in tokens:
        counts["policy_tokens"] = sum(tokens)
    return Record(
        problem=str(row["problem"]),
        answer=str(row["answer"]),
        method=method,
        policy=str(row.get("policy") or default_policy),
        solutions=solutions,
        source=source,
        prm=str(prm) if prm else None,
        n=n,
        seed=seed or 0,
        width=width if is_search(method) else None,
        sampling=sampling,
        problem_id=None if row.get("id") is None else str(row["id"]),
        **counts,
    )


def _expect(fits: object, problem: str) -> None:
    """Raises an error that names the problem, unless a field fits."""
    if not fits:
        raise ExchangeError(problem)


def _solution(completion: dict, number: int) -> Solution:
    where, text, steps, given = f"completion {number}", completion.get("text"), completion.get("steps"), completion.get("scores")
    scores, path, correct = clean_scores(given), completion.get("path") or [], completion.get("correct")
    status = "finished" if completion.get("status") is None else completion["status"]
    _expect(scores or not given, f"{where}: scores must be finite numbers; given {given!r:.60}")
    if steps is None:
        _expect(isinstance(text, str), f"{where}: no text")
        steps, scores = steps_and_scores(text, scores)
    _expect(isinstance(steps, (list, tuple)) and all(isinstance(s, str) for s in steps), f"{where}: steps must be a list of texts")
    _expect(status in STATUSES, f"{where}: unknown status {status!r}; known: {', '.join(STATUSES)}")
    _expect(isinstance(path, list) and None not in map(whole_number, path), f"{where}: path must be a list of sample indices")
    _expect(correct is None or isinstance(correct, bool), f"{where}: correct must be true or false")
    return Solution(tuple(steps), scores, _count(completion, "tokens"), status, tuple(path), correct)


def _count(row: dict, key: str) -> int | None:
    value = row.get(key)
    _expect(value is None or whole_number(value) is not None, f"{key} must be a whole number; given {value!r:.40}")
    return whole_number(value)


def rows(store: Store, graded: bool = False) -> Iterator[dict]:
    """Everything in a store, one row per run and problem, sorted, without times.

    ``graded`` adds to each completion whether it is right and what became of its answer, see :class:`tts.analysis.grades.Grades`.
    """
    runs = [run for run in store.runs() if any(run.folder.glob("*.parquet"))]
    headers = _headers(runs)
    with Judges() if graded else nullcontext() as judges:
        for run in sorted(runs, key=lambda run: json.dumps(headers[run.key], sort_keys=True)):
            verdicts = Verdicts(store.folder / VERDICTS)
            for row in sorted(run.rows(), key=lambda row: row["problem_id"]):
                completions = [{"text": MATHS.join(t["steps"])} | {key: t[key] for key in _SOLUTION} for t in row["trajectories"]]
                if judges:
                    [grades] = judges.of_rows([row], task_of_key(run.spec.task), verdicts)
                    each = zip(completions, grades.correct, grades.status)
                    completions = [one | {"correct": right, "outcome": status} for one, right, status in each]
                named = {"id": row["problem_id"], "problem": row["problem"], "answer": row["answer"]}
                yield named | headers[run.key] | {key: row[key] for key in COUNTS} | {"completions": completions}


def _headers(runs: list[Run]) -> dict[str, dict]:
    """What tells runs apart, by key; a PRM that scored imported samples here has its weights, if one of its name came along."""
    headers = {run.key: _header(run.spec) for run in runs}
    here = [run for run in runs if run.spec.prm and is_imported(run.spec.policy.name) > is_imported(run.spec.prm.name)]
    others = [headers[run.key] for run in runs if run not in here]
    for run in here:
        if (header := headers[run.key]) in others:
            headers[run.key] = header | {"prm": f"{header['prm']}@{run.spec.prm.weights[:12]}"}
    return headers


def _header(spec: RunSpec) -> dict:
    return {
        "method": SAMPLES if spec.method in (POOL, SCORES) else spec.method,
        "policy": original(spec.policy.name),
        "prm": original(spec.prm.name) if spec.prm else None,
        "n": spec.n,
        "seed": spec.seed,
        "width": spec.width,
        "sampling": {key: value for key, value in spec.sampling.items() if key != "seed"},
    }


def write(exported: Iterable[dict], target: Path, graded: bool = False) -> int:
    """Writes rows as JSON lines or, where the file's name ends so, parquet; returns how many. ``graded`` as of :func:`rows`.

    Raises:
        ExchangeError: for another ending, or where the file cannot be written.
    """
    if target.suffix not in (".jsonl", ".parquet"):
        raise ExchangeError(f"{target}: give a file that ends in .jsonl or .parquet")
    count, rows = 0, iter(exported)
    with writing(target), replacing(target) as path:
        if target.suffix == ".jsonl":
            with path.open("w", encoding="utf-8") as file:
                for row in rows:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
            return count
        with pq.ParquetWriter(path, schema(graded), compression="zstd") as writer:
            while held := [row | {"sampling": json.dumps(row["sampling"], sort_keys=True)} for row in itertools.islice(rows, 500)]:
                writer.write_table(pa.Table.from_pylist(held, writer.schema))
                count += len(held)
    return count
