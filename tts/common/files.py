"""Writing of files that a crash, a full disk or Ctrl-C must not leave half written: the old file stays until the new one is whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file's path, whose content takes the place of ``path`` at the end of the block; an error leaves ``path`` as it was.

    What a killed writer of the same file left half written is deleted. Raises OSError where the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f"{escape(path.name)}.*.tmp"):
        writer = leftover.name.removesuffix(".tmp").rpartition(".")[2]
        if writer.isdecimal() and not _runs(int(writer)):
            leftover.unlink(missing_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text file as :func:`replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _runs(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        with suppress(PermissionError):  # another user's
            os.kill(pid, 0)
        return True
    except (ProcessLookupError, OverflowError):
        return False
