"""The command line without a new process for each command, and what a refusal has to look like."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm
from typer.main import get_command

from tts.study.cli import app, guarded

COMMAND = get_command(app)  # which typer would build anew for every call


class Result(NamedTuple):
    """A command's exit code and what it printed."""

    code: int
    out: str
    err: str


def command_line(*arguments: str) -> Callable[[], None]:
    """``python -m tts`` with arguments, to be called."""

    def call() -> None:
        sys.argv = ["tts", *arguments]
        guarded(COMMAND)

    return call


def in_process(command: Callable[[], None]) -> Result:
    """Runs a command here; fast, but what it caches stays."""
    out, err, argv, code = io.StringIO(), io.StringIO(), sys.argv, 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _ended(command)
    finally:
        sys.argv = argv
    return Result(code, out.getvalue(), err.getvalue())


def forked(command: Callable[[], None]) -> Result:
    """Runs a command in a fork of this process: as separate as a new one, without its imports."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            tqdm.set_lock(threading.RLock())  # forks share the other, and a killed one would keep it
            code = _ended(command)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Result(os.waitstatus_to_exitcode(status), *texts)


def _ended(command: Callable[[], None]) -> int:
    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # an error that nobody expected: what a user would see
        traceback.print_exc()
        return 70
    return 0


def refusal(result: Result, *named: str) -> str | None:
    """What is wrong with a refusal; None where it exits with an error, without traceback, and names all of ``named``."""
    if "Traceback" in result.err + result.out:
        return f"a traceback: {result.err.strip().splitlines()[-1]:.300}"
    if result.code == 0:
        return "it was not refused"
    if result.code not in (1, 2):
        return f"it ended with {result.code}: {result.err[-300:]}"
    flat = "".join((result.err + result.out).split())
    missing = [name for name in named if "".join(name.split()) not in flat]
    if missing:
        return f"its message does not say {missing}: {result.err[-400:]}"
    message = result.err.rpartition("error: ")[2]  # a progress bar may stand before it
    if any(not (c.isprintable() or c.isspace()) for c in message):
        return f"its message holds control characters: {message[-200:]!r}"
    return None


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with a hash of its content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def overwritten(before: dict[str, str], folder: Path) -> list[str]:
    """Files that changed or went since ``before``."""
    now = tree(folder)
    return [name for name, digest in before.items() if now.get(name) != digest]
