"""A process that executes notebooks for :mod:`tts.study.execution`, one after the other: a job a line in, what went wrong a line out.

It ends with its parent, and so does the kernel that it has started.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading

from tts.study import forked_kernels

# Jupyter chooses a kernel's ports before the kernel binds them: whatever takes one in between, the kernel dies of it.
_STARTS = 3


def main() -> None:
    replies, jobs = os.fdopen(os.dup(1), "w"), queue.SimpleQueue()
    os.dup2(2, 1)  # what is printed before the first job's log is no reply
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    forked_kernels.use()
    while True:
        job = jobs.get()
        try:
            with open(job["log"], "w") as log:  # a kernel inherits both; their chatter belongs in a file
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            forked_kernels.ForkedKernel.log = job["log"]
            reason = _execute(job)
        except OSError as error:
            reason = f"cannot write {job['log']}: {error.strerror}; free space or choose another folder with -p figures=FOLDER"
        print(json.dumps(reason), file=replies, flush=True)


def _read(jobs: queue.SimpleQueue[dict]) -> None:
    """The parent keeps our stdin open while it needs us; the kernel watches us likewise."""
    for line in sys.stdin:
        jobs.put(json.loads(line))
    os._exit(1)


def _execute(job: dict) -> str | None:
    """None where the notebook ran through, else what went wrong in one line."""
    from tts.common import quick_imports  # noqa: F401

    # isort: split
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    for start in range(1, _STARTS + 1):
        try:
            papermill.execute_notebook(
                job["source"],
                job["target"],
                parameters=job["parameters"],
                kernel_name="python3",
                cwd=job["folder"],
                progress_bar=False,
                execution_timeout=job["timeout"],
            )
            return None
        except papermill.PapermillExecutionError as error:
            return _line(error.ename, error.evalue)
        except Exception as error:
            if start == _STARTS or not str(error).startswith("Kernel died before replying"):
                return _line(type(error).__name__, str(error))
    return None


def _line(kind: str, text: str) -> str:
    return f"{kind}: {text}".strip().splitlines()[0]


if __name__ == "__main__":
    main()
