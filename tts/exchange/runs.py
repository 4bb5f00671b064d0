"""From records to runs as the store keeps them: one problem set, and per run the rows of the problems that it holds whole."""

import hashlib
import json
import re
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, replace

from tts.exchange.reading import summed, total
from tts.exchange.records import COUNTS, SAMPLES, Contents, Header, Record, expect, pack, problem_key
from tts.search.registry import GREEDY, METHODS, POOL, SCORES, is_search
from tts.store.clock import Clock
from tts.tasks.grading import Grader


@dataclass
class ImportedRun:
    """One run, its header with method and N as in specs of runs."""

    header: Header
    records: dict[str, Record]  # by problem id
    apart: int = 1  # by how much the first numbers of solutions' paths differ, where paths are not recorded

    @property
    def bare(self) -> bool:
        """Whether its scores are left out."""
        return self.header.method == POOL

    @property
    def range(self) -> tuple[float, float] | None:
        """The lowest and the highest score where any is not in [0, 1]."""
        held = [] if self.bare else self.records.values()
        ends = [end for record in held if (scores := record.scores) for end in (min(scores), max(scores))]
        return (min(ends), max(ends)) if ends and not 0 <= min(ends) <= max(ends) <= 1 else None

    @property
    def clock(self) -> Clock | None:
        """The recorded times of its records, where all have one, as the policy's: they do not tell the PRM's apart.

        The samples' times are kept with the samples, and not once more with their scores.
        """
        if self.header.method == SCORES:
            return None
        seconds = summed([record.seconds for record in self.records.values()])
        tokens = total([record.counts.get("policy_tokens") for record in self.records.values()])
        return Clock("imported", len(self.records), policy=seconds, generated=tokens) if seconds and tokens else None

    def row(self, problem: dict) -> dict:
        """What the store keeps of a problem's record."""
        record = self.records[problem["id"]]
        counts = dict.fromkeys(COUNTS) | record.counts
        if self.bare:
            counts["prm_tokens"] = 0 if record.header.prm else counts["prm_tokens"] or 0
        trajectories = [  # the store has no column for a recorded grade, and leaves it out
            s._replace(path=s.path or [number * self.apart], scores=[] if self.bare else s.scores)._asdict()
            for number, s in enumerate(record.solutions)
            if not record.leaders or number in record.leaders
        ]
        named = {"problem_id": problem["id"], "problem": problem["problem"], "answer": problem["answer"]}
        return named | counts | {"trajectories": trajectories}


def assemble(contents: Contents, name: str, grader: Grader) -> tuple[list[dict], list[ImportedRun], list[Record]]:
    """Id, text and answer of each problem, those that most runs hold first; the runs; and the records that went into them.

    What does not fit is added to the skipped parts and notes of ``contents``. Problems without an id get theirs from the import's name.
    """
    problems, placed = _problems(contents, name, grader)
    groups: dict[Header, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for problem_id, record in placed:
        header = record.header._replace(sampling=json.dumps(record.header.sampling, sort_keys=True))
        groups[header._replace(prm=None) if header.method == GREEDY else header][problem_id].append(record)
    runs = [run for header, by_problem in groups.items() if (run := _run(header, by_problem, contents))]
    runs = sorted((run for run in _served(runs) if run.records), key=lambda run: json.dumps(run.header[:-1]))
    held = Counter(problem_id for run in runs for problem_id in run.records)
    ordered = sorted((problems[i] for i in problems if held[i]), key=lambda p: -held[p["id"]])
    return ordered, runs, [record for _, record in placed]


def digest(problems: list[dict], runs: list[ImportedRun]) -> str:
    """A hash of everything that one import writes."""
    content = []
    for run in runs:
        held = []
        for problem_id, record in run.records.items():
            packed = [hashlib.sha256(zlib.decompress(part)).hexdigest() for part in record.packed]
            times = [record.seconds] if record.seconds is not None else []  # which older imports did not read
            held.append([problem_id, *map(record.counts.get, COUNTS), record.leaders, record.sigmoid, packed, *times])
        content.append([*run.header, run.apart, run.bare, held])
    return hashlib.sha256(json.dumps([problems, content], sort_keys=True).encode()).hexdigest()[:16]


def _problems(contents: Contents, name: str, grader: Grader) -> tuple[dict[str, dict], list[tuple[str, Record]]]:
    """Every problem by its id, and each record that fits one, with that id."""
    problems: dict[str, dict] = {}
    by_text: dict[str, str] = {}
    placed, spellings = [], 0
    for number, record in enumerate(contents.records):
        text = problem_key(record.problem)
        problem_id = record.problem_id or by_text.get(text) or f"{name}-{number if record.place is None else record.place:05d}"
        known = problems.setdefault(problem_id, {"id": problem_id, "problem": record.problem, "answer": record.answer})
        with contents.using(record.source):
            expect(problem_key(known["problem"]) == text, f"id {problem_id!r} is already that of another problem")
            by_text.setdefault(text, problem_id)
            one = known["answer"] == record.answer or grader.same(known["answer"], record.answer)
            expect(one, f"its answer {record.answer!r:.60} is not {known['answer']!r:.60}, that of an earlier record")
            spellings += (known["problem"], known["answer"]) != (record.problem, record.answer)
            placed.append((problem_id, record))
    if spellings:
        differ = "spell their problem or answer differently than an earlier one; the first spelling is kept"
        contents.notes.append(f"{spellings} records {differ}")
    return problems, placed


def _run(header: Header, by_problem: dict[str, list[Record]], contents: Contents) -> ImportedRun | None:
    """The run of a group, whose sampling is JSON text; None where it holds nothing, or nothing new."""
    n, apart = header.n, 1
    merged: dict[str, Record] = {}
    for problem_id, records in by_problem.items():
        with contents.using(records[0].source):
            merged[problem_id] = _merged(records, n, contents)
    if not merged:
        return None
    if n is None:
        merged, n = _evened(merged, contents)
        if is_search(header.method) and METHODS[header.method].part:
            if n == 1:
                return None  # one subtree is the beam search that it was read from
            n, apart = n * header.width, header.width
    return ImportedRun(header._replace(n=n, sampling=json.loads(header.sampling)), merged, apart)


def _merged(records: list[Record], n: int | None, contents: Contents) -> Record:
    """A problem's records of one run as one; with a given N there must be one, with as many samples."""
    first, *others = records
    if n is not None:
        for other in others:
            contents.skip(other.source, "another record of the same run and problem; the first is kept")
        whole = first.header.method not in (SAMPLES, GREEDY) or len(first.solutions) == n
        expect(whole, f"holds {len(first.solutions)} of N = {n} samples")
        return first
    packed = tuple(part for record in records for part in record.packed)
    sums = {key: total([record.counts.get(key) for record in records]) for key in ("policy_tokens", "prm_tokens")}
    return replace(first, packed=packed, counts=first.counts | sums, seconds=summed([record.seconds for record in records]))


def _evened(merged: dict[str, Record], contents: Contents) -> tuple[dict[str, Record], int]:
    """The same number of solutions for each problem: the most frequent one; problems with fewer are left out."""
    counts = Counter(len(record.solutions) for record in merged.values())
    n = max(counts, key=lambda count: (counts[count], count))
    kept = {}
    for problem_id, record in merged.items():
        held, method = len(record.solutions), record.header.method
        with contents.using(record.source):
            expect(held >= n, f"{problem_id!r} has {held} of the {n} {method} that most problems have")
            kept[problem_id] = record
        if held > n:
            contents.notes.append(f"{problem_id!r} has {held} {method}, most have {n}: the first {n} are used")
            first = record.solutions[:n]
            tokens = total([s.tokens for s in first]) if method == SAMPLES else None
            fewer = record.counts | {"policy_tokens": tokens, "prm_tokens": None}
            kept[problem_id] = replace(record, packed=(pack(first),), sigmoid=False, counts=fewer, seconds=None)
    return kept, n


def _served(runs: list[ImportedRun]) -> list[ImportedRun]:
    """The runs, with samples as a pool for each policy and seed, and as the scores that each PRM gave.

    The pool is that without scores, which gets the problems that it lacks from scored ones of its size; or, where there is none of
    that size, the samples of the PRM that has most.
    """
    samples = [run for run in runs if run.header.method == SAMPLES]
    pools = [replace(run, header=run.header._replace(method=POOL)) for run in samples if not run.header.prm]
    own = {(pool.header.policy, pool.header.seed, pool.header.n): pool for pool in pools}
    scored, others = [run for run in samples if run.header.prm], dict[tuple, ImportedRun]()
    for run in sorted(scored, key=lambda run: (-run.header.n, -len(run.records), run.header.prm)):
        header = run.header._replace(method=POOL, prm=None)
        if pool := own.get((header.policy, header.seed, header.n)):
            pool.records = run.records | pool.records
        else:
            others.setdefault((header.policy, header.seed), replace(run, header=header))
    scores = []
    for run in scored:
        # Of problems with solutions, and with scores of every solution that has steps.
        whole = {i: record for i, record in run.records.items() if (held := record.solutions) and all(s.scores for s in held if s.steps)}
        scores.append(replace(run, header=run.header._replace(method=SCORES), records=whole))
    return [*(run for run in runs if run.header.method != SAMPLES), *pools, *others.values(), *scores]


def renamed(contents: Contents, policy: str = "", prm: str = "") -> None:
    """Gives records the names of the user, where the format has none of its own, without what no name may hold."""
    headers = [record.header for record in contents.records]
    if contents.unnamed:
        headers = [h._replace(policy=policy or h.policy, prm=(prm or h.prm) if h.prm else None) for h in headers]
        named = dict.fromkeys(f"{h.policy}{f' with {h.prm}' if h.prm else ''}" for h in headers)
        if not policy or not prm:
            contents.notes.append(f"the files name neither policy nor PRM: called {'; '.join(named)}; --policy and --prm give other names")
    # Without what a file's name, a figure's title or a terminal might take for something else.
    names = dict.fromkeys(name for h in headers for name in (h.policy, h.prm) if name is not None)
    cleaned = {name: re.sub(r"[^\w.:/+@,#~-]+", "-", name)[:100] or "unnamed" for name in names}
    contents.notes += [f"{name!r} is called {clean!r}" for name, clean in cleaned.items() if clean != name]
    headers = [h._replace(policy=cleaned[h.policy], prm=cleaned.get(h.prm)) for h in headers]
    contents.records = [replace(record, header=header) for record, header in zip(contents.records, headers)]
