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
import socket
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
from typing import NamedTuple

from tts.tasks.judge import Stopped

PROCESS = Path(__file__).with_name("sandbox_process.py")
CHOICE = "TTS_SANDBOX"  # environment variable: bubblewrap, namespaces, or none for limits alone
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
    deadline = time.monotonic() + 6 * limits.seconds  # for those that wait, or work in many processes
    with ExitStack() as stack:
        to_program, to_tests = os.pipe(), os.pipe()
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        try:
            for role, ends, told in (
                ("solve", (to_program[0], to_tests[1]), 0),
                ("judge", (to_tests[0], to_program[1]), theirs.fileno()),
            ):
                stack.callback(_kill, process := _start(name, role, limits, ends, told))
        finally:
            theirs.close()
            for end in (*to_program, *to_tests):
                os.close(end)
        if _line(ours, deadline, stop) != _READY:
            return Outcome(None, "the tests' process did not start")
        try:
            ours.settimeout(6 * limits.seconds)
            ours.sendall(json.dumps(job).encode() + b"\n")
            said = json.loads(_line(ours, deadline, stop) or b"{}")
        except (OSError, ValueError):
            said = {}
        if not said and time.monotonic() < deadline:  # too much to compare, unless it was killed from outside, say for want of memory
            lost = process.wait() in _KILLED
            return Outcome(None if lost else False, "the tests' process ended before its verdict")
    if not said:
        return Outcome(False, f"took longer than {6 * limits.seconds} s")
    return Outcome(said["passed"], said["said"], tuple(said["values"]))


def _line(channel: socket.socket, deadline: float, stop: threading.Event | None) -> bytes:
    """The next line, "" where none comes in time; looks every second whether it is still wanted."""
    line = b""
    while time.monotonic() < deadline and not line.endswith(b"\n"):
        if stop and stop.is_set():
            raise Stopped
        channel.settimeout(1)
        try:
            if not (part := channel.recv(1 << 16)):
                break
            line += part
        except TimeoutError:
            continue
        except OSError:
            break
    return line.strip()


@cache
def protection() -> str:
    """The sandbox that works here: bubblewrap, namespaces or none; what protects is said on standard error, once.

    Raises :class:`SandboxError` where none works, unless the environment variable TTS_SANDBOX asks for none.
    """
    chosen, known, refused = os.environ.get(CHOICE, ""), ("bubblewrap", "namespaces"), []
    if chosen not in ("", "none", *known):
        raise SandboxError(f"{CHOICE}={chosen}: unknown; choose {', '.join(known)} or none")
    for name in [one for one in known if chosen in ("", one)]:
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
        process = _start(name, "solve", Limits(), (subprocess.DEVNULL, subprocess.PIPE), 0, subprocess.PIPE)
        try:
            out, error = process.communicate(timeout=60)
        finally:
            _kill(process)
    except (OSError, subprocess.SubprocessError) as failed:
        return str(failed)
    return "" if out.strip() == _READY else (error.decode(errors="replace").strip().splitlines() or ["it ends at once"])[-1]


def _start(name: str, role: str, limits: Limits, ends: tuple[int, int], told: int, errors: int = subprocess.DEVNULL) -> subprocess.Popen:
    """Starts one of the two processes, its standard input and output at ``ends``; ``told`` is the tests' own end to here, else 0."""
    root, script, before, isolation = os.getuid() == 0, str(PROCESS), [], ""
    bounds = asdict(limits) | ({"processes": 0} if name == "none" else {})  # which counts all of a user's
    user = random.choice(TRANSIENT_USERS) if root else os.getuid()
    if name == "bubblewrap":
        before, script = _bubblewrap(), _INSIDE
    elif name == "namespaces":
        isolation = json.dumps({"root": _empty_folder(), "outside": user, "visible": _visible()})
    return subprocess.Popen(
        [*before, sys.executable, "-sSPB", script, role, json.dumps(bounds), str(told), isolation],
        stdin=ends[0],
        stdout=ends[1],
        stderr=errors,
        pass_fds=(told,) if told else (),
        env=_ENVIRONMENT,
        cwd=_empty_folder() if name == "none" else "/",
        process_group=0,
        user=user if before and root else None,
        group=user if before and root else None,
        extra_groups=[] if before and root else None,
    )


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
