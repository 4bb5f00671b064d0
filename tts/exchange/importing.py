"""Grades what was read and writes it into a store: runs, problems, presets, and last of all the list by which a grid finds them."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from tts.analysis.grades import VERDICTS
from tts.common.files import write_text
from tts.exchange import presets
from tts.exchange.records import SAMPLES, Contents, ExchangeError, Record, Solution, expect, writing
from tts.exchange.runs import ImportedRun, assemble, digest, renamed
from tts.store import imported
from tts.store.imported import FOLDER, MANIFEST, PREFIX, Held, Import
from tts.store.run_spec import ELSEWHERE, Model, RunEngine, RunSpec
from tts.store.store import Store
from tts.tasks.base import Task, changed
from tts.tasks.grading import Grader, groups
from tts.tasks.maths import MATHS
from tts.tasks.selection import Rule, aggregates, select
from tts.tasks.verdicts import Verdicts


class NothingUsable(ExchangeError):
    """Records of a known format, none of which can be used; the message says why."""


VOTES = {"majority": "majority", "max": "PRM-Max", "vote": "PRM-Vote"}


@dataclass
class Regraded:
    """What files record, beside what this suite finds."""

    grades: int = 0  # number of recorded verdicts and votes
    differences: list[str] = field(default_factory=list)  # descriptions of the verdicts that this suite does not share
    others: list[str] = field(default_factory=list)  # ... of the votes for another answer that is as right, or as wrong
    # By vote, number n of the first candidates, and method ("" for a search at another n than its own): how many votes are recorded, how
    # many of them are for the same answer here, and how many of this suite's are right.
    votes: dict[tuple[str, int, str], list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """What an import has written."""

    contents: Contents
    source: Import
    presets: list[presets.Preset]  # one for each group of policies of which the same is known
    regraded: Regraded
    dropped: list[str]  # descriptions of the scores that were given here to what these files replace, and deleted with it


def import_into(store: Store, contents: Contents, name: str, root: Path | str, policy: str = "", prm: str = "", scores: str = "") -> Done:
    """Writes one problem set's runs into a store; again with the same files changes nothing.

    Every file is written whole or not at all, and the list of what there is last: an import that was cut off is none, and is completed
    by doing it again. One that other files replace is none from before its problems change until the list is that of the new ones.
    It is known again by ``root``, the folder or file that was read, or names of sources; ``policy`` and ``prm`` as of :func:`renamed`.
    ``scores`` is ``sigmoid`` for logits. Raises :class:`ExchangeError` where nothing can be used, or ``name`` is another folder's.
    """
    named = re.fullmatch(r"[\w.-]+", name) and not name.startswith(".")
    expect(named, f"{name!r} is no name for an import; use letters, digits, dots and dashes")
    folder = store.folder / FOLDER / name
    root = str(root.resolve()) if isinstance(root, Path) else root
    _check_name(folder, root)
    if scores == "sigmoid":
        outside = any(not 0 <= score <= 1 for record in contents.records for score in record.scores)
        expect(outside, "--scores sigmoid is for logits, and all scores of these files are in [0, 1] already; leave it out")
        contents.records = [replace(record, sigmoid=True) for record in contents.records]
    with suppress(OSError):
        store.folder.mkdir(parents=True, exist_ok=True)  # for the verdicts; whether it can be written is said below
    renamed(contents, policy, prm)
    with Grader(verdicts=Verdicts(store.folder / VERDICTS)) as grader:
        problems, runs, used = assemble(contents, name, grader)
        regraded = regrade(used, grader, changed(MATHS, None, contents.extract))
    apart = [f"{run.header.method} of {run.header.policy}" for run in runs if problems[0]["id"] not in run.records]
    if apart:  # a grid takes the first problems of a set
        kept = "kept, but no preset shows what lacks the first problem of the others; import runs on other problems by themselves"
        contents.notes.append(f"{', '.join(dict.fromkeys(apart))}: {kept}")
    if bare := contents.boxed[False]:
        ways = f"answers are looked for by {', '.join(contents.extract or MATHS.ways)}, see 'extract' in docs/grading.md"
        contents.notes.append(f"{bare} of {contents.boxed.total()} completions have no box; {ways}")
    if not runs:
        reasons = "".join(f"\n  {source}: {reason}" for source, reason in contents.skipped[:10])
        more = f"\n  ... and {len(contents.skipped) - 10} more" if len(contents.skipped) > 10 else ""
        of = f"{contents.name or contents.format} in {root}"
        raise NothingUsable(f"none of the {len(contents.skipped)} records of {of} can be used:{reasons}{more}")
    content = digest(problems, runs)
    with store.lock(wait=True):
        _check_name(folder, root)  # another process may have taken it meanwhile
        held = [_write_run(store, run, problems, name, content) for run in tqdm(runs, desc="runs", unit="run", delay=2)]
        source = Import(folder, name, content, len(problems), tuple(held))
        written = presets.build(source, contents.extract)
        manifest = {
            "name": name,
            "format": contents.format,
            "source": root,
            "sources": contents.sources,
            "hash": content,
            "problems": source.count,
            "extract": list(contents.extract),
            "runs": [run.stored for run in held],
            "notes": contents.notes,
            "skipped": [{"source": source, "reason": reason} for source, reason in contents.skipped],
            "grades": regraded.grades,
            "votes": [[*vote, *counts] for vote, counts in sorted(regraded.votes.items())],
            "differences": regraded.differences,
            "other answers": regraded.others,
        }
        _write_folder(source, problems, written, manifest)
        dropped = _drop_older(store, name, content)
    return Done(contents, source, written, regraded, dropped)


def _check_name(folder: Path, root: str) -> None:
    path = folder / MANIFEST
    if path.exists() and (held := imported.manifest(path).get("source")) != root:
        raise ExchangeError(f"{folder.name} is the name of an import of {held} already; give --name another")


def _write_folder(source: Import, problems: list[dict], written: list[presets.Preset], manifest: dict) -> None:
    """Writes the import's own folder; while what is in it belongs to different contents, there is no list."""
    path = source.folder / MANIFEST
    if path.exists() and imported.manifest(path).get("hash") != source.digest:
        path.unlink()
    files = {f"{source.name}.jsonl": "".join(json.dumps(problem) + "\n" for problem in problems)}
    files |= {preset.file: preset.text for preset in written}
    with writing(source.folder):
        for name, text in files.items():
            write_text(source.folder / name, text)
        for stale in source.folder.glob("preset*.yaml"):
            if stale.name not in files:
                stale.unlink()
        write_text(path, json.dumps(manifest, indent=1) + "\n")


def _write_run(store: Store, run: ImportedRun, problems: list[dict], name: str, content: str) -> Held:
    """Stores a run; returns its entry in the list."""
    header = run.header
    policy = Model(f"{PREFIX}{name}/{header.policy}", content)
    prm = Model(f"{PREFIX}{name}/{header.prm}", content) if header.prm else None
    sampling = header.sampling | {"seed": header.seed}
    spec = RunSpec(header.method, policy, prm, header.n or 0, sampling, RunEngine(ELSEWHERE), width=header.width or None)
    held = [problem for problem in problems if problem["id"] in run.records]
    stored = store.open(spec)
    if not stored.has(held):
        stored.write(held, map(run.row, held), 0.0, clock=run.clock)
    count = next((i for i, problem in enumerate(problems) if problem["id"] not in run.records), len(problems))
    return Held(spec, count, run.range)


def _drop_older(store: Store, name: str, digest: str) -> list[str]:
    """Removes the runs of what was imported under the same name before its files changed; names those that were scored here."""
    of_import = [run for run in store.runs() if run.spec.policy.name.startswith(f"{PREFIX}{name}/")]
    older = [run for run in of_import if run.spec.policy.weights != digest]
    for run in older:
        run.remove()
    return [str(run.spec) for run in older if not run.spec.elsewhere]


def regrade(records: list[Record], grader: Grader, task: Task = MATHS) -> Regraded:
    """Recomputes every recorded verdict and vote; the task finds the answers."""
    found = Regraded()
    for record in tqdm(records, desc="grading", unit="record", leave=False, delay=2):
        solutions = record.solutions
        for source, rule, n, answer, recorded in _recorded(record, solutions, grader, task):
            found.grades += 1
            here, claim = grader.right(record.answer, answer), f"{rule} gives {_given(answer)}"
            if isinstance(recorded, bool):
                there, agrees = recorded, here == recorded
            else:
                agrees = (answer or "") == recorded or answer is not None and grader.same(answer, recorded)
                there = here if agrees else grader.right(record.answer, recorded or None)
                claim += f" at {n}, recorded is {_given(recorded)}"
                whole = record.header.method == SAMPLES or n == len(solutions)
                counts = found.votes.setdefault((VOTES[rule.vote], n, record.header.method if whole else ""), [0, 0, 0])
                counts[:] = counts[0] + 1, counts[1] + agrees, counts[2] + here
            if not agrees:
                words = [("wrong", "right")[right] for right in (here, there)]
                said = f"{source}: {claim}, gold {record.answer!r}: {words[0]} here, {words[1]} as recorded"
                (found.differences if here != there else found.others).append(said)
    return found


def _recorded(
    record: Record, solutions: list[Solution], grader: Grader, task: Task
) -> Iterator[tuple[str, Rule, int, str | None, str | bool]]:
    """What is recorded of solutions and of votes: source, rule, number of candidates, the answer here, what was recorded."""
    if not record.recorded and all(s.correct is None for s in solutions):
        return
    answers = [task.found_in(s.steps)[0] if s.status == "finished" else None for s in solutions]
    for number, (solution, answer) in enumerate(zip(solutions, answers)):
        if solution.correct is not None:
            yield f"{record.source}, completion {number}", Rule("", "majority"), 1, answer, solution.correct
    grouped = groups(answers, grader) if record.recorded else []
    totals = cache(lambda how: record.totals or aggregates([s.scores for s in solutions], how))
    for (rule, n), held in record.recorded.items():
        scores = np.zeros(0) if rule.vote == "majority" else totals(rule.aggregate)[:n]
        if rule.vote == "max" and isinstance(held, str):  # search-and-learn takes the best score, be there an answer or none
            chosen = int(np.argmax(scores))
        else:
            chosen = select(grouped[:n], list(scores), rule.vote)
        yield record.source, rule, n, None if chosen < 0 else answers[chosen], held


def _given(answer: str | None) -> str:
    return repr(answer) if answer else "no boxed answer"
