"""``kill -9`` of the whole study in each of its phases, aimed by the times that an unbroken run takes for them."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from torture.kills import MOMENTS, Chunks, export
from torture.processes import descendants, kill, wait_for_end
from torture.report import ROOT, Tally
from torture.study_phases import PHASES, REPORT
from tts.store.store import Store

STUDY = ("01_tts_methods", "03_policy_scaling", "--preset", "smoke")
STARTING, GENERATING, GRADING, EXECUTING, BINDING = PHASES
WRITING, TEARING = "writing a chunk", "writing the report"
# One store's kills, in an order in which each continues what the one before it left.
ROUND = (STARTING, GENERATING, WRITING, GENERATING, WRITING, GRADING, EXECUTING, TEARING, BINDING)


class Running:
    """A study that runs.

    Args:
        place: of its store, figures and notes.
        deadly: where it kills itself, as :mod:`torture.study_phases` takes it.
    """

    def __init__(self, place: Path, *deadly: int | str):
        self.store, self.notes = Store(place / "runs"), place / "phases.txt"
        place.mkdir(exist_ok=True)
        self.notes.unlink(missing_ok=True)
        command = [sys.executable, "-m", "torture.study_phases", str(self.notes), *(map(str, deadly or "--")), *_arguments(place)]
        self.begun = time.monotonic()
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def phases(self) -> dict[str, float]:
        """The phases so far, and when each began."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return {STARTING: self.begun} | {name: float(at) for name, at in (line.split(": ") for line in lines if line.count("."))}

    def reaches(self, phase: str, chunks: int = 0) -> bool:
        """Waits for a phase and a number of stored chunks; False where the study ended before."""
        while phase not in self.phases() or len(Chunks(self.store).paths) < chunks:
            if self.process.poll() is not None:
                return False
            time.sleep(0.01)
        return True

    def shot(self, after: float, all_of_it: bool) -> str | None:
        """Kills it after a time, with all that it started or alone; returns the phase that it was in, None where it ended before."""
        try:
            self.process.wait(after)
        except subprocess.TimeoutExpired:
            return self._shot(all_of_it)
        return None

    def _shot(self, all_of_it: bool) -> str:
        held, children = Chunks(self.store), descendants(self.process.pid)
        self.process.kill()
        for child in children if all_of_it else []:  # the out-of-memory killer takes one process, a closed container takes all
            kill(child)
        self.process.wait()
        held.check_kept()
        wait_for_end(children)
        return list(self.phases())[-1]


def campaign(folder: Path, kills: int, seed: int) -> Tally:
    """Kills the study in every phase, some times each, and continues it after each kill; completes a store after its round.

    Raises:
        AssertionError: where something was lost, went on, or differs from the unbroken run.
    """
    rng, started = random.Random(seed), time.monotonic()
    taken, whole, total = _unbroken(folder / "whole")
    killed, finished, alone = Counter(), 0, 0
    place, left = folder / "study-0", list(ROUND)
    with tqdm(total=kills, desc="kills of the study", unit="kill") as bar:
        while bar.n < kills:
            aim, all_of_it = left.pop(0), rng.random() < 0.5
            phase = _kill_while(aim, place, taken, total, rng, all_of_it)
            if phase:
                killed[phase] += 1
                alone += not all_of_it and phase not in (WRITING, TEARING)
                bar.update()
                bar.set_postfix_str(phase)
            if not left or bar.n == kills:
                _finish(place, whole)
                finished, left = finished + 1, list(ROUND)
                place = folder / f"study-{finished}"
    more = {f"while {phase}": killed[phase] for phase in (STARTING, GENERATING, WRITING, GRADING, EXECUTING, BINDING, TEARING)}
    more |= {"of the study's process alone": alone, "exports equal to the unbroken run's": finished, "chunks of a whole store": total}
    tally = Tally("kill -9 of the study", {"kills": kills} | more | {"unbroken run (s)": round(sum(taken.values()))})
    tally.seconds = time.monotonic() - started
    return tally


def _unbroken(place: Path) -> tuple[dict[str, float], str, int]:
    """How long each phase takes, the export, and the number of chunks."""
    running = Running(place)
    running.process.wait()
    assert running.process.returncode == 0, f"the unbroken study ended with {running.process.returncode}"
    begins = [*running.phases().values(), time.monotonic()]
    taken = {phase: after - before for phase, before, after in zip(PHASES, begins, begins[1:])}
    return taken, export(Store(place / "runs")), len(Chunks(Store(place / "runs")).paths)


def _kill_while(aim: str, place: Path, taken: dict[str, float], total: int, rng: random.Random, all_of_it: bool) -> str | None:
    """Starts the study and kills it in a phase; returns the one that it was in, None where it ended before or had nothing to write."""
    before = len(Chunks(Store(place / "runs")).paths)
    if aim == TEARING:
        running = Running(place, REPORT, "-")
        running.process.wait()
        assert running.process.returncode == -signal.SIGKILL and list(place.glob("figures/report.html.*.tmp"))
        return TEARING
    if aim == WRITING:
        running = Running(place, rng.randrange(len(MOMENTS)), rng.randrange(1, 3))
        if running.reaches(EXECUTING):
            return running.shot(rng.uniform(0, taken[EXECUTING]), all_of_it)
        assert running.process.returncode == -signal.SIGKILL
        Chunks(running.store).check_kept()
        return WRITING
    running = Running(place)
    if not running.reaches(aim, min(total, before + rng.randrange(2)) if aim == GENERATING else 0):
        assert running.process.returncode == 0
        return None
    return running.shot(rng.uniform(0, taken[aim] / total if aim == GENERATING else taken[aim]), all_of_it)


def _arguments(place: Path) -> list[str]:
    return ["run", *STUDY, "-p", f"store={place / 'runs'}", "-p", f"figures={place / 'figures'}"]


def _finish(place: Path, whole: str) -> None:
    """Runs the study as a user would, to its end: nothing is lost, different, or left behind."""
    done = subprocess.run([sys.executable, "-m", "tts", *_arguments(place)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert export(Store(place / "runs")) == whole, f"the export of {place} differs from the unbroken run's"
    page = (place / "figures" / "report.html").read_text()
    assert page.rstrip().endswith("</html>") and "did not finish" not in page
    assert not (torn := list(place.glob("**/*.tmp"))), f"half-written files stay: {torn}"
