"""Executes a study's notebooks side by side with papermill, and finds what was executed before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from tqdm.auto import tqdm

from tts.study.parameters import check_kinds, declared
from tts.study.presets import Job, StudyError

TIMEOUT = 3600


def executed(folder: Path) -> list[tuple[Job, Path, str]]:
    """Notebooks that were executed into a folder, by this run or earlier ones: each with its parameters, its file and when it ended.

    What no longer fits this suite, or was cut off, is left out.
    """
    found = []
    for path in sorted(folder.glob("*.ipynb")):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))["metadata"]["papermill"]
            job = Job(path.stem, about["parameters"])
            check_kinds(job.notebook, declared(job.notebook) | job.parameters)
            found.append((job, path, about["end_time"][:16].replace("T", " ")))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def execute(jobs: list[Job], output: Path, workers: int = 2) -> dict[str, str | None]:
    """Executes notebooks side by side, in processes of which one that dies takes only its notebook along.

    Returns:
        Per notebook None where it ran through, else what went wrong in one line; the others finish regardless.

    Raises:
        StudyError: where the output cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        for job in jobs:
            (output / f"{job.notebook}.ipynb").unlink(missing_ok=True)  # what an earlier run left must not pass for this one's
    except OSError as error:
        raise StudyError(
            f"cannot write to {output}: {error.strerror}; make it writable, or choose another with -p figures=FOLDER"
        ) from None
    outcome: dict[str, str | None] = {}
    threads = max(1, (os.cpu_count() or 1) // max(1, min(workers, len(jobs))))  # with all cores each, they would wait for each other
    with _Processes(threads) as processes, ThreadPoolExecutor(workers) as pool:
        longest_first = sorted(jobs, key=lambda job: -_seconds(job))  # or a long one is left alone at the end
        try:
            futures = {pool.submit(processes.execute, job, output): job.notebook for job in longest_first}
            left = set(futures)
            with tqdm(total=len(futures), desc="notebooks", unit="notebook") as bar:
                while left:
                    done, left = wait(left, timeout=1, return_when=FIRST_COMPLETED)  # or a signal just before may go unseen
                    outcome |= {futures[future]: future.result() for future in done}
                    bar.update(len(done))
        except BaseException:  # Ctrl-C: nothing that we started goes on without us
            pool.shutdown(wait=False, cancel_futures=True)
            processes.kill()
            raise
    return {job.notebook: outcome[job.notebook] for job in jobs}


def _seconds(job: Job) -> float:
    """About how long a notebook takes: each cell with code a second, each chunk that it reads a twentieth.

    One that stands for itself generates as it runs, and may take longest; a damaged one fails by itself.
    """
    try:
        cells = sum(cell["cell_type"] == "code" for cell in json.loads(job.source.read_text(encoding="utf-8"))["cells"])
        grids = job.grids()
        chunks = sum(len(list(grid.specs())) * sum(len(grid.chunks(name)) for name in grid.problems) for grid in grids)
        return cells + chunks / 20 if grids else 3 * cells
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


class _Processes:
    """Processes that execute notebooks, used again while they live: papermill alone takes seconds to import.

    Args:
        threads: of each.
    """

    def __init__(self, threads: int):
        self._variables = {"OMP_NUM_THREADS": str(threads)} | os.environ
        self._idle: list[subprocess.Popen] = []
        self._running: set[subprocess.Popen] = set()
        self._stopped = False

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        for process in self._running:
            process.communicate()

    def kill(self) -> None:
        """Also those that another thread is about to start."""
        self._stopped = True
        for process in list(self._running):
            process.kill()

    def execute(self, job: Job, output: Path) -> str | None:
        """None where the notebook ran through, else what went wrong in one line."""
        paths = {
            "source": job.source,
            "folder": job.folder,
            "target": output / f"{job.notebook}.ipynb",
            "log": output / f"{job.notebook}.log",
        }
        order = {name: str(path) for name, path in paths.items()} | {"parameters": job.parameters, "timeout": TIMEOUT}
        process = self._idle.pop() if self._idle else self._start()
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            reply = process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if reply:
            self._idle.append(process)
            job.leave_out_findings(paths["target"])
            return json.loads(reply)
        status = process.wait()
        self._running.discard(process)
        killed = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"its process {killed} before the notebook was done; {paths['log']} may say why"

    def _start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "tts.study.notebook_process"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._variables)
        self._running.add(process)
        if self._stopped:
            process.kill()
        return process
