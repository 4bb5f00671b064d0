"""From records to runs as the store keeps them: one problem set, and per run the rows of the problems that it holds whole."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace

from tts.exchange.records import Found, Record, Solution, clean_name, problem_key
from tts.search.registry import METHODS, is_search
from tts.tasks.grading import Grader


@dataclass
class ImportedRun:
    """One run: its rows by problem id.

    Attributes:
        method: as in specs of runs.
        policy, prm: names as they come.
        n: budget.
        seed: of repeated runs.
        width: M of a search.
        sampling: as far as it is recorded.
        rows: as the store keeps them.
    """

    method: str
    policy: str
    prm: str | None
    n: int
    seed: int
    width: int | None
    sampling: dict
    rows: dict[str, dict]


@dataclass
class Assembled:
    """Everything that one import writes.

    Attributes:
        problems: id, problem and answer, those that most runs hold first.
        runs: in a fixed order.
        used: records that went into them.
    """

    problems: list[dict]
    runs: list[ImportedRun]
    used: list[Record] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """A hash of all of it."""
        content = [self.problems, [[*_order(run), run.sampling, list(run.rows.values())] for run in self.runs]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def leading(self, run: ImportedRun) -> int:
        """How many problems, from the first on, a run holds."""
        return next((i for i, p in enumerate(self.problems) if p["id"] not in run.rows), len(self.problems))


def assemble(found: Found, name: str) -> Assembled:
    """Runs from records; what does not fit is added to ``found.skipped`` and ``found.notes``.

    Args:
        found: of a reader.
        name: of the import, from which problems without an id get theirs.
    """
    problems, placed = _problems(found, name)
    groups: dict[tuple, dict[str, list[Record]]] = {}
    for problem_id, record in placed:
        own = json.dumps(record.sampling, sort_keys=True)
        prm = record.prm if is_search(record.method) or (record.method == "samples" and record.prm) else None
        key = (record.method, record.policy, prm, record.n, record.seed, record.width, own)
        groups.setdefault(key, {}).setdefault(problem_id, []).append(record)
    runs = []
    for key, by_problem in groups.items():
        runs += _runs(key, by_problem, problems, found)
    runs += _pools(runs)
    runs = sorted((run for run in runs if run.rows), key=lambda run: json.dumps(_order(run)))
    held = Counter(problem_id for run in runs for problem_id in run.rows)
    ordered = sorted((problems[i] for i in problems if held[i]), key=lambda p: -held[p["id"]])
    return Assembled(ordered, runs, [record for _, record in placed])


def _order(run: ImportedRun) -> list:
    return [run.method, run.policy, run.prm, run.n, run.seed, run.width]


# -- problems --------------------------------------------------------------------------------------------------


def _problems(found: Found, name: str) -> tuple[dict[str, dict], list[tuple[str, Record]]]:
    """Every problem by its id, and each record that fits one, with that id."""
    problems: dict[str, dict] = {}
    by_text: dict[str, str] = {}
    placed, spellings = [], 0
    with Grader() as grader:
        for number, record in enumerate(found.records):
            text = problem_key(record.problem)
            problem_id = record.problem_id or by_text.get(text) or f"{name}-{number if record.place is None else record.place:05d}"
            known = problems.setdefault(problem_id, {"id": problem_id, "problem": record.problem, "answer": record.answer})
            if problem_key(known["problem"]) != text:
                found.skip(record.source, f"id {problem_id!r} is already that of another problem")
                continue
            by_text.setdefault(text, problem_id)
            if (known["problem"], known["answer"]) != (record.problem, record.answer):
                if known["answer"] != record.answer and not grader.equal(known["answer"], record.answer):
                    found.skip(record.source, f"its answer {record.answer!r:.60} is not {known['answer']!r:.60}, that of an earlier record")
                    continue
                spellings += 1
            placed.append((problem_id, record))
    if spellings:
        found.notes.append(f"{spellings} records spell their problem or answer differently than an earlier one; the first spelling is kept")
    return problems, placed


# -- runs ------------------------------------------------------------------------------------------------------


def _runs(key: tuple, by_problem: dict[str, list[Record]], problems: dict[str, dict], found: Found) -> list[ImportedRun]:
    """A group's run; samples that a PRM has scored are two, scored and not."""
    method, policy, prm, n, seed, width, sampling = key
    merged = {problem_id: _merged(records, n, found) for problem_id, records in by_problem.items()}
    merged = {problem_id: record for problem_id, record in merged.items() if record}
    if not merged:
        return []
    if n is None:
        merged, n = _evened(merged, found)
    if is_search(method) and METHODS[method].part and key[3] is None:
        merged, n = {problem_id: _as_subtrees(record) for problem_id, record in merged.items()}, n * width
        if n == width:
            return []  # one subtree is the beam search that it was read from
    common = {"policy": policy, "n": n, "seed": seed, "width": width, "sampling": json.loads(sampling)}
    if method != "samples":
        rows = {i: _row(problems[i], record) for i, record in merged.items()}
        return [ImportedRun(method, prm=prm, rows=rows, **common)]
    if prm is None:
        return [ImportedRun("pool", prm=None, rows={i: _row(problems[i], _unscored(record)) for i, record in merged.items()}, **common)]
    scored = {i: _row(problems[i], record) for i, record in merged.items() if record.scored}
    bare = {i: _row(problems[i], _unscored(record)) for i, record in merged.items()}
    return [ImportedRun("scores", prm=prm, rows=scored, **common), ImportedRun("pool of a PRM", prm=prm, rows=bare, **common)]


def _merged(records: list[Record], n: int | None, found: Found) -> Record | None:
    """A problem's records of one run as one; with a given N there must be one, with as many samples."""
    first = records[0]
    if n is not None:
        for other in records[1:]:
            found.skip(other.source, "another record of the same run and problem; the first is kept")
        if first.method in ("samples", "cot") and len(first.solutions) != n:
            return found.skip(first.source, f"holds {len(first.solutions)} of N = {n} samples")
        return first
    counts = [record.policy_tokens for record in records]
    return replace(
        first,
        solutions=tuple(s for record in records for s in record.solutions),
        policy_tokens=None if None in counts else sum(counts),
        prm_tokens=None if any(r.prm_tokens is None for r in records) else sum(r.prm_tokens for r in records),
    )


def _evened(merged: dict[str, Record], found: Found) -> tuple[dict[str, Record], int]:
    """The same number of solutions for each problem: the most frequent one; problems with fewer are left out."""
    counts = Counter(len(record.solutions) for record in merged.values())
    n = max(counts, key=lambda count: (counts[count], count))
    kept = {}
    for problem_id, record in merged.items():
        if len(record.solutions) < n:
            found.skip(record.source, f"{problem_id} has {len(record.solutions)} of the {n} {record.method} that most problems have")
            continue
        if len(record.solutions) > n:
            found.notes.append(f"{problem_id} has {len(record.solutions)} {record.method}, most have {n}: the first {n} are used")
            tokens = [s.tokens for s in record.solutions[:n]]
            total = sum(tokens) if None not in tokens and record.method == "samples" else None
            record = replace(record, solutions=record.solutions[:n], policy_tokens=total, prm_tokens=None)
        kept[problem_id] = record
    return kept, n


def _as_subtrees(record: Record) -> Record:
    """Solutions with the paths of a subtree each."""
    return replace(record, solutions=tuple(replace(s, path=(tree * record.width,)) for tree, s in enumerate(record.solutions)))


def _unscored(record: Record) -> Record:
    tokens = record.prm_tokens if record.prm is None else None
    return replace(record, solutions=tuple(replace(s, scores=()) for s in record.solutions), prm=None, prm_tokens=tokens or 0)


def _pools(runs: list[ImportedRun]) -> list[ImportedRun]:
    """The pools that were not imported as such: per policy the scored samples of the PRM that has most. Takes those out of ``runs``.

    A pool that was imported gets the problems that it lacks from them.
    """
    spare = [run for run in runs if run.method == "pool of a PRM"]
    runs[:] = [run for run in runs if run.method != "pool of a PRM"]
    own = {(run.policy, run.seed, run.n): run for run in runs if run.method == "pool"}
    pools: dict[tuple, ImportedRun] = {}
    for run in sorted(spare, key=lambda run: (-run.n, -len(run.rows), run.prm)):
        key = (run.policy, run.seed)
        if pool := own.get((*key, run.n)):
            pool.rows = run.rows | pool.rows
        elif key not in pools:
            pools[key] = replace(run, method="pool", prm=None)
    return list(pools.values())


def _row(problem: dict, record: Record) -> dict:
    """What the store keeps of a record."""
    trajectories = [_trajectory(s, number) for number, s in enumerate(record.solutions)]
    return {
        "problem_id": problem["id"],
        "problem": problem["problem"],
        "answer": problem["answer"],
        "prompt_tokens": record.prompt_tokens,
        "policy_tokens": record.policy_tokens,
        "prm_tokens": record.prm_tokens,
        "trajectories": trajectories,
    }


def _trajectory(solution: Solution, number: int) -> dict:
    return {
        "path": list(solution.path or (number,)),
        "steps": list(solution.steps),
        "scores": list(solution.scores),
        "status": solution.status,
        "tokens": solution.tokens,
    }


def renamed(found: Found, policy: str = "", prm: str = "") -> Found:
    """Records with the names that the user gave, where the format has none of its own, and without what no name may hold."""
    if found.unnamed:
        found.records = [replace(r, policy=policy or r.policy, prm=(prm or r.prm) if r.prm else None) for r in found.records]
        named = dict.fromkeys(f"{r.policy}{f' with {r.prm}' if r.prm else ''}" for r in found.records)
        if not policy or not prm:
            found.notes.append(f"the files name neither policy nor PRM: called {'; '.join(named)}; --policy and --prm give other names")
    for model in dict.fromkeys(name for r in found.records for name in (r.policy, r.prm) if name and clean_name(name) != name):
        found.notes.append(f"{model!r} is called {clean_name(model)!r}")
    found.records = [replace(r, policy=clean_name(r.policy), prm=clean_name(r.prm) if r.prm else None) for r in found.records]
    return found
