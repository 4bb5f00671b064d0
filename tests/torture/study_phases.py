"""The study as ``python -m tts`` runs it, which notes when each of its phases begins, and may kill itself while it writes a file."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from torture.kills import sabotage_writes
from tts.analysis import grades
from tts.common.files import replacing
from tts.report import html
from tts.study import cli, execution, presets

PHASES = ("starting", "generating", "grading", "executing notebooks", "binding the report")
REPORT = "report"
_ENTRIES: tuple[tuple[ModuleType, str], ...] = ((presets, "fill"), (grades, "keep"), (execution, "execute"), (html, "build"))


def main() -> None:
    """Arguments: the file of the notes, what is deadly, and those of ``python -m tts``.

    Deadly are the moment and the number of a chunk, or the report and a dash, or nothing, which is two dashes.
    """
    notes, moment, chunk, *arguments = sys.argv[1:]
    for (module, name), phase in zip(_ENTRIES, PHASES[1:]):
        setattr(module, name, _noted(getattr(module, name), phase, Path(notes)))
    if moment == REPORT:
        html.write_text = _half
    elif moment != "-":
        sabotage_writes(int(moment), int(chunk))
    sys.argv = ["tts", *arguments]
    cli.main()


def _half(path: Path, text: str) -> None:
    """Dies with half of a file written."""
    with replacing(path) as temporary:
        temporary.write_text(text[: len(text) // 2], encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)


def _noted(function: Callable, phase: str, notes: Path) -> Callable:
    def noted(*arguments: object, **options: object) -> object:
        with notes.open("a") as file:
            file.write(f"{phase}: {time.monotonic()}\n")
        return function(*arguments, **options)

    return noted


if __name__ == "__main__":
    main()
