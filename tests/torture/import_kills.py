"""``kill -9`` of an import: at every step of its own writing and removing, first and over an older import, and at random moments."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pyarrow.parquet as pq
from tqdm import tqdm

from torture.invoke import command_line, forked
from torture.kills import export
from torture.report import ROOT, Tally
from tts.generate import runner
from tts.generate.grid import Grid
from tts.store import imported
from tts.store.chunk_file import read_chunk
from tts.store.store import Store

NAME = "mine"
STEPS = ("before a file is opened", "half of it written", "written, not renamed", "just renamed", "before something is removed")


def rows(problems: int, word: str = "so") -> Iterator[dict]:
    """Lines of the plain format: scored samples of two PRMs and a beam search."""
    for i in range(problems):
        texts = [f"{i}+{k}={i + k}\n\n{word} \\boxed{{{i + k}}}" for k in range(2)]
        for prm in ("prm-a", "prm-b"):
            completions = [{"text": text, "scores": [0.5, 0.1 * k], "tokens": 7} for k, text in enumerate(texts)]
            row = {
                "id": f"p{i}",
                "problem": f"{i},+1=?",
                "answer": str(i + 1),
                "policy": "their-1B",
                "prm": prm,
                "completions": completions,
            }
            yield from (row, row | {"method": "beam_search", "n": 2, "width": 2})


class Importing:
    """An import that is killed: its file, whose content changes, and what unbroken imports of both contents leave.

    Args:
        folder: for all of it.
    """

    def __init__(self, folder: Path):
        self.folder, self.file = folder, folder / f"{NAME}.jsonl"
        self.contents = {False: list(rows(2)), True: list(rows(3, "thus"))}
        self.whole: dict[bool, str] = {}
        self.files: dict[bool, set[str]] = {}
        for changed in (False, True):
            self.write(changed)
            store = Store(folder / f"whole-{changed}")
            assert forked(self.command(store)).code == 0
            self.whole[changed], self.files[changed] = export(store), files(store)

    def write(self, changed: bool) -> None:
        self.file.write_text("".join(json.dumps(row) + "\n" for row in self.contents[changed]))

    def arguments(self, store: Store) -> list[str]:
        return ["import", str(self.file), "--store", str(store.folder)]

    def command(self, store: Store) -> Callable[[], None]:
        return command_line(*self.arguments(store))

    def before(self, over: bool) -> Store:
        """A store as it is before the import that is killed: empty, or with the older import; the file has what is to come."""
        store = Store(self.folder / "killed")
        shutil.rmtree(store.folder, ignore_errors=True)
        if over:
            shutil.copytree(self.folder / "whole-False", store.folder)
        self.write(over)
        return store

    def check(self, store: Store, over: bool) -> str:
        """What was killed can be read, is none or a whole one, and is completed by doing it again.

        Returns:
            What was there: ``nothing``, the ``older`` or the ``new`` import.
        """
        for path in store.folder.glob("*/*.parquet"):
            read_chunk(path)
        held = list(store.export())
        found = imported.all_of(store.folder)
        assert bool(found) or not held or imported.unfinished(store) == [NAME]
        state = self._state(store, found[0], over) if found else "nothing"
        if not found and list(store.folder.glob("imported/*/*.jsonl")):
            _refused(store)
        again = forked(self.command(store))
        assert again.code == 0, again.err
        assert export(store) == self.whole[over], "done again it differs from an unbroken import"
        assert files(store) == self.files[over], f"it leaves {files(store) ^ self.files[over]}"
        assert imported.unfinished(store) == []
        return state

    def _state(self, store: Store, source: imported.Import, over: bool) -> str:
        """Whether an import that there is is the older or the new one, all of which must be there."""
        content = [json.loads(line) for line in Path(source.problem_set).read_text().splitlines()]
        assert source.count == len(content) in (2, 3)
        new = len(content) == (3 if over else 2)
        grid = _grid(source.problem_set, source.count)
        assert not runner.missing(grid, store)
        texts = {step for spec in grid.specs() for row in store.run(spec).rows() for t in row["trajectories"] for step in t["steps"]}
        assert any(("thus" if len(content) == 3 else "so") in text for text in texts)
        return "new" if new else "older"


def files(store: Store) -> set[str]:
    return {str(path.relative_to(store.folder)) for path in store.folder.rglob("*") if path.is_file()}


def _grid(problem_set: str, problems: int) -> Grid:
    models = {"policies": [f"imported:{NAME}/their-1B"], "prms": [f"imported:{NAME}/prm-a", f"imported:{NAME}/prm-b"]}
    return Grid(problems={problem_set: problems}, methods=["majority", "best_of_n", "beam_search"], samples=2, budgets=[2], **models)


def _refused(store: Store) -> None:
    """A notebook that would read the half import is told that it is one."""
    try:
        _grid(str(store.folder / "imported" / NAME / f"{NAME}.jsonl"), 2)
    except imported.NotImported as error:
        assert f"the import {NAME} was not finished" in str(error) and "import its files again" in str(error)
    else:
        raise AssertionError("a half import was read")


def sabotaged(command: Callable[[], None], step: int, number: int) -> Callable[[], None]:
    """A command that kills itself at one of ``STEPS``, while it writes its n-th file or before its n-th removal."""

    def call() -> None:
        _sabotage(step, number)
        command()

    return call


def _sabotage(step: int, number: int) -> None:
    texts, writer, replace, unlink, opened, removed = Path.write_text, pq.ParquetWriter, os.replace, Path.unlink, [0], [0]

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def begun() -> bool:
        opened[0] += 1
        if (due := opened[0] == number) and step == 0:
            die()
        return due

    def ended(path: Path, due: bool) -> None:
        if due and step == 1:
            os.truncate(path, path.stat().st_size // 2)
            die()

    def written(path: Path, *arguments: object, **options: object) -> None:
        due = begun()
        texts(path, *arguments, **options)
        ended(path, due)

    class Writer(writer):
        def __init__(self, path: Path, *arguments: object, **options: object):
            self._path, self._due = path, begun()
            super().__init__(path, *arguments, **options)

        def close(self) -> None:
            super().close()
            ended(self._path, self._due)

    def renamed(source: Path, target: Path) -> None:
        if opened[0] == number and step == 2:
            die()
        replace(source, target)
        if opened[0] == number and step == 3:
            die()

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        if path.suffix != ".tmp":
            removed[0] += 1
            if step == 4 and removed[0] == number:
                die()
        unlink(path, missing_ok)

    Path.write_text, pq.ParquetWriter = written, Writer
    os.replace, Path.unlink = renamed, unlinked


def at_every_step(importing: Importing, whole: bool = True) -> dict[str, int]:
    """Kills an import at each of its steps, or, unless ``whole``, one over an older import at the first of each kind.

    Returns:
        How often, and what was there afterwards.
    """
    found = {"kills": 0, "nothing": 0, "older": 0, "new": 0}
    for over in (False, True) if whole else (True,):
        for step in range(len(STEPS)):
            for number in count(1) if whole else (1,):
                store = importing.before(over)
                code = forked(sabotaged(importing.command(store), step, number)).code
                if code == 0:
                    break
                assert code == -signal.SIGKILL
                found["kills"] += 1
                found[importing.check(store, over)] += 1
    return found


def campaign(folder: Path, kills: int, seed: int) -> Tally:
    """Every step of an import's writing, and processes of ``python -m tts import`` at random moments.

    Raises:
        AssertionError: where something was lost, half an import was read, or the completed one differs.
    """
    rng, started, importing = random.Random(seed), time.monotonic(), Importing(folder)
    found = at_every_step(importing)
    tally = Tally(
        "kill -9 of an import", {"at every step of its writing and removing": found["kills"], "of processes at random moments": 0}
    )
    length = 0.0
    with tqdm(total=kills, desc="kills of an import", unit="kill") as bar:
        while bar.n < kills:
            over = rng.random() < 0.5
            store, begun = importing.before(over), time.monotonic()
            command = [sys.executable, "-m", "tts", *importing.arguments(store)]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if not length:
                process.wait()
                length = time.monotonic() - begun
                continue
            writing = store.folder / ".lock"  # which it makes when it begins to write
            while rng.random() < 0.8 and process.poll() is None and not writing.exists():
                time.sleep(0.001)
            try:
                process.wait(rng.uniform(0, 0.3) if writing.exists() else rng.uniform(0, length))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                bar.update()
                tally.counts["of processes at random moments"] += 1
                found[importing.check(store, over)] += 1
    tally.counts |= {
        "after which there was no import": found["nothing"],
        "the older one": found["older"],
        "the new one": found["new"],
    }
    tally.seconds = time.monotonic() - started
    return tally
