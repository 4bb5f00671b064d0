"""The process that judges pairs of answers for :mod:`tts.tasks.grading`, and what becomes of it: too slow, too large, or lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

PATIENCE = 20  # wall time over processor time: on a busy machine a judge may wait for its turn that long
_START = 120.0  # seconds for a process to load math-verify


class Stopped(Exception):
    """Nobody wants further verdicts."""


class Judge:
    """One process of :mod:`tts.tasks.judge_process`, started when it is needed and replaced when it is lost."""

    def __init__(self, seconds: float = 5.0, memory_mb: int = 2048, stop: threading.Event | None = None, programs: bool = False):
        self.seconds, self.memory_mb = seconds, memory_mb  # of the processor, for one pair; for the whole process
        self.stop = stop or threading.Event()  # once set, it ends a verdict under way
        self.programs = programs  # whether models' programs may be run for a verdict, in a sandbox
        self.deaths = 0  # processes that were lost or killed
        self.hopeless: dict[str, bool | None] = {}  # texts that no process survived: the verdict on all their pairs, which need not wait
        self.process: subprocess.Popen | None = None
        self._connection: Connection

    def verdict(self, gold: str, answer: str) -> bool | None:
        """Whether two answers are equal; None where processes were lost or waited for too long, so that another try may tell.

        Raises :class:`Stopped` where ``stop`` was set meanwhile, ``RuntimeError`` where no process can be started.
        """
        for text in (gold, answer):
            if text in self.hopeless:
                return self.hopeless[text]
        for _ in range(2):  # where its judge was lost, by whatever takes a process, a pair has another try
            if self.process is None:
                self._start()
            parsed, certain, deadline = 0, False, time.monotonic() + PATIENCE * self.seconds
            try:
                self._connection.send((gold, answer))
                while (equal := self._receive(deadline)) is None:
                    parsed += 1
                return equal
            except (EOFError, OSError) as error:  # it is late, or has ended: at its own limit, or by whatever takes a process
                self.deaths += 1
                late = deadline - time.monotonic() <= (PATIENCE - 1) * self.seconds  # else the signal came from elsewhere
                if certain := late and error.args == (-signal.SIGPROF,):
                    break
                self.close()  # else the pair may still be in the pipe, and be judged in another's place
                if isinstance(error, TimeoutError):
                    break
            except BaseException:  # its reply is still to come, and nobody will wait for it
                self.close()
                raise
        verdict = False if certain else None
        if parsed < 2:  # the side that is to blame
            self.hopeless[(gold, answer)[parsed]] = verdict
        return verdict

    def close(self) -> None:
        if self.process is not None:
            with self.process, suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self._connection.close()
            self.process = None

    def _start(self, again: bool = True) -> None:
        self._connection, its_end = Pipe()
        command = [sys.executable, "-m", "tts.tasks.judge_process", *map(str, (its_end.fileno(), self.memory_mb, self.seconds))]
        nothing = subprocess.DEVNULL
        with its_end:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=nothing, stderr=nothing, pass_fds=[its_end.fileno()], process_group=0
            )
        try:
            self._receive(time.monotonic() + _START)
        except BaseException as error:
            self.close()
            if not isinstance(error, (EOFError, OSError)):
                raise
            if again and not isinstance(error, TimeoutError):  # lost, by whatever takes a process
                return self._start(again=False)
            raise RuntimeError(f"the grading process did not start within {_START:.0f} seconds; is math-verify installed?") from None

    def _receive(self, deadline: float) -> bool | None:
        """The next message of the process; looks every second whether it is still wanted."""
        while not self.stop.is_set():
            left = deadline - time.monotonic()
            if self._connection.poll(min(1, max(0, left))):
                if isinstance(said := self._connection.recv(), tuple):
                    raise OSError(*said)  # the fork that judged ended with a status
                return said
            if left <= 0:
                raise TimeoutError
        raise Stopped
