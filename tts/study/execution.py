"""Executes a study's notebooks side by side with papermill, and finds what was executed before."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from tqdm.auto import tqdm

from tts.common.paths import NOTEBOOKS
from tts.store.store import StoreError
from tts.study.parameters import check
from tts.study.presets import Job, StudyError, experiments

FINDINGS = "09_findings"
TIMEOUT = 3600


def executed(folder: Path) -> list[tuple[Job, Path, str]]:
    """Notebooks executed into a folder, each with its file and when it ended, without what no longer fits this suite or was cut off."""
    found = []
    for path in sorted(folder.glob("*.ipynb")):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))["metadata"]["papermill"]
            job = Job(path.stem, about["parameters"])
            check(job.notebook, job.values, look_up=False)
            found.append((job, path, about["end_time"][:16].replace("T", " ")))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def render(jobs: list[Job], preset: str, workers: int) -> tuple[dict[str, str | None], Path, Path]:
    """Executes notebooks and binds the report; returns what :func:`execute` does, the report's file, and the figures' folder."""
    threading.Thread(target=import_module, args=("tts.report.html",), daemon=True).start()  # meanwhile: nbconvert takes a second
    output = output_of(jobs[0])
    outcome = execute(jobs, output, workers)
    failures = {name: reason for name, reason in outcome.items() if reason}
    bound = [path for name in outcome if (path := output / f"{name}.ipynb").exists()]
    ledger = output.parent / "ledger.csv" if outcome.get(FINDINGS, "") is None else None
    results = [experiment.results for experiment in experiments(jobs)]
    ended = {}
    for job, path, when in executed(output):
        if job.notebook in outcome:
            continue
        bound.append(path)
        ended[path.stem] = when
        if job.notebook == FINDINGS:
            ledger = output.parent / "ledger.csv"
        with suppress(ValueError, OSError, StoreError):  # its models or problems may be gone since
            job.check()
            results += [experiment.results for experiment in experiments([job])]
    from tts.report import html

    page = html.build(sorted(bound), failures, output.parent / "report.html", f"Test-time scaling: preset {preset}", ledger, results, ended)
    return outcome, page, output.parent


def output_of(job: Job) -> Path:
    """The folder of a job's executed notebook, in that of its figures."""
    return (NOTEBOOKS / job.values.get("figures", "../figures")).resolve() / "notebooks"


def check_writable(outputs: Iterable[Path]) -> None:
    """Makes folders of executed notebooks, and writes to them and to those of the figures above them, before anything is generated.

    Raises:
        StudyError: where one cannot be written.
    """
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

    Returns:
        Per notebook None where it ran through, else what went wrong in one line; the others finish regardless.

    Raises:
        StudyError: where the output cannot be written.
    """
    check_writable([output])
    for job in jobs:
        (output / f"{job.notebook}.ipynb").unlink(missing_ok=True)  # what an earlier run left must not pass for this one's
    threads = max(1, (os.cpu_count() or 1) // max(1, min(workers, len(jobs))))  # with all cores each, they would wait for each other
    waiting = sorted(jobs, key=_size, reverse=True)  # or a long one is left alone at the end
    idle: list[subprocess.Popen] = []  # used again: papermill alone takes seconds to import
    running: dict[IO[str], tuple[subprocess.Popen, Job]] = {}
    outcome: dict[str, str | None] = {}
    try:
        with tqdm(total=len(jobs), desc="notebooks", unit="notebook") as bar:
            while waiting or running:
                while waiting and len(running) < workers:
                    process, job = idle.pop() if idle else _start(threads), waiting.pop(0)
                    running[process.stdout] = process, job
                    _hand(process, job, output)
                for replies in wait(list(running), timeout=1):  # without an end, a signal just before would go unseen
                    process, job = running.pop(replies)
                    if reply := replies.readline():
                        idle.append(process)
                        job.leave_out_findings(output / f"{job.notebook}.ipynb")
                        outcome[job.notebook] = json.loads(reply)
                    else:
                        ended = f"was killed by signal {-status}" if (status := process.wait()) < 0 else f"ended with status {status}"
                        log = output / f"{job.notebook}.log"
                        outcome[job.notebook] = f"its process {ended} before the notebook was done; {log} may say why"
                    bar.update()
    finally:  # also after Ctrl-C nothing that was started here goes on
        for process in [*idle, *(process for process, _ in running.values())]:
            process.kill()
            process.communicate()
    return {job.notebook: outcome[job.notebook] for job in jobs}


def _start(threads: int) -> subprocess.Popen:
    """A process that executes notebooks, with a number of threads."""
    command = [sys.executable, "-m", "tts.study.notebook_process"]
    variables = {"OMP_NUM_THREADS": str(threads)} | os.environ
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables)


def _hand(process: subprocess.Popen, job: Job, output: Path) -> None:
    target, log = (output / f"{job.notebook}.{suffix}" for suffix in ("ipynb", "log"))
    order = {
        "source": job.folder / target.name,
        "folder": job.folder,
        "target": target,
        "log": log,
        "parameters": job.parameters,
        "timeout": TIMEOUT,
    }
    with suppress(BrokenPipeError):  # it died, which the end of its replies tells
        process.stdin.write(json.dumps(order, default=str) + "\n")
        process.stdin.flush()


def _size(job: Job) -> float:
    """How many chunks a notebook reads. One that has none generates as it runs, and may take longest; a damaged one fails by itself."""
    try:
        grids = [grid for experiment in experiments([job]) for grid in experiment.grids()]
        return sum(len(list(grid.specs())) * len(grid.chunks(name)) for grid in grids for name in grid.problems) or math.inf
    except (OSError, ValueError, KeyError, TypeError):
        return 0
