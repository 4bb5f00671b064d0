"""Damaged import folders: what can be used is imported, all else counted and listed; where nothing can be, nothing is written."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from torture.damages import Damage, replaced
from torture.import_folders import Case, build, cases, one_of_plain
from torture.invoke import Result, command_line, forked, refusal, tree
from torture.report import Tally
from tts.store import imported
from tts.store.store import Store


class Place:
    """Sound folders, damaged copies of them, and a store with an earlier import that nothing may touch."""

    def __init__(self, folder: Path, run: Callable[[Callable[[], None]], Result] = forked):
        self.run, self.folder, self.damaged = run, folder, folder / "damaged"
        self.sound = folder / "sound"
        build(self.sound)
        one_of_plain(folder / "earlier.jsonl")
        self.earlier = Store(folder / "earlier")
        assert run(command_line("import", str(folder / "earlier.jsonl"), "--store", str(self.earlier.folder))).code == 0
        self.store = Store(folder / "store")
        self.rows = {}
        for root in ("plain", "sal", "study", "all", "exported"):
            done = self.put(root, lambda path: None)
            assert done.code == 0, (root, done)
            self.rows[root] = self.imported()

    def put(self, root: str, damage: Damage, file: str = "") -> Result:
        """Imports a damaged copy of a sound folder; its result."""
        for folder in (self.damaged, self.store.folder):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.sound / root, self.damaged)
        shutil.copytree(self.earlier.folder, self.store.folder)
        damage(self.damaged / file)
        return self.run(command_line("import", str(self.damaged), "--store", str(self.store.folder), "--name", "x"))

    def imported(self) -> dict[tuple, dict]:
        """The rows that came from the damaged folder, by run and problem."""
        found = {}
        for run in self.store.runs():
            if not run.spec.policy.name.startswith("imported:earlier/"):
                for row in run.rows():
                    found[run.spec.method, run.spec.policy.name, row["problem_id"]] = row
        return found

    def changed(self) -> list[str]:
        """Files of the earlier import that were touched."""
        before, now = tree(self.earlier.folder), tree(self.store.folder)
        return [name for name, digest in before.items() if name != ".lock" and now.get(name) != digest]

    def listed(self) -> list[dict]:
        """What was not used, by the imports' own lists."""
        lists = self.store.folder.glob(f"{imported.FOLDER}/x*/{imported.MANIFEST}")
        return [skip for path in lists for skip in json.loads(path.read_text())["skipped"]]


def judged(place: Place, case: Case) -> str | None:
    """What is wrong with what became of a case; None where nothing is."""
    result = place.put(case.root, case.damage, case.file)
    if touched := place.changed():
        return f"it overwrote {touched}"
    if case.kept is None:
        wrote = place.imported() or list(place.store.folder.glob(f"{imported.FOLDER}/x*"))
        return f"it wrote {wrote}" if wrote else refusal(result, *case.said)
    if result.code or "Traceback" in result.err + result.out:
        return f"it ended with {result.code}: {result.err[-300:]}"
    told = "".join((result.out + json.dumps(place.listed(), ensure_ascii=False)).split())
    if missing := [text for text in case.said if "".join(text.split()) not in told]:
        return f"it does not say {missing}: {result.out}"
    kept = {problem for method, _, problem in place.imported() if method == "pool"}
    return None if len(kept) == case.kept else f"it kept {len(kept)} problems: {sorted(kept)}"


def at_random(place: Place, rng: random.Random) -> tuple[str | None, str]:
    """Any damage to any file: imported or refused, and every record whose own bytes are whole is there as it was, or listed.

    Returns:
        What is wrong, if anything, and what became of it.
    """
    root = rng.choice(sorted(place.rows))
    file = rng.choice(sorted(path for path in (place.sound / root).rglob("*") if path.is_file()))
    name, before = str(file.relative_to(place.sound / root)), file.read_bytes()
    after = _damaged(before, rng)
    result, touched = place.put(root, replaced(after), name), place.changed()
    what = f"{root}/{name}, {len(before)} bytes of which {len(after)} are left"
    if touched or "Traceback" in result.err + result.out or result.code not in (0, 2):
        return f"{what}: it ended with {result.code}, overwrote {touched}: {result.err[-300:]}", ""
    if result.code == 2:
        problem = refusal(result)
        return (f"{what}: {problem}" if problem else None), "refused"
    lost = [] if file.suffix == ".parquet" or file.name == "config.json" else _lost(place, root, name, before, after)
    return (f"{what}: lost without a word: {lost}" if lost else None), "listed" if place.listed() else "nothing to list"


def _damaged(content: bytes, rng: random.Random) -> bytes:
    at, length = rng.randrange(len(content)), rng.randrange(1, 200)
    match rng.randrange(6):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        case 2:
            return content[:at] + rng.randbytes(length) + content[at + length :]
        case 3:
            return content[:at] + content[at + length :]
        case 4:
            return content[:at] + content[at : at + length] + content[at:]
        case _:
            return content[:at] + b"\0" * length + content[at + length :]


def _lost(place: Place, root: str, name: str, before: bytes, after: bytes) -> list[tuple]:
    """Rows of whole records that are not there as they were, and of which nothing is said."""
    now, lines = place.imported(), after.split(b"\n")
    listed = {skip["source"] for skip in place.listed()}
    silent = set()  # endings of the ids of problems of which nothing need be said
    for text in filter(None, before.split(b"\n")):
        number = lines.index(text) + 1 if text in lines else 0
        if not number or f"{name}, line {number}" in listed:
            silent.add(_problem_of(name, text))
    return [key for key, row in place.rows[root].items() if now.get(key) != row and not key[2].endswith(tuple(silent))]


def _problem_of(name: str, text: bytes) -> str:
    """How the id of a record's problem ends."""
    row = json.loads(text)
    return row.get("id") or row.get("unique_id") or f"-{int(Path(name).parent.name.removeprefix('question_')):05d}"


def campaign(folder: Path, count: int, seed: int) -> Tally:
    """Every case, and as many random damages.

    Raises:
        AssertionError: where something was lost without a word, overwritten, or unsaid.
    """
    started, rng, place, wrong = time.monotonic(), random.Random(seed), Place(folder), []
    all_cases, became = cases(), Counter()
    for case in tqdm(all_cases, desc="damaged import folders", unit="case"):
        if problem := judged(place, case):
            wrong.append(f"{case.name}: {problem}")
    for _ in tqdm(range(count), desc="damage at random", unit="folder"):
        problem, state = at_random(place, rng)
        wrong += [problem] if problem else []
        became[state] += 1
    assert not wrong, "\n".join(wrong)
    refused = sum(case.kept is None for case in all_cases)
    counts = {"folders damaged as listed": len(all_cases), "of them refused": refused, "folders damaged at random": count}
    counts |= {"imported, what was not used listed": became["listed"], "refused": became["refused"]}
    counts |= {"read all the same": became["nothing to list"]}
    return Tally("damaged import folders", counts, time.monotonic() - started)
