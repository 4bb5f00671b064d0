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
    """One run, its ``method`` and the other fields as in specs of runs.

    Attributes:
        records: its record of each problem, by problem id.
        apart: by how much the first numbers of solutions' paths differ, where paths are not recorded.
        bare: whether its scores are left out, as of a pool.
    """

    method: str
    policy: str
    prm: str | None
    n: int
    seed: int
    width: int | None
    sampling: dict
    records: dict[str, Record]
    apart: int = 1
    bare: bool = False

    @property
    def range(self) -> tuple[float, float] | None:
        """The lowest and the highest score where any is not in [0, 1]."""
        ends = [] if self.bare else [end for record in self.records.values() for end in record.stored.range if end == end]
        return (min(ends), max(ends)) if ends and not 0 <= min(ends) <= max(ends) <= 1 else None

    def row(self, problem: dict) -> dict:
        """What the store keeps of a problem's record."""
        record = self.records[problem["id"]]
        counts = {key: getattr(record, key) for key in COUNTS}
        if self.bare:
            counts["prm_tokens"] = 0 if record.prm else record.prm_tokens or 0
        kept = set(record.leaders or range(len(record.stored)))
        trajectories = [
            {
                "path": list(s.path or (number * self.apart,)),
                "steps": list(s.steps),
                "scores": [] if self.bare else list(s.scores),
                "status": s.status,
                "tokens": s.tokens,
            }
            for number, s in enumerate(record.solutions)
            if number in kept
        ]
        named = {"problem_id": problem["id"], "problem": problem["problem"], "answer": problem["answer"]}
        return named | counts | {"trajectories": trajectories}


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
    runs = [run for key, by_problem in groups.items() for run in _runs(key, by_problem, contents)]
    runs = sorted((run for run in _with_pools(runs) if run.records), key=lambda run: json.dumps(_order(run)))
    held = Counter(problem_id for run in runs for problem_id in run.records)
    ordered = sorted((problems[i] for i in problems if held[i]), key=lambda p: -held[p["id"]])
    return ordered, runs, [record for _, record in placed]


def digest(problems: list[dict], runs: list[ImportedRun]) -> str:
    """A hash of everything that one import writes."""
    records = [[[i, *_fixed(record)] for i, record in run.records.items()] for run in runs]
    content = [problems, [[*_order(run), run.sampling, run.apart, run.bare, held] for run, held in zip(runs, records)]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _fixed(record: Record) -> list:
    return [
        *(getattr(record, key) for key in COUNTS),
        record.leaders,
        record.stored.sigmoid,
        [place.digest for place in record.stored.places],
    ]


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


def _runs(key: tuple, by_problem: dict[str, list[Record]], contents: Contents) -> list[ImportedRun]:
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
    run = ImportedRun(method, policy, prm, n, seed, width, json.loads(sampling), merged, apart)
    if method != "samples":
        return [run]
    if prm is None:
        return [replace(run, method="pool", bare=True)]
    scored = {i: record for i, record in merged.items() if record.stored.scored}
    return [replace(run, method="scores", records=scored), replace(run, method="pool of a PRM", bare=True)]


def _merged(records: list[Record], n: int | None, contents: Contents) -> Record | None:
    """A problem's records of one run as one; with a given N there must be one, with as many samples."""
    first = records[0]
    if n is not None:
        for other in records[1:]:
            contents.skip(other.source, "another record of the same run and problem; the first is kept")
        if first.method in ("samples", "cot") and len(first.solutions) != n:
            return contents.skip(first.source, f"holds {len(first.solutions)} of N = {n} samples")
        return first
    solutions = replace(first.stored, places=tuple(place for record in records for place in record.stored.places))
    policy_tokens, prm_tokens = (total([getattr(r, key) for r in records]) for key in ("policy_tokens", "prm_tokens"))
    return replace(first, solutions=solutions, policy_tokens=policy_tokens, prm_tokens=prm_tokens)


def _evened(merged: dict[str, Record], contents: Contents) -> tuple[dict[str, Record], int]:
    """The same number of solutions for each problem: the most frequent one; problems with fewer are left out."""
    counts = Counter(len(record.solutions) for record in merged.values())
    n = max(counts, key=lambda count: (counts[count], count))
    kept = {}
    for problem_id, record in merged.items():
        if len(record.solutions) < n:
            contents.skip(record.source, f"{problem_id!r} has {len(record.solutions)} of the {n} {record.method} that most problems have")
            continue
        if len(record.solutions) > n:
            contents.notes.append(f"{problem_id!r} has {len(record.solutions)} {record.method}, most have {n}: the first {n} are used")
            tokens = total([s.tokens for s in record.solutions[:n]]) if record.method == "samples" else None
            record = replace(record, solutions=contents.keep(record.solutions[:n]), policy_tokens=tokens, prm_tokens=None)
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
    for run in sorted(spare, key=lambda run: (-run.n, -len(run.records), run.prm)):
        if pool := own.get((run.policy, run.seed, run.n)):
            pool.records = run.records | pool.records
        else:
            pools.setdefault((run.policy, run.seed), replace(run, method="pool", prm=None))
    return [*kept, *pools.values()]


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
