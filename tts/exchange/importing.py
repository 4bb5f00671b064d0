"""Writes what was read into a store: problems, runs, and last of all the list by which a grid finds them."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from tts.exchange import grades, presets
from tts.exchange.records import ExchangeError, Found
from tts.exchange.runs import Assembled, ImportedRun, assemble, renamed
from tts.grading import Grader
from tts.runs import imported
from tts.runs.imported import FOLDER, MANIFEST, PREFIX, Import
from tts.runs.store import ELSEWHERE, Store


@dataclass(frozen=True)
class Done:
    """What an import has written.

    Attributes:
        found: what it was made of, with everything that was skipped.
        source: the import, as grids see it.
        presets: files to run notebooks with, one for each group of policies of which the same is known.
        grades: number of recorded verdicts.
        differences: those that this suite does not share.
    """

    found: Found
    source: Import
    presets: list[presets.Preset]
    grades: int
    differences: list[grades.Difference]


def import_into(store: Store, found: Found, name: str, root: Path, policy: str = "", prm: str = "") -> Done:
    """Writes one problem set's runs into a store; again with the same files changes nothing.

    Runs are written one after the other, each whole; what was stopped before its end can be done again.

    Args:
        store: where to.
        found: of a reader.
        name: of the import.
        root: the folder or file that was read, by which an import is known again.
        policy, prm: names of the models, where the format has none.

    Raises:
        ExchangeError: where nothing can be used, or another folder was imported under that name.
    """
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise ExchangeError(f"{name!r} is no name for an import; use letters, digits, dots and dashes")
    folder = store.folder / FOLDER / name
    _check_name(folder, name, root)
    built = assemble(renamed(found, policy, prm), name)
    if not built.runs:
        reasons = "".join(f"\n  {skip.source}: {skip.reason}" for skip in found.skipped[:10])
        raise ExchangeError(f"none of the {len(found.skipped)} records of {root} can be used:{reasons}")
    with Grader() as grader:
        count, differences = grades.compare(built.used, grader)
    lock = store.lock(wait=True)
    try:
        _write(folder / f"{name}.jsonl", "".join(json.dumps(problem) + "\n" for problem in built.problems))
        specs = [_write_run(store, run, built, name) for run in tqdm(built.runs, desc="runs", unit="run", delay=2)]
        manifest = {"name": name, "format": found.format, "source": str(root.resolve()), "hash": built.digest}
        manifest |= {"problems": len(built.problems), "runs": specs, "notes": found.notes}
        manifest |= {"skipped": [vars(skip) for skip in found.skipped], "grades": count, "differences": [str(d) for d in differences]}
        _write(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        _drop_older(store, name, built.digest)
    finally:
        lock.release()
    source = imported.beside(str(folder / f"{name}.jsonl"))
    written = presets.build(source, store.folder.resolve())
    for number, preset in enumerate(written, 1):
        _write(folder / f"preset{number if number > 1 else ''}.yaml", preset.text)
    return Done(found, source, written, count, differences)


def _check_name(folder: Path, name: str, root: Path) -> None:
    path = folder / MANIFEST
    if path.exists():
        held = json.loads(path.read_text(encoding="utf-8")).get("source")
        if held != str(root.resolve()):
            raise ExchangeError(f"{name} is the name of an import of {held} already; give --name another")


def _write_run(store: Store, run: ImportedRun, built: Assembled, name: str) -> dict:
    """Stores a run; returns its entry in the list."""

    def model(of: str | None) -> dict | None:
        return {"name": f"{PREFIX}{name}/{of}", "weights": built.digest} if of else None

    spec = {
        "method": run.method,
        "policy": model(run.policy),
        "prm": model(run.prm),
        "n": run.n,
        "sampling": run.sampling | {"seed": run.seed},
        "engine": ELSEWHERE,
    }
    if run.width:
        spec["width"] = run.width
    problems = [problem for problem in built.problems if problem["id"] in run.rows]
    held = store.open(spec)
    if not held.has(problems):
        held.write(problems, [run.rows[problem["id"]] for problem in problems], 0.0)
    return {"spec": spec, "problems": built.leading(run), "held": len(problems)}


def _drop_older(store: Store, name: str, digest: str) -> None:
    """Removes the runs of what was imported under the same name before its files changed."""
    for run in list(store.runs()):
        policy = run.spec["policy"]
        if policy["name"].startswith(f"{PREFIX}{name}/") and policy["weights"] != digest:
            shutil.rmtree(run.folder)


def _write(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise ExchangeError(f"cannot write {path}: {error.strerror or error}") from error
