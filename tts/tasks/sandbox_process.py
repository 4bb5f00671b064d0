"""The two processes of :mod:`tts.tasks.sandbox`, started by path: a program that answers calls, and the tests that make them.

The one file of the suite that executes what models write. It imports nothing of the suite, and nothing imports it. The program never
holds a test or an expected value: it receives arguments and returns values, as JSON, and these are compared in the other process.
"""

import ast
import atexit
import builtins
import ctypes
import hashlib
import json
import math
import os
import resource
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

NOBODY = 65534
NAMESPACES = 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000  # mount cgroup uts ipc user pid net
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 2, 4, 4096, 16384, 1 << 18, 2
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, CAPABILITY_VERSION = 1, 4, 38, 0x20080522
KINDS: dict[str, tuple[Any, Callable]] = {kind.__name__: (kind, kind) for kind in (list, tuple, set, frozenset, deque)}
KINDS |= {"keyset": (KeysView, lambda held: dict.fromkeys(held).keys()), "itemset": (ItemsView, lambda held: dict(held).items())}
KINDS |= {"values": (ValuesView, lambda held: dict(enumerate(held)).values()), "iterator": (Iterator, lambda held: iter([*held]))}
SIMPLE: dict[str, Callable] = {"bytes": bytes.fromhex, "complex": complex, "Decimal": Decimal, "Fraction": Fraction}
SIMPLE |= {"range": lambda held: range(*held)}


class Lost(BaseException):
    """The program's process has ended, or says what is no reply; no test that catches it can go on to pass."""


def isolate(root: str, outside: int, visible: list[str]) -> None:
    """Goes on in namespaces of its own, as nobody, where there are only the ``visible`` folders, read-only, and an empty /tmp.

    ``root`` is an empty folder, ``outside`` the user that it is for the rest of the system; ``OSError`` where that is not allowed. There
    are four processes: the first maps users, the second enters the namespaces, the third is their init, whose end ends all in them, and
    the fourth goes on. Only the fourth runs programs; it sees none but the third, and cannot trace or kill that.
    """
    user, group, ready, mapped = os.getuid(), os.getgid(), os.pipe(), os.pipe()
    if user == 0:
        os.setgroups([])
    if child := os.fork():
        os.close(ready[1])
        if os.read(ready[0], 1):
            _write(f"/proc/{child}/setgroups", "deny")
            for name, own in (("uid", user), ("gid", group)):
                _write(f"/proc/{child}/{name}_map", f"{NOBODY} {own} 1" if user else f"0 0 1\n{NOBODY} {outside} 1")
            os.write(mapped[1], b"m")
        _fork_and_wait(child)
    _call("prctl", PR_SET_PDEATHSIG, 9)
    _call("unshare", NAMESPACES)
    os.write(ready[1], b"r")
    os.close(mapped[1])
    if not os.read(mapped[0], 1):
        raise OSError("the user could not be mapped")
    _fork_and_wait()
    for end in (*ready, mapped[0]):
        os.close(end)
    _write("/proc/sys/user/max_user_namespaces", "0")  # a nested one would have its own mounts, without a bound
    _new_root(root, visible)
    if user == 0:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    _call("capset", (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    _call("prctl", PR_SET_PDEATHSIG, 9)  # after the change of user, which clears it
    _fork_and_wait()


def _new_root(root: str, visible: list[str]) -> None:
    os.umask(0o022)
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,nr_inodes=4096,mode=755")
    read_only = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY | MS_NOSUID | MS_NODEV)
    for path in visible:
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        else:
            os.makedirs(root + path, exist_ok=True)
            _mount(path, root + path, "", MS_BIND | MS_REC)
            _call("syscall", SYS_MOUNT_SETATTR, AT_FDCWD, (root + path).encode(), AT_RECURSIVE, read_only, ctypes.sizeof(read_only))
    os.makedirs(f"{root}/dev", exist_ok=True)
    for path in ("/dev/null", "/dev/zero", "/dev/urandom"):
        _write(root + path, "")
        _mount(path, root + path, "", MS_BIND)
    os.makedirs(f"{root}/tmp", exist_ok=True)
    os.chmod(f"{root}/tmp", 0o1777)
    os.chdir(root)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", MNT_DETACH)
    os.chdir("/tmp")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())


def _call(name: str, *arguments: Any) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _fork_and_wait(child: int = 0) -> None:
    """Goes on in a child, whose end, or that of the one given, is this process's."""
    if child := child or os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)


def limit(seconds: int, memory_mb: int, processes: int, file_mb: int) -> None:
    """Limits of each process from now on, and of how many the user may have; ``processes`` 0 for no bound."""
    bounds = {"AS": memory_mb << 20, "FSIZE": file_mb << 20, "NOFILE": 64, "CORE": 0, "MEMLOCK": 0, "MSGQUEUE": 0}
    for name, bound in (bounds | ({"NPROC": processes} if processes else {})).items():
        if number := getattr(resource, f"RLIMIT_{name}", None):
            resource.setrlimit(number, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


class Lines:
    """Messages, a line of JSON each; none that comes in is longer than ``most`` bytes."""

    def __init__(self, incoming: int, outgoing: int, most: int = 1 << 30):
        self._in, self._out, self._most = open(incoming, "rb", closefd=False), outgoing, most

    def send(self, message: Any) -> None:
        left = json.dumps(message).encode() + b"\n"
        while left:
            left = left[os.write(self._out, left) :]

    def receive(self) -> Any:
        """The next message; raises :class:`Lost` where there is none, or it is too long or no JSON."""
        with suppress(OSError, ValueError, RecursionError, MemoryError):
            if (line := self._in.readline(self._most)).endswith(b"\n"):
                return json.loads(line)
        raise Lost("the program ended, or said what is no reply")


def plain(value: Any, ordered: bool = False) -> Any:
    """A value as JSON: numbers, texts and None as they are, all else as [kind, content]; what has no such form is {"other": its type}.

    Subclasses become what they derive from, so that no method of a program's class takes part in a comparison.
    """
    if value is None or isinstance(value, (str, int, float)):  # bool too; of a subclass JSON takes the plain value
        return value
    for name, (kind, _) in KINDS.items():
        if isinstance(value, kind):
            held = [plain(item, ordered) for item in value]
            return [name, sorted(held, key=json.dumps) if ordered and "set" in name else held]
    if isinstance(value, dict):
        pairs = [[plain(key, ordered), plain(item, ordered)] for key, item in value.items()]
        return ["dict", sorted(pairs, key=json.dumps) if ordered else pairs]
    if isinstance(value, range):
        return ["range", [value.start, value.stop, value.step]]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", value.hex()]
    if isinstance(value, (complex, Decimal, Fraction)):
        return [type(value).__name__, str(value)]
    return plain(value.tolist(), ordered) if type(value).__module__ == "numpy" else {"other": type(value).__name__}


def restored(value: Any) -> Any:
    """What :func:`plain` was given."""
    if isinstance(value, dict):
        return types.SimpleNamespace(of=object())  # equal to nothing
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind in KINDS:
        return KINDS[kind][1](map(restored, content))
    if kind == "dict":
        return {restored(key): restored(item) for key, item in content}
    return SIMPLE[kind](content)


def solve(asked: Lines) -> None:
    """Loads the program of the first message, says whether that went well, and answers calls, or runs it on standard inputs."""
    asked.send("ready")
    job = request = asked.receive()
    while True:
        try:
            reply = {"value": plain(_answer(job, request))}
        except BaseException as error:  # a program may raise anything
            reply = {"error": [type(error).__name__, f"{error!s:.200}"]}
        asked.send(reply)
        request = asked.receive()


def _load(job: dict, name: str) -> None:
    """Executes the program behind the problem's own code: as its continuation where it is indented."""
    sys.modules[name] = module = types.ModuleType(name)
    space, program, before, first = vars(module), job["program"], None, job["entry"].partition("(")[0]
    if program[:1].isspace():
        program = job["prompt"] + program
    else:
        _execute_prompt(job, space)
        before = space.get(first)
    exec(compile(program, name, "exec"), space)
    if first and space.get(first) is before:
        raise NameError(f"the program does not define {first}")


def _execute_prompt(job: dict, space: dict) -> None:
    with suppress(SyntaxError):  # a signature alone
        exec(compile(job["prompt"], "prompt", "exec"), space)


def _answer(job: dict, request: dict) -> Any:
    if request is job:
        return None if job["cases"] else _load(job, "solution")
    if "stdin" in request:
        return _run(job, request["stdin"])
    of, _, method = job["entry"].partition("().")
    entry = vars(sys.modules["solution"])[of]
    value = (getattr(entry(), method) if method else entry)(*restored(request["args"]), **restored(request["kwargs"]))
    return list(value) if method and isinstance(value, tuple) else value  # as LiveCodeBench, whose sequences are lists


def _run(job: dict, given: str) -> str:
    """What the program, as a script, writes to its standard output until all of it has ended; ``RuntimeError`` for an error, no exit."""
    _write("in", given)
    _write("out", "")
    status = 1
    if not (child := os.fork()):
        try:
            os.dup2(os.open("in", os.O_RDONLY), 0)
            os.dup2(os.open("out", os.O_WRONLY), 1)
            os.closerange(3, 64)
            with suppress(SystemExit):
                _load(job | {"entry": ""}, "__main__")
            threading._shutdown()  # type: ignore[attr-defined]  # as the ends of Python and of multiprocessing do
            atexit._run_exitfuncs()
            status = 0
        finally:
            for end in ("stdout.flush", "__stdout__.flush", "modules['__main__'].__dict__.clear"):  # with its names end its open files
                with suppress(BaseException):
                    eval(f"sys.{end}()")
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError
    with open("out", errors="replace") as out:
        return out.read()


class Solution:
    """The program, as tests see it: a function, or a class with one method."""

    def __init__(self, asked: Lines):
        self.asked, self.calls, self.lost, self.unsendable = asked, 0, "", False

    def ask(self, request: Any) -> Any:
        """The value of a reply; raises the program's error, or :class:`Lost`."""
        try:
            if self.lost:
                raise Lost(self.lost)
            self.asked.send(request)
            said = self.asked.receive()
            error, value = said.get("error"), restored(said.get("value"))
        except BaseException as lost:  # also of a reply that is none
            self.lost = str(lost) or type(lost).__name__
            raise Lost(self.lost) from None
        if error:
            kind = getattr(builtins, str(error[0]), None)
            raise kind(error[1]) if isinstance(kind, type) and issubclass(kind, Exception) else Exception(": ".join(map(str, error)))
        return value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        request = {"args": plain(args), "kwargs": plain(kwargs)}
        self.unsendable |= '{"other": ' in json.dumps(request)
        return self.ask(request)

    def __getattr__(self, name: str) -> "Solution":
        return self


def judge(told: Lines, asked: Lines) -> None:
    """Says whether the program passes, why not, and what it gave for each example: the hash of a value, or ``!`` and an error."""
    told.send("ready")
    job, values = told.receive(), list[str]()
    passed, said = None, "the program's process did not start"
    with suppress(Lost):
        if asked.receive() == "ready":
            passed, said = _judged(job, Solution(asked), values)
    told.send([passed, said, values])
    os._exit(0)  # whatever the tests started


def _judged(job: dict, solution: Solution, values: list[str]) -> tuple[bool | None, str]:
    name, _, method = job["entry"].partition("().")
    called = (lambda: solution) if method else solution
    space: dict[str, Any] = {"math": math, name: called}
    passed, said = False, ""
    try:
        solution.ask({key: job[key] for key in ("program", "prompt", "entry")} | {"cases": bool(job["cases"])})
        passed = _examples(job, solution, space, values)
        if job["tests"]:
            _execute_prompt(job, space)  # for helpers that tests may call
            space[name] = called
            exec(compile(job["tests"], "tests", "exec"), space)
            if "check" in space and job["entry"] != "check":
                space["check"](solution)
    except BaseException as error:
        if isinstance(error, NameError) and error.name:  # of the tests: one that the program raised comes without it
            return None, f"the tests use {error.name}, which may be the program's"
        said = f"{type(error).__name__} {error!s:.200}".strip()
    if solution.unsendable:
        return None, "a test passes the program a value that cannot be sent"
    if solution.lost or said:
        return False, solution.lost or said
    if not solution.calls and (job["tests"] or job["examples"]):
        return False, "the tests do not call the program"
    return passed, ""


def _examples(job: dict, solution: Solution, space: dict, values: list[str]) -> bool:
    """Whether the program gives for examples, and writes for standard inputs, what is wanted; adds to ``values`` what it gives."""
    passed = True
    for source, want in [*job["examples"], *job["cases"]]:
        try:
            if job["cases"]:
                value, wanted = (_lines(text) for text in (solution.ask({"stdin": source}), want))
                passed &= len(value) == len(wanted) and all(map(_same_line, value, wanted))
            else:  # an assert has no value
                value = eval(compile(source, "example", "exec" if source.startswith("assert ") else "eval"), space)
                wanted = ast.literal_eval(want) if want else value
                passed &= value == wanted or "()." not in job["entry"] and _close(value, wanted)
            values.append(hashlib.sha256(json.dumps(plain(value, ordered=True)).encode()).hexdigest()[:16])
        except Exception as error:
            values.append(f"!{type(error).__name__}")
            passed = False
    return passed


def _close(*both: Any) -> bool:
    """Whether two numbers, of which one is a float, differ by no more than 1e-6 of the larger: problems show rounded ones."""
    return float in map(type, both) and all(isinstance(one, (int, float)) for one in both) and math.isclose(*both, rel_tol=1e-6)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _same_line(line: str, wanted: str) -> bool:
    """As LiveCodeBench compares: lines are equal texts, or equal numbers between blanks."""
    with suppress(InvalidOperation):
        return line == wanted or [*map(Decimal, line.split())] == [*map(Decimal, wanted.split())]
    return False


def main(role: str, limits: str, isolation: str, *asked: str) -> None:
    if isolation:
        if role == "solve":
            _write("/proc/self/oom_score_adj", "1000")  # the system kills it first
        isolate(**json.loads(isolation))
    limit(**json.loads(limits))
    sys.set_int_max_str_digits(0)
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # which Python's own start adds, and this one leaves out
    ends, nothing = (os.dup(0), os.dup(1)), os.open("/dev/null", os.O_RDWR)
    for end in (0, 1, 2):
        os.dup2(nothing, end)
    os.close(nothing)
    if role == "solve":
        solve(Lines(*ends))
    else:
        judge(Lines(*ends), Lines(int(asked[0]), int(asked[1]), 16 << 20))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, AttributeError) as error:
        raise SystemExit(f"{error}") from None
    except Lost:
        os._exit(0)
