"""The judge's verdicts, kept in one small database file for everybody who grades answers of a store."""

import hashlib
import sqlite3
import threading
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from tts.tasks.base import Task

# What verdicts depend on beside the task.
_LIBRARIES = " ".join(version(name) for name in ("math-verify", "latex2sympy2-extended", "sympy"))
_ELSEWHERE = {"CANTOPEN", "READONLY", "BUSY", "LOCKED", "FULL", "IOERR", "PERM", "AUTH"}  # errors that are not the file's damage


class Verdicts:
    """Whether an answer (``second``) is right beside a reference (``first``), or the same vote as another; and which chunks are graded.

    A fact is kept as its hash, so a damaged one is a fact that nobody knows, and never another one. Several processes may read and write
    at once. All of it can be worked out again: a damaged file is made anew, and where nothing can be written nothing is kept.
    """

    def __init__(self, path: Path):
        self.path = path
        self.writable = True  # whether what was kept last was written
        self._lock = threading.Lock()  # one connection serves all threads

    def of(self, task: Task, first: str, second: str) -> bool | None:
        """The verdict on a pair; None where none was kept."""
        return next((same for same in (True, False) if self.holds(task, first, second, same)), None)

    def holds(self, task: Task, *fact: object) -> bool:
        """Whether a fact was kept: (first, second, verdict), or (chunk,) where all verdicts on a chunk's answers were kept."""
        return bool(self._run("SELECT 1 FROM facts WHERE hash = ?", _hash(task, *fact)))

    def keep(self, task: Task, *fact: object) -> None:
        self._run("INSERT OR IGNORE INTO facts VALUES (?)", _hash(task, *fact), writes=True)

    def _run(self, statement: str, fact: bytes, writes: bool = False) -> list[tuple]:
        with self._lock:
            for _ in range(2):
                try:
                    found = self._connection.execute(statement, (fact,)).fetchall()
                    self.writable |= writes
                    return found
                except sqlite3.DatabaseError as error:
                    if error.sqlite_errorname.split("_")[1] in _ELSEWHERE:
                        break
                    with suppress(OSError):
                        self._delete()
            self.writable &= not writes
            return []

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        opened = sqlite3.connect(self.path, timeout=20, isolation_level=None, check_same_thread=False)
        try:
            # A file that a crash of the system tears is made anew, so that nobody needs to wait for the disk.
            opened.executescript("PRAGMA synchronous = OFF; CREATE TABLE IF NOT EXISTS facts (hash BLOB PRIMARY KEY) WITHOUT ROWID")
        except sqlite3.Error:
            opened.close()
            raise
        return opened

    def _delete(self) -> None:
        if opened := vars(self).pop("_connection", None):
            opened.close()
        for suffix in ("", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def _hash(task: Task, *fact: object) -> bytes:
    return hashlib.sha256(repr((task.name, task.grading, _LIBRARIES, *fact)).encode("utf-8", "surrogatepass")).digest()
