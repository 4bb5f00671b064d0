"""From records to runs as the store keeps them: one problem set, and per run the rows of the problems that it holds whole."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace

from tts.exchange.records import COUNTS, Contents, Record, clean_name, problem_key, total
from tts.search.registry import GREEDY, METHODS, is_search
from tts.tasks.grading import Grader


@dataclass
class ImportedRun:
    """One run, its ``method`` and the other fields as in specs of runs, and its rows as the store keeps them, by problem id."""

    method: str
    policy: str
    prm: str | None
    n: int
    seed: int
    width: int | None
    sampling: dict
    rows: dict[str, dict]


def assemble(contents: Contents, name: str, grader: Grader) -> tuple[list[dict], list[ImportedRun], list[Record]]:
    """Id, text and answer of each problem, those that most runs hold first; the runs; and the records that went into them.

    What does not fit is added to the skipped parts and notes of ``contents``. Problems without an id get theirs from the import's name.
    """
    problems, placed = _problems(contents, name, grader)
    groups: dict[tuple, dict[str, list[Record]]] = {}
    for problem_id, record in placed:
        own = json.dumps(record.sampling, sort_keys=True)
        prm = None if record.method == GREEDY else record.prm
        key = (record.method, record.policy, prm, record.n, record.seed, record.width, own)
        groups.setdefault(key, {}).setdefault(problem_id, []).append(record)
    runs = [run for key, by_problem in groups.items() for run in _runs(key, by_problem, problems, contents)]
    runs = sorted((run for run in _with_pools(runs) if run.rows), key=lambda run: json.dumps(_order(run)))
    held = Counter(problem_id for run in runs for problem_id in run.rows)
    ordered = sorted((problems[i] for i in problems if held[i]), key=lambda p: -held[p["id"]])
    return ordered, runs, [record for _, record in placed]


def digest(problems: list[dict], runs: list[ImportedRun]) -> str:
    """A hash of everything that one import writes."""
    content = [problems, [[*_order(run), run.sampling, list(run.rows.values())] for run in runs]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _order(run: ImportedRun) -> list:
    return [run.method, run.policy, run.prm, run.n, run.seed, run.width]


def _problems(contents: Contents, name: str, grader: Grader) -> tuple[dict[str, dict], list[tuple[str, Record]]]:
    """Every problem by its id, and each record that fits one, with that id."""
    problems: dict[str, dict] = {}
    by_text: dict[str, str] = {}
    placed, spellings = [], 0
    for number, record in enumerate(contents.records):
        text = problem_key(record.problem)
        problem_id = record.problem_id or by_text.get(text) or f"{name}-{number if record.place is None else record.place:05d}"
        known = problems.setdefault(problem_id, {"id": problem_id, "problem": record.problem, "answer": record.answer})
        if problem_key(known["problem"]) != text:
            contents.skip(record.source, f"id {problem_id!r} is already that of another problem")
            continue
        by_text.setdefault(text, problem_id)
        if (known["problem"], known["answer"]) != (record.problem, record.answer):
            if known["answer"] != record.answer and not grader.same(known["answer"], record.answer):
                contents.skip(record.source, f"its answer {record.answer!r:.60} is not {known['answer']!r:.60}, that of an earlier record")
                continue
            spellings += 1
        placed.append((problem_id, record))
    if spellings:
        contents.notes.append(
            f"{spellings} records spell their problem or answer differently than an earlier one; the first spelling is kept"
        )
    return problems, placed


def _runs(key: tuple, by_problem: dict[str, list[Record]], problems: dict[str, dict], contents: Contents) -> list[ImportedRun]:
    """A group's run; samples that a PRM has scored are two, scored and not."""
    method, policy, prm, n, seed, width, sampling = key
    merged = {problem_id: one for problem_id, records in by_problem.items() if (one := _merged(records, n, contents))}
    if not merged:
        return []
    apart = 1
    if n is None:
        merged, n = _evened(merged, contents)
        if is_search(method) and METHODS[method].part:
            if n == 1:
                return []  # one subtree is the beam search that it was read from
            n, apart = n * width, width
    rows = {problem_id: _row(problems[problem_id], record, apart) for problem_id, record in merged.items()}
    run = ImportedRun(method, policy, prm, n, seed, width, json.loads(sampling), rows)
    if method != "samples":
        return [run]
    bare = {}
    for problem_id, row in rows.items():
        trajectories = [t | {"scores": []} for t in row["trajectories"]]
        bare[problem_id] = row | {"prm_tokens": 0 if prm else row["prm_tokens"] or 0, "trajectories": trajectories}
    if prm is None:
        return [replace(run, method="pool", rows=bare)]
    scored = {i: row for i, row in rows.items() if row["trajectories"] and all(t["scores"] for t in row["trajectories"] if t["steps"])}
    return [replace(run, method="scores", rows=scored), replace(run, method="pool of a PRM", rows=bare)]


def _merged(records: list[Record], n: int | None, contents: Contents) -> Record | None:
    """A problem's records of one run as one; with a given N there must be one, with as many samples."""
    first = records[0]
    if n is not None:
        for other in records[1:]:
            contents.skip(other.source, "another record of the same run and problem; the first is kept")
        if first.method in ("samples", "cot") and len(first.solutions) != n:
            return contents.skip(first.source, f"holds {len(first.solutions)} of N = {n} samples")
        return first
    solutions = tuple(s for record in records for s in record.solutions)
    policy_tokens, prm_tokens = (total([getattr(r, key) for r in records]) for key in ("policy_tokens", "prm_tokens"))
    return replace(first, solutions=solutions, policy_tokens=policy_tokens, prm_tokens=prm_tokens)


def _evened(merged: dict[str, Record], contents: Contents) -> tuple[dict[str, Record], int]:
    """The same number of solutions for each problem: the most frequent one; problems with fewer are left out."""
    counts = Counter(len(record.solutions) for record in merged.values())
    n = max(counts, key=lambda count: (counts[count], count))
    kept = {}
    for problem_id, record in merged.items():
        if len(record.solutions) < n:
            contents.skip(record.source, f"{problem_id} has {len(record.solutions)} of the {n} {record.method} that most problems have")
            continue
        if len(record.solutions) > n:
            contents.notes.append(f"{problem_id} has {len(record.solutions)} {record.method}, most have {n}: the first {n} are used")
            tokens = total([s.tokens for s in record.solutions[:n]]) if record.method == "samples" else None
            record = replace(record, solutions=record.solutions[:n], policy_tokens=tokens, prm_tokens=None)
        kept[problem_id] = record
    return kept, n


def _with_pools(runs: list[ImportedRun]) -> list[ImportedRun]:
    """The runs, the scored samples of the PRM that has most as the pool of a policy, those of other PRMs left out.

    A pool that was imported gets the problems that it lacks from them.
    """
    spare = [run for run in runs if run.method == "pool of a PRM"]
    kept = [run for run in runs if run.method != "pool of a PRM"]
    own = {(run.policy, run.seed, run.n): run for run in kept if run.method == "pool"}
    pools: dict[tuple, ImportedRun] = {}
    for run in sorted(spare, key=lambda run: (-run.n, -len(run.rows), run.prm)):
        if pool := own.get((run.policy, run.seed, run.n)):
            pool.rows = run.rows | pool.rows
        else:
            pools.setdefault((run.policy, run.seed), replace(run, method="pool", prm=None))
    return [*kept, *pools.values()]


def _row(problem: dict, record: Record, apart: int) -> dict:
    """What the store keeps of a record, whose solutions' paths, where they are not recorded, begin ``apart`` numbers from each other."""
    counts = {key: getattr(record, key) for key in COUNTS}
    trajectories = [
        {
            "path": list(s.path or (number * apart,)),
            "steps": list(s.steps),
            "scores": list(s.scores),
            "status": s.status,
            "tokens": s.tokens,
        }
        for number, s in enumerate(record.solutions)
    ]
    named = {"problem_id": problem["id"], "problem": problem["problem"], "answer": problem["answer"]}
    return named | counts | {"trajectories": trajectories}


def renamed(contents: Contents, policy: str = "", prm: str = "") -> Contents:
    """Records with the names that the user gave, where the format has none of its own, and without what no name may hold."""
    if contents.unnamed:
        contents.records = [replace(r, policy=policy or r.policy, prm=(prm or r.prm) if r.prm else None) for r in contents.records]
        named = dict.fromkeys(f"{r.policy}{f' with {r.prm}' if r.prm else ''}" for r in contents.records)
        if not policy or not prm:
            contents.notes.append(f"the files name neither policy nor PRM: called {'; '.join(named)}; --policy and --prm give other names")
    cleaned = {name: clean_name(name) for r in contents.records for name in (r.policy, r.prm) if name is not None}
    contents.notes += [f"{name!r} is called {clean!r}" for name, clean in cleaned.items() if clean != name]
    contents.records = [replace(r, policy=cleaned[r.policy], prm=cleaned.get(r.prm)) for r in contents.records]
    return contents
