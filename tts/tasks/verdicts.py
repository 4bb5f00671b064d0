"""The judge's verdicts, kept in one small database file for everybody who grades answers of a store."""

from __future__ import annotations

import sqlite3
import threading
import zlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

from tts.tasks.base import Task

_LIBRARIES = ("math-verify", "latex2sympy2-extended", "sympy")  # what verdicts depend on beside the task
_ELSEWHERE = {"CANTOPEN", "READONLY", "BUSY", "LOCKED", "FULL", "IOERR", "PERM", "AUTH"}  # errors that are not the file's damage
_TABLES = """
CREATE TABLE IF NOT EXISTS verdicts (task TEXT, version TEXT, first TEXT, second TEXT, same INTEGER, checksum INTEGER,
    PRIMARY KEY (task, version, first, second)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS graded (chunk TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Verdicts:
    """Whether an answer (``second``) is right beside a reference (``first``), or the same vote as another; and which chunks are graded.

    Several processes read and write at the same time. All of it can be worked out again: a damaged file is deleted and made anew, a
    damaged row is left out, and where nothing can be written nothing is kept.

    Args:
        path: the file.

    Attributes:
        writable: whether what was kept last was written.
    """

    def __init__(self, path: Path):
        self.path, self.writable = path, True
        self._lock = threading.Lock()  # one connection serves all threads
        self._open: sqlite3.Connection | None = None

    def of(self, task: Task, first: str) -> dict[str, bool]:
        """The verdicts on a text, by the other text."""
        key = (task.name, _version(task), first)
        rows = self._run("SELECT second, same, checksum FROM verdicts WHERE task = ? AND version = ? AND first = ?", key)
        return {second: bool(same) for second, same, checksum in rows if checksum == _checksum(*key, second, same)}

    def keep(self, task: Task, first: str, second: str, same: bool) -> None:
        row = (task.name, _version(task), first, second, int(same))
        self._run("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?)", (*row, _checksum(*row)), writes=True)

    def is_graded(self, task: Task, chunk: str) -> bool:
        """Whether all verdicts on a chunk's answers were kept."""
        return bool(self._run("SELECT 1 FROM graded WHERE chunk = ?", (f"{task.name} {_version(task)} {chunk}",)))

    def note_graded(self, task: Task, chunk: str) -> None:
        self._run("INSERT OR REPLACE INTO graded VALUES (?)", (f"{task.name} {_version(task)} {chunk}",), writes=True)

    def _run(self, statement: str, values: tuple, writes: bool = False) -> list[tuple]:
        with self._lock:
            for _ in range(2):
                try:
                    found = self._connection().execute(statement, values).fetchall()
                    self.writable |= writes
                    return found
                except sqlite3.DatabaseError as error:
                    if error.sqlite_errorname.split("_")[1] in _ELSEWHERE:
                        break
                    self._delete()
                except (OSError, UnicodeEncodeError):  # half a surrogate pair is no text
                    break
            self.writable &= not writes
            return []

    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            opened = sqlite3.connect(self.path, timeout=20, isolation_level=None, check_same_thread=False)
            opened.text_factory = lambda text: text.decode(errors="replace")  # a damaged text fails its checksum
            try:
                # A file that a crash of the system tears is made anew, so that nobody needs to wait for the disk.
                opened.executescript("PRAGMA synchronous = OFF;" + _TABLES)
            except sqlite3.Error:
                opened.close()
                raise
            self._open = opened
        return self._open

    def _delete(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None
        for suffix in ("", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def _checksum(*row: object) -> int:
    return zlib.crc32(repr(row).encode("utf-8", "surrogatepass"))


@cache
def _libraries() -> str:
    return " ".join(version(name) for name in _LIBRARIES)


def _version(task: Task) -> str:
    return f"{task.version} {_libraries()}"
