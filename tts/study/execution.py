"""Executes a study's notebooks side by side with papermill, and finds what was executed before."""

import json
import math
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryFile

from tqdm.auto import tqdm

from tts.analysis.accuracy import Results
from tts.common.names import short
from tts.common.paths import NOTEBOOKS
from tts.generate.grid import Grid
from tts.report import html
from tts.store.store import StoreError
from tts.study.experiment import experiment_of, findings_of
from tts.study.notebook_process import serve
from tts.study.parameters import check
from tts.study.presets import Job, StudyError, experiments

FINDINGS = "09_findings"
TIMEOUT = 3600
MOST_NAMED = 4  # models, or problem sets, in a title


def executed(folder: Path) -> dict[str, tuple[Job, str]]:
    """Notebooks executed into a folder and when each ended, by name, without what no longer fits this suite or was cut off."""
    found = {}
    for path in sorted(folder.glob("*.ipynb")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads(path.read_text(encoding="utf-8"))["metadata"]["papermill"]
            job = Job(path.stem, about["parameters"])
            check(job.notebook, job.values, look_up=False)
            found[job.notebook] = job, about["end_time"][:16].replace("T", " ")
    return found


def title_of(grids: Sequence[Grid]) -> str:
    """The title of a report: which policies with which PRMs on which problem sets, or how many where they are many."""
    told = []
    for field, preposition, kind in (("policies", "", "policies"), ("prms", "with ", "PRMs"), ("problems", "on ", "problem sets")):
        if names := list(dict.fromkeys(short(name) for grid in grids for name in getattr(grid, field))):
            told.append(preposition + (", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} {kind}"))
    return " ".join(["Test-time scaling" + ":" * bool(told), *told])


def render(jobs: list[Job], workers: int) -> tuple[dict[str, str | None], Path, Path]:
    """Executes notebooks and binds the report; returns what :func:`execute` does, the report's file, and the figures' folder."""
    output = output_of(jobs[0])
    outcome = execute(jobs, output, workers)
    failures = {name: reason for name, reason in outcome.items() if reason}
    earlier = {name: held for name, held in executed(output).items() if name not in outcome}
    shown_jobs = list(jobs)
    for job, _ in earlier.values():
        with suppress(ValueError, OSError, StoreError):  # its models or problems may be gone since
            job.check()
            shown_jobs.append(job)
    results = [Results(grid, experiment.store) for experiment in experiments(shown_jobs) for grid in experiment.grids()]
    title = title_of([grid for job in shown_jobs if (held := experiment_of(job.notebook, job.values)) for grid in held.grids()])
    shown = sorted(path for name in [*outcome, *earlier] if (path := output / f"{name}.ipynb").exists())
    ledger = output.parent / "ledger.csv" if FINDINGS in {*outcome, *earlier} - {*failures} else None
    ended = {name: when for name, (_, when) in earlier.items()}
    page = html.build(shown, failures, output.parent / "report.html", title, ledger, results, ended)
    return outcome, page, output.parent


def output_of(job: Job) -> Path:
    """The folder of a job's executed notebook, in that of its figures."""
    return (NOTEBOOKS / job.values.get("figures", "../figures/by-hand")).resolve() / "notebooks"


def check_writable(outputs: Iterable[Path]) -> None:
    """Makes folders of executed notebooks; raises StudyError where one of them, or that of its figures, cannot be written."""
    for output in outputs:
        try:
            output.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=output), TemporaryFile(dir=output.parent):
                continue
        except OSError as error:
            reason = error.strerror or error
            raise StudyError(f"cannot write to {output}: {reason}; make it writable, or choose another with -p figures=FOLDER") from None


def execute(jobs: list[Job], output: Path, workers: int = 2) -> dict[str, str | None]:
    """Executes notebooks side by side, in processes of which one that dies takes only its notebook along.

    Gives for each notebook None where it ran through, else what went wrong in one line. Raises as :func:`check_writable`.
    """
    check_writable([output])
    for job in jobs:
        for left in (output / f"{job.notebook}.ipynb", findings_of(job.notebook, output.parent)):
            left.unlink(missing_ok=True)  # what an earlier run left must not pass for this one's
    threads = max(1, (os.cpu_count() or 1) // max(1, min(workers, len(jobs))))  # with all cores each, they would wait for each other
    waiting = sorted(jobs, key=_size, reverse=True)  # or a long one is left alone at the end
    idle: list[tuple[Connection, BaseProcess]] = []  # used again: papermill alone takes seconds to import
    running: dict[Connection, tuple[BaseProcess, Job]] = {}
    outcome: dict[str, str | None] = {}
    try:
        with tqdm(total=len(jobs), desc="notebooks", unit="notebook") as bar:
            while waiting or running:
                while waiting and len(running) < workers:
                    (connection, process), job = idle.pop() if idle else _start(threads, len(jobs) > workers), waiting.pop(0)
                    running[connection] = process, job
                    name = f"{job.notebook}.ipynb"
                    with suppress(OSError):  # it died, which the end of its replies tells
                        connection.send((job.folder / name, output / name, job.parameters, TIMEOUT))
                for connection in wait(list(running), timeout=1):  # without an end, a signal just before would go unseen
                    process, job = running.pop(connection)
                    try:
                        outcome[job.notebook] = connection.recv()
                    except (EOFError, OSError):
                        process.join()
                        status = process.exitcode
                        ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
                        log = output / f"{job.notebook}.log"
                        outcome[job.notebook] = f"its process {ended} before the notebook was done; {log} may say why"
                    else:
                        idle.append((connection, process))
                        job.leave_out_findings(output / f"{job.notebook}.ipynb")
                    bar.update()
    finally:  # also after Ctrl-C nothing that was started here goes on
        for process in [*(process for _, process in idle), *(process for process, _ in running.values())]:
            process.kill()
            process.join()
    return {job.notebook: outcome[job.notebook] for job in jobs}


def _start(threads: int, several: bool) -> tuple[Connection, BaseProcess]:
    """A process that executes several notebooks or one, with a number of threads, and the pipe to it."""
    ours, theirs = Pipe()
    with theirs:
        process = get_context("spawn").Process(target=serve, args=(theirs, threads, several))
        process.start()
    return ours, process


def _size(job: Job) -> float:
    """How many chunks a notebook reads. One that has none generates as it runs, and may take longest; a damaged one fails by itself."""
    try:
        grids = [grid for experiment in experiments([job]) for grid in experiment.grids()]
        return sum(len(list(grid.specs())) * len(grid.chunks(name)) for grid in grids for name in grid.problems) or math.inf
    except (OSError, ValueError, KeyError, TypeError):
        return 0
