"""Grades what was read and writes it into a store: runs, problems, presets, and last of all the list by which a grid finds them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from tts.common.files import write_text
from tts.exchange import presets
from tts.exchange.records import Contents, ExchangeError, Record, writing
from tts.exchange.runs import ImportedRun, assemble, digest, renamed
from tts.store import imported
from tts.store.imported import FOLDER, MANIFEST, PREFIX, Held, Import
from tts.store.run_spec import ELSEWHERE, Model, RunEngine, RunSpec
from tts.store.store import Store
from tts.tasks.grading import Grader, groups
from tts.tasks.maths import MATHS
from tts.tasks.selection import Rule, aggregates, select


class NothingUsable(ExchangeError):
    """Records of a known format, none of which can be used; the message says why."""


@dataclass(frozen=True)
class Done:
    """What an import has written.

    Attributes:
        presets: files to run notebooks with, one for each group of policies of which the same is known.
        grades: number of recorded verdicts.
        differences: descriptions of those that this suite does not share.
        dropped: descriptions of the scores that were given here to what these files replace, and deleted with it.
    """

    contents: Contents
    source: Import
    presets: list[presets.Preset]
    grades: int
    differences: list[str]
    dropped: list[str]


def import_into(store: Store, contents: Contents, name: str, root: Path, policy: str = "", prm: str = "") -> Done:
    """Writes one problem set's runs into a store; again with the same files changes nothing.

    Every file is written whole or not at all, and the list of what there is last: an import that was cut off is none, and is completed
    by doing it again. One that other files replace is none from before its problems change until the list is that of the new ones.
    It is known again by ``root``, the folder or file that was read; ``policy`` and ``prm`` as of :func:`renamed`.

    Raises:
        ExchangeError: where nothing can be used, or another folder was imported under that name.
    """
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise ExchangeError(f"{name!r} is no name for an import; use letters, digits, dots and dashes")
    folder = store.folder / FOLDER / name
    _check_name(folder, name, root)
    with Grader() as grader:
        problems, runs, used = assemble(renamed(contents, policy, prm), name, grader)
        count, differences = regrade(used, grader)
    if not runs:
        reasons = "".join(f"\n  {skip.source}: {skip.reason}" for skip in contents.skipped[:10])
        more = f"\n  ... and {len(contents.skipped) - 10} more" if len(contents.skipped) > 10 else ""
        of = f"{contents.name or contents.format} in {root}"
        raise NothingUsable(f"none of the {len(contents.skipped)} records of {of} can be used:{reasons}{more}")
    content = digest(problems, runs)
    with store.lock(wait=True):
        _check_name(folder, name, root)  # another process may have taken it meanwhile
        held = [_write_run(store, run, problems, name, content) for run in tqdm(runs, desc="runs", unit="run", delay=2)]
        source = Import(folder, name, content, len(problems), tuple(held))
        written = presets.build(source)
        manifest = {
            "name": name,
            "format": contents.format,
            "source": str(root.resolve()),
            "hash": content,
            "problems": source.count,
            "runs": [{"spec": run.spec.stored, "problems": run.problems} for run in held],
            "notes": contents.notes,
            "skipped": [vars(skip) for skip in contents.skipped],
            "grades": count,
            "differences": differences,
        }
        _write_folder(source, problems, written, manifest)
        dropped = _drop_older(store, name, content)
    return Done(contents, source, written, count, differences, dropped)


def _check_name(folder: Path, name: str, root: Path) -> None:
    path = folder / MANIFEST
    if path.exists() and (held := imported.manifest(path).get("source")) != str(root.resolve()):
        raise ExchangeError(f"{name} is the name of an import of {held} already; give --name another")


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
    policy, prm = (Model(f"{PREFIX}{name}/{of}", content) if of else None for of in (run.policy, run.prm))
    sampling = run.sampling | {"seed": run.seed}
    spec = RunSpec(run.method, policy, prm, run.n, sampling, RunEngine(ELSEWHERE), width=run.width or None)
    held = [problem for problem in problems if problem["id"] in run.rows]
    stored = store.open(spec)
    if not stored.has(held):
        stored.write(held, [run.rows[problem["id"]] for problem in held], 0.0)
    return Held(spec, next((i for i, problem in enumerate(problems) if problem["id"] not in run.rows), len(problems)))


def _drop_older(store: Store, name: str, digest: str) -> list[str]:
    """Removes the runs of what was imported under the same name before its files changed; names those that were scored here."""
    policies = ((run, run.spec.policy) for run in list(store.runs()))
    older = [run for run, policy in policies if policy.name.startswith(f"{PREFIX}{name}/") and policy.weights != digest]
    for run in older:
        run.remove()
    return [str(run.spec) for run in older if not run.spec.elsewhere]


def regrade(records: list[Record], grader: Grader) -> tuple[int, list[str]]:
    """Recomputes every recorded verdict; returns how many there are, and descriptions of those that differ."""
    count, differences = 0, []
    for record in tqdm(records, desc="grading", unit="record", leave=False, delay=2):
        answers = [MATHS.answer(MATHS.join(s.steps)) if s.status == "finished" else None for s in record.solutions]
        verdicts = [
            (f"{record.source}, completion {number}", Rule("", "majority"), answers[number], solution.correct)
            for number, solution in enumerate(record.solutions)
            if solution.correct is not None
        ]
        for rule, held in record.recorded.items():
            scores = None if rule.vote == "majority" else aggregates([s.scores for s in record.solutions], rule.aggregate)
            chosen = select(groups(answers, grader), scores, rule.vote)
            correct = held if isinstance(held, bool) else grader.right(record.answer, held)
            verdicts.append((record.source, rule, None if chosen < 0 else answers[chosen], correct))
        for source, rule, answer, recorded in verdicts:
            if (here := grader.right(record.answer, answer)) != recorded:
                given = "no boxed answer" if answer is None else repr(answer)
                words = "right here, wrong as recorded" if here else "wrong here, right as recorded"
                differences.append(f"{source}: {rule} gives {given}, gold {record.answer!r}: {words}")
        count += len(verdicts)
    return count, differences
