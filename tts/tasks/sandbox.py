"""Programs that models wrote, run with tests where they can harm nothing: no network, no files, few processes, little time and memory.

The program runs in one sandbox and its tests in another, which hold a pipe to each other. The program's side receives arguments and
returns values; tests, expected values and verdict are never in its memory, so whatever it patches, prints, traces or returns, it passes
only by giving the right values. :mod:`tts.tasks.sandbox_process` is what runs inside; ``docs/code.md`` says what protects.
"""

import atexit
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tts.tasks.judge import Stopped

PROCESS = Path(__file__).with_name("sandbox_process.py")
CHOICE = "TTS_SANDBOX"  # environment variable: bubblewrap, namespaces, or none for limits alone
KNOWN = ("bubblewrap", "namespaces")  # sandboxes, the first that works is used
TRANSIENT_USERS = range(61184, 65520)  # which no person has: what root's programs run as, each as another
# Packages by their folder, without the .pth files and hooks that starting Python would read otherwise.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
_ENVIRONMENT |= {"PYTHONPATH": sysconfig.get_path("purelib")}
_KILLED = (-signal.SIGKILL, 256 - signal.SIGKILL, 128 + signal.SIGKILL)  # exit codes of itself, of namespaces, of bubblewrap
_READY, _INSIDE, _ASKING = b'"ready"', "/sandbox_process.py", threading.Lock()


class SandboxError(RuntimeError):
    """Programs cannot be run here; the message says why and what to do."""


@dataclass(frozen=True)
class Limits:
    """Of one program with its tests: seconds of the processor and MiB of memory of a process, number of processes, MiB of a file."""

    seconds: int = 10
    memory_mb: int = 512
    processes: int = 6
    file_mb: int = 4


class Outcome(NamedTuple):
    """What became of a program."""

    passed: bool | None  # None where no process could tell
    said: str  # why it did not pass
    values: tuple[str, ...] = ()  # what it gave for each example: a hash of the value, or "!" and the error's name

    @property
    def works(self) -> bool:
        return any(not value.startswith("!") for value in self.values)


def run(
    program: str,
    entry: str,
    prompt: str = "",  # the problem's own code, which stands before the program
    tests: str = "",  # asserts that call the entry, or a function ``check`` that is given it
    examples: Sequence[tuple[str, str]] = (),  # expressions and what they give, as literals
    cases: Sequence[tuple[str, str]] = (),  # standard inputs and outputs of the program as a script, in the place of calls
    limits: Limits = Limits(),
    stop: threading.Event | None = None,
) -> Outcome:
    """Runs a program with tests; raises :class:`SandboxError` without a sandbox, :class:`tts.tasks.judge.Stopped` where ``stop`` is set."""
    job = {"program": program, "entry": entry, "prompt": prompt, "tests": tests, "examples": list(examples), "cases": list(cases)}
    with _ASKING:
        name = protection()
    patience, ends = 6 * limits.seconds, [*os.pipe(), *os.pipe()]  # which is for those that wait, or work in many processes
    with ExitStack() as stack:
        try:
            stack.callback(_kill, _start(name, "solve", limits, ends[0], ends[3]))
            stack.callback(_kill, judge := _start(name, "judge", limits, subprocess.PIPE, subprocess.PIPE, (ends[2], ends[1])))
        finally:
            for end in ends:
                os.close(end)
        said = _communicated(judge, json.dumps(job).encode() + b"\n", time.monotonic() + patience, stop)
        ended = judge.returncode
    ready, _, verdict = said.partition(b"\n")
    if ready != _READY:
        return Outcome(None, "the tests' process did not start")
    if verdict.endswith(b"\n"):
        passed, reason, values = json.loads(verdict)
        return Outcome(passed, reason, tuple(values))
    if ended is None:
        return Outcome(False, f"took longer than {patience} s")
    # Too much to compare, unless it was killed from outside, say for want of memory.
    return Outcome(None if ended in _KILLED else False, "the tests' process ended before its verdict")


def _communicated(process: subprocess.Popen, given: bytes | None, deadline: float, stop: threading.Event | None) -> bytes:
    """What a process says until it ends or is late; looks every second whether it is still wanted."""
    while True:
        if stop and stop.is_set():
            raise Stopped
        try:
            return process.communicate(given, timeout=max(0, min(1, deadline - time.monotonic())))[0]
        except subprocess.TimeoutExpired as waiting:
            given = None
            if time.monotonic() >= deadline:
                return waiting.output or b""


@cache
def protection() -> str:
    """The sandbox that works here: bubblewrap, namespaces or none; what protects is said on standard error, once.

    Raises :class:`SandboxError` where none works, unless the environment variable TTS_SANDBOX asks for none.
    """
    chosen, refused = os.environ.get(CHOICE, ""), []
    if chosen not in ("", "none", *KNOWN):
        raise SandboxError(f"{CHOICE}={chosen}: unknown; choose {', '.join(KNOWN)} or none")
    for name in [one for one in KNOWN if chosen in ("", one)]:
        if not (reason := _failure(name)):
            told = "no network, no files but Python's, their own /tmp; time, memory, processes and sizes are limited"
            print(f"programs run in a sandbox of {name}: {told}", file=sys.stderr)
            return name
        refused.append(f"{name}: {reason}")
    if chosen != "none":
        told = f"install bubblewrap, or set {CHOICE}=none to run models' programs with limits of time, memory and sizes alone"
        raise SandboxError(f"no sandbox for programs works here ({'; '.join(refused)}); {told}")
    print(f"programs run WITHOUT a sandbox ({CHOICE}=none): only time, memory and sizes are limited", file=sys.stderr)
    return "none"


def _failure(name: str) -> str:
    """Why a sandbox does not work; "" where it does."""
    try:
        process = _start(name, "solve", Limits(), subprocess.DEVNULL, subprocess.PIPE, errors=subprocess.PIPE)
        try:
            out, error = process.communicate(timeout=60)
        finally:
            _kill(process)
    except (OSError, subprocess.SubprocessError) as failed:
        return str(failed)
    return "" if out.strip() == _READY else (error.decode(errors="replace").strip().splitlines() or ["it ends at once"])[-1]


def _start(
    name: str, role: str, limits: Limits, stdin: int, stdout: int, asked: tuple[int, ...] = (), errors: int = subprocess.DEVNULL
) -> subprocess.Popen:
    """Starts one of the two processes; ``asked`` are the ends of the tests' pipes to the program."""
    root, script, before, isolation = os.getuid() == 0, str(PROCESS), [], ""
    bounds = asdict(limits) | ({"processes": 0} if name == "none" else {})  # which counts all of a user's
    user = random.choice(TRANSIENT_USERS) if root else os.getuid()
    if name == "bubblewrap":
        before, script = _bubblewrap(), _INSIDE
    elif name == "namespaces":
        isolation = json.dumps({"root": _empty_folder(), "outside": user, "visible": _visible()})
    who: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if before and root else {}
    command = [*before, sys.executable, "-sSPB", script, role, json.dumps(bounds), isolation, *map(str, asked)]
    folder = _empty_folder() if name == "none" else "/"
    ends: dict[str, Any] = {"stdin": stdin, "stdout": stdout, "stderr": errors, "pass_fds": asked}
    return subprocess.Popen(command, env=_ENVIRONMENT, cwd=folder, process_group=0, **ends, **who)


def _bubblewrap() -> list[str]:
    made = [str(shutil.which("bwrap")), "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--cap-drop", "ALL"]
    made += ["--uid", "65534", "--gid", "65534", "--size", str(64 << 20), "--tmpfs", "/tmp", "--ro-bind", str(PROCESS), _INSIDE]
    for path in _visible():
        made += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind", path, path]
    for name in ("null", "zero", "urandom"):
        made += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    return [*made, "--remount-ro", "/", "--chdir", "/tmp", "--"]


def _visible() -> list[str]:
    """Folders, and links to them, that Python needs."""
    own = [place for prefix in (sys.base_prefix, sys.prefix) for place in (prefix, os.path.realpath(prefix))]
    return [path for path in dict.fromkeys(["/usr", "/bin", "/lib", "/lib64", *own]) if os.path.exists(path) and path[:5] != "/usr/"]


@cache
def _empty_folder() -> str:
    """The place of the new root, one for all: each sandbox has its own mount there."""
    folder = tempfile.mkdtemp(prefix="tts-sandbox-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _kill(process: subprocess.Popen) -> None:
    """Ends a sandbox with all that it started: its init dies with it, and with that all in its namespace of processes."""
    with process, suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
