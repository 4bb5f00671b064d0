"""What the parts of the campaign share: their counts, and what a refusal has to look like."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Tally:
    """One part's counts.

    Attributes:
        name: of the part.
        counts: what was done and found, by name.
        seconds: it took.
        skipped: what could not be done here, and why.
    """

    name: str
    counts: dict[str, float]
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"## {self.name[0].upper()}{self.name[1:]}", "", *(f"- {name}: {value:,}" for name, value in self.counts.items())]
        return "\n".join([*lines, *(f"- skipped: {reason}" for reason in self.skipped), f"- took {self.seconds:.0f} s", ""])


def tts(*arguments: str, **options) -> subprocess.CompletedProcess:
    """The command line, as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "tts", *arguments], capture_output=True, text=True, timeout=600, **({"cwd": ROOT} | options)
    )


def complaint(done: subprocess.CompletedProcess, *named: str) -> str:
    """A refusal's message: exit code not 0, no traceback, and every one of ``named`` in it.

    Raises:
        AssertionError: where it is not one.
    """
    assert done.returncode not in (0, 130), f"not refused: {done.args}\n{done.stdout}"
    assert "Traceback" not in done.stderr + done.stdout, f"{done.args}\n{done.stderr[-3000:]}"
    flat = "".join(done.stderr.split())
    for name in named:
        assert "".join(name.split()) in flat, f"{name!r} is not in the message of {done.args}:\n{done.stderr[-2000:]}"
    return done.stderr
