"""The process that judges pairs of answers for :mod:`tts.tasks.grading`, and what becomes of it: too slow, too large, or lost."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

PATIENCE = 20  # wall time over processor time: on a busy machine a judge may wait for its turn that long
_TRIES = 2  # of a pair whose judge was lost, by whatever takes a process
_LOST, _LATE, _LIMIT = "lost", "late", "limit"


class Stopped(Exception):
    """Nobody wants further verdicts."""


@dataclass(frozen=True)
class Verdict:
    """What a judge found.

    Attributes:
        equal: whether the answers are.
        certain: whether another try would say the same; not where judges were lost or waited for too long.
        hopeless: the side, 0 or 1, that no judge survived, and whose other pairs need not wait for it; None for neither.
    """

    equal: bool
    certain: bool = True
    hopeless: int | None = None


class Judge:
    """One process of :mod:`tts.tasks.judge_process`, started when it is needed and replaced when it is lost.

    Args:
        seconds: of processor time, limit for one pair.
        memory_mb: limit of the process.
        stop: ends a verdict under way when it is set.

    Attributes:
        pid: of the process that judges; 0 for none.
        deaths: how many of them were lost or killed.
    """

    def __init__(self, seconds: float, memory_mb: int, stop: threading.Event):
        self.seconds, self.memory_mb, self.stop = seconds, memory_mb, stop
        self.pid = self.deaths = 0
        self._process: Any = None
        self._unread = b""
        self._number = 0

    def verdict(self, gold: str, answer: str) -> Verdict:
        """Whether two answers are equal.

        Raises:
            Stopped: where ``stop`` was set meanwhile.
            RuntimeError: where no process can be started.
        """
        for _ in range(_TRIES):
            reply, parsed = self._ask(gold, answer)
            if reply in ("true", "false"):
                return Verdict(reply == "true")
            self.deaths += 1
            if reply != _LOST:
                break
        return Verdict(False, reply == _LIMIT, parsed if parsed < 2 else None)

    def close(self) -> None:
        if self._process is not None:
            self._kill()
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, gold: str, answer: str) -> tuple[str, int]:
        """The reply to a pair, and how many of its sides were understood before."""
        if self._process is None:
            self._start()
        # Pairs have numbers, since a judge that replaces one which died between two pairs answers what that one was asked.
        self._number += 1
        deadline, parsed = time.monotonic() + PATIENCE * self.seconds, 0
        try:
            self._process.stdin.write(json.dumps([self._number, gold, answer]).encode() + b"\n")
            self._process.stdin.flush()
            while True:
                word, _, rest = self._line(deadline).partition(" ")
                if word == str(self._number) and rest != "parsed":
                    return rest, parsed
                if word == str(self._number):
                    parsed += 1
                elif word == "ready":
                    self.pid = int(rest)
                elif word in (_LOST, _LIMIT):
                    self.pid = 0  # which may be another process's soon
                    return word, parsed
        except (BrokenPipeError, EOFError):
            self.close()
            return _LOST, parsed
        except TimeoutError:
            self.close()
            return _LATE, parsed
        except BaseException:  # its reply is still to come, and nobody will wait for it
            self.close()
            raise

    def _start(self) -> None:
        command = [sys.executable, "-m", "tts.tasks.judge_process", str(self.memory_mb), str(self.seconds)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._unread, self.pid = b"", 0
        try:
            word, _, pid = self._line(time.monotonic() + 120).partition(" ")
        except (EOFError, TimeoutError):
            word = ""
        except BaseException:
            self.close()
            raise
        if word != "ready":
            self.close()
            raise RuntimeError("the grading process did not start within 120 seconds; is math-verify installed?")
        self.pid = int(pid)

    def _kill(self) -> None:
        if self.pid and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.pid = 0

    def _line(self, deadline: float) -> str:
        """One line from the process; looks every second whether it is still wanted."""
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if self.stop.is_set():
                raise Stopped
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            ready, _, _ = select.select([pipe], [], [], min(left, 1))
            if not ready:
                continue
            piece = os.read(pipe, 4096)
            if not piece:
                raise EOFError
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()
