"""``make torture``: runs the campaign, or the named parts of it, and writes what was counted to docs/torture.md."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from torture import answers, disks, import_damage, import_kills, kills, notebooks, parameters, programs, study_kills
from torture.report import ROOT, Tally
from tts.common.paths import commit
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.store.store import Store

SEED = 20261124
REPORT = ROOT / "docs" / "torture.md"
SEARCH = Grid(
    problems={"pocket-main": 6},
    policies=["policy-20k"],
    prms=["prm-qwen-28k"],
    methods=["beam_search"],
    samples=4,
    budgets=[4],
    chunk=1,
    max_tokens=160,
)


def whole(folder: Path) -> str:
    """The canonical export of the search's unbroken run."""
    store = Store(folder / "whole")
    fill(SEARCH, store)
    return kills.export(store)


def damaged(folder: Path) -> str:
    """The damage, in a copy of the checkout whose files may be damaged."""
    copy = folder / "checkout"
    left_out = {ROOT / "data" / "runs", ROOT / "data" / "training", ROOT / "figures"}
    shutil.copytree(ROOT, copy, ignore=lambda place, names: [n for n in names if n.startswith(".") or Path(place, n) in left_out])
    command = [sys.executable, "-c", "from torture.damage import campaign; print(campaign())"]
    paths = {"PYTHONPATH": f"{copy}{os.pathsep}{copy / 'tests'}"}
    return subprocess.run(command, cwd=copy, env=os.environ | paths, stdout=subprocess.PIPE, text=True, check=True).stdout


def marked(folder: Path) -> str:
    """The tests that ``make test`` leaves out, since it has a shorter form of each."""
    done = subprocess.run([sys.executable, "-m", "pytest", "-m", "torture", "tests"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout
    assert (passed := re.search("[0-9]+ passed", done.stdout)), done.stdout
    return f"## Longer forms of tests\n\n- {passed[0]}\n"


PARTS: dict[str, Callable[[Path], Tally | str]] = {
    "tests": marked,
    "study": lambda folder: study_kills.campaign(folder, 25, SEED),
    "search": lambda folder: kills.beam_search(SEARCH, whole(folder), folder, 25, SEED),
    "processes": lambda folder: kills.two_processes(SEARCH, whole(folder), folder, 4, SEED),
    "disks": lambda folder: disks.campaign(SEARCH, whole(folder), folder),
    "answers": lambda folder: answers.campaign(10_000, SEED, folder, seconds=1.0, pool=8),
    "parameters": parameters.campaign,
    "damage": damaged,
    "folders": lambda folder: import_damage.campaign(folder, 400, SEED),
    "imports": lambda folder: import_kills.campaign(folder, 25, SEED),
    "notebooks": notebooks.campaign,
    "programs": lambda folder: programs.campaign(folder, SEED),
}


def main() -> None:
    chosen = sys.argv[1:] or list(PARTS)
    if unknown := [name for name in chosen if name not in PARTS]:
        raise SystemExit(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix=f"torture-{name}-") as folder:
            counted = str(PARTS[name](Path(folder)))
        print(counted, flush=True)
        _record(name, counted)


def _record(name: str, counted: str) -> None:
    """Puts a part's last counts in its place of the report."""
    text = REPORT.read_text(encoding="utf-8")
    stamp = f"{datetime.date.today()}, commit {commit()[:12]}"
    place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    assert place.search(text), f"{REPORT} has no place for {name}"
    REPORT.write_text(place.sub(lambda found: f"{found[1]}{counted.strip()}\n- last run: {stamp}\n{found[2]}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
