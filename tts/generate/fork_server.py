"""Processes that are forked from one which has imported what they need: each starts in a tenth of a second instead of seconds.

For Linux, where a process that has imported libraries, and started no thread, forks safely. The nursery is asked over a socket: to start
a child, whose standard streams are sent along, or how one ended. Where who asks is gone, the socket ends, and all children with it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

POSSIBLE = sys.platform == "linux"
_LONGEST = 1 << 20  # bytes of an order, which holds an environment
_EVERY = 0.02  # seconds


class Nursery:
    """The process that others are forked from; it ends with this one. For one thread at a time.

    Args:
        modules: that it imports.
        variables: of its environment, beside ours.
    """

    def __init__(self, modules: Sequence[str], variables: Mapping[str, str]):
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"from tts.generate import fork_server; fork_server.serve({theirs.fileno()}, {list(modules)})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=os.environ | variables
        )
        theirs.close()
        self._replied = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, main: str, arguments: Sequence[str] = (), streams: Sequence[int] = (0, 1, 2), **changes: Any) -> Child:
        """A child, once the imports are done.

        Args:
            main: what it runs, ``module:function``.
            arguments: of its command line, the program's name first.
            streams: its standard input, output and error.
            changes: its ``folder``, its whole environment ``variables``, a ``session`` of its own; by default as the nursery's.

        Raises:
            OSError: where the nursery is gone.
        """
        order = {"main": main, "arguments": list(arguments), **changes}
        socket.send_fds(self._channel, [json.dumps(order).encode()], list(streams))
        return Child(self, self._reply())

    def ended(self, pid: int) -> int | None:
        """How a child ended, as of ``subprocess.Popen``; None where it did not."""
        try:
            self._channel.send(json.dumps({"ended": pid}).encode())
            return self._reply()
        except OSError:
            return -signal.SIGKILL  # with the nursery

    def close(self) -> None:
        """Ends it and all children."""
        self._channel.close()
        if not self._replied:
            self._process.kill()  # it may import for seconds yet
        self._process.wait()

    def _reply(self) -> Any:
        reply = self._channel.recv(64)
        if not reply:
            raise ConnectionResetError("the process that others are forked from is gone")
        self._replied = True
        return json.loads(reply)


class Child:
    """A forked process, handled like a ``subprocess.Popen``; its streams are None but for those that its user sets."""

    stdin: IO[str] | None = None
    stdout: IO[str] | None = None
    stderr: IO[str] | None = None

    def __init__(self, nursery: Nursery, pid: int):
        self.nursery, self.pid = nursery, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.nursery.ended(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(_EVERY)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # until it is asked for, its number is not given to another
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def serve(descriptor: int, modules: Sequence[str]) -> None:
    """Imports, then does as the socket says until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those who ask
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is shared stays shared
    channel, children = socket.socket(fileno=descriptor), set()
    try:
        with suppress(ConnectionError):  # who asks may go before the reply
            _do_as_told(channel, children)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def _do_as_told(channel: socket.socket, children: set[int]) -> None:
    while True:
        message, streams, *_ = socket.recv_fds(channel, _LONGEST, 3)
        if not message:
            return
        order = json.loads(message)
        if "main" in order:
            if not (reply := os.fork()):
                channel.close()
                _become(order, streams)
            children.add(reply)
            for stream in streams:
                os.close(stream)
        else:
            reply = _ended(order["ended"], children)
        channel.send(json.dumps(reply).encode())


def _ended(child: int, children: set[int]) -> int | None:
    if child not in children:
        return None
    found, status = os.waitpid(child, os.WNOHANG)
    if not found:
        return None
    children.discard(child)
    return os.waitstatus_to_exitcode(status)


def _become(order: dict, streams: Sequence[int]) -> None:
    """Makes this process what was ordered; does not return."""
    code = 1
    try:
        if order.get("session"):
            os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()  # or all children draw the same; Python's own generator sees to that itself
        for place, stream in enumerate(streams):
            os.dup2(stream, place)
            os.close(stream)
        if "variables" in order:
            os.environ.clear()
            os.environ.update(order["variables"])
        os.chdir(order.get("folder", "."))
        sys.argv = order["arguments"]
        module, _, function = order["main"].partition(":")
        getattr(importlib.import_module(module), function)()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)  # what is left of the nursery in this process must not run
