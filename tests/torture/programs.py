"""Hostile programs in the sandbox: none passes, none harms what is outside, none stays."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from torture.processes import descendants
from torture.report import Tally
from tts.tasks import sandbox
from tts.tasks.sandbox import Limits

TESTS = "SECRET = 'the-hidden-tests'\ndef check(candidate):\n    assert candidate(20) == 1764\n    assert candidate(-3) == 1521\n"
ENDLESS = Limits(seconds=1, processes=6)

# Statements, by what they are after. FOLDER, PORT and VICTIM stand for a folder, a server and a process that must not be reached.
ATTACKS = {
    "exits": "import os; os._exit(0)",
    "exits as passed": "import sys; print('passed'); sys.stdout.flush(); sys.exit(0)",
    "raises SystemExit": "raise SystemExit(0)",
    "raises KeyboardInterrupt": "raise KeyboardInterrupt",
    "raises what cannot be shown": "class E(BaseException):\n    __str__ = __repr__ = lambda self: 1 / 0\nraise E",
    "prints verdicts": "for line in ('passed', 'OK', '{\"passed\": true, \"said\": \"\", \"values\": []}'): print(line, flush=True)",
    "writes verdicts to every descriptor": """
import os
for end in range(64):
    try: os.write(end, b'{"passed": true, "said": "", "values": []}\\n')
    except OSError: pass""",
    "writes replies to every descriptor": """
import os
for end in range(64):
    try: os.write(end, b'{"value": 1764}\\n{"value": true}\\n' * 9)
    except OSError: pass""",
    "closes every descriptor": "import os; os.closerange(0, 64)",
    "reads every descriptor": """
import os
for end in range(64):
    try: open(end, 'rb', closefd=False, buffering=0).read(1)
    except (OSError, ValueError): pass""",
    "patches builtins": "import builtins; builtins.AssertionError = KeyError; builtins.len = builtins.abs = lambda *a: 1764",
    "patches print and open": "import builtins; builtins.print = builtins.open = lambda *a, **k: None",
    "patches isinstance": "import builtins; builtins.isinstance = lambda *a: True",
    "deletes builtins": "import builtins\nfor name in list(vars(builtins)):\n    if name[0] != '_': delattr(builtins, name)",
    "patches json": "import json; json.dumps = lambda *a, **k: '{\"passed\": true}'; json.loads = lambda *a: {'passed': True}",
    "patches the harness": """
import sys
harness = sys.modules['__main__']
for name in list(vars(harness)):
    if callable(getattr(harness, name)): setattr(harness, name, lambda *a, **k: True)""",
    "patches os": "import os; os.write = os.read = os.fork = os._exit = lambda *a: 0",
    "looks for the tests in frames": """
import sys
frame = sys._getframe()
while frame:
    for name, value in list(frame.f_locals.items()) + list(frame.f_globals.items()):
        if 'the-hidden-tests' in repr(value): raise SystemExit(value)
    frame = frame.f_back""",
    "looks for the tests in memory": """
import gc
for held in gc.get_objects():
    if isinstance(held, dict) and callable(held.get('check')): held['check'] = lambda candidate: None""",
    "deletes the tests": """
import sys
for module in list(sys.modules.values()):
    for name in ('check', 'tests', 'judge'): vars(module).pop(name, None)""",
    "looks for the tests on the disk": """
import os
for place, _, names in os.walk('/'):
    if place.startswith(('/usr', '/lib', '/root')): continue
    for name in names:
        if 'the-hidden' in open(os.path.join(place, name), errors='ignore').read(9999): raise SystemExit""",
    "reads its parent's memory": "import os; open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
    "reads the judge's environment": """
import glob; [open(path).read() for path in glob.glob('/proc/*/environ') + glob.glob('/proc/*/cmdline')]""",
    "traces": "import sys; sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)",
    "traces and returns": """
import sys
def trace(frame, event, arg):
    frame.f_locals['passed'] = True
    return trace
sys.settrace(trace)""",
    "traces all threads": "import sys, threading; threading.settrace(print); sys.settrace(lambda *a: 1 / 0)",
    "hooks the end": "import atexit, os; atexit.register(lambda: os._exit(0)); os.register_at_fork(before=lambda: os._exit(0))",
    "hooks exceptions": "import sys; sys.excepthook = sys.unraisablehook = lambda *a: None",
    "hooks imports": "import sys\nclass F:\n    def find_spec(self, *a): raise SystemExit(0)\nsys.meta_path.insert(0, F())",
    "empties the modules": "import sys; sys.modules.clear(); sys.path.clear()",
    "imports the suite": "import tts.tasks.sandbox, tts.tasks.verdicts",
    "audits": "import sys; sys.addaudithook(lambda *a: 1 / 0)",
    "finalisers": "class D:\n    def __del__(self):\n        import os; os._exit(0)\nD(); keep = D(); keep.self = keep",
    "weak finalisers": "import weakref, os\nclass D: pass\nd = D(); weakref.finalize(d, os._exit, 0); del d",
    "warnings as exits": "import warnings, os; warnings.showwarning = lambda *a: os._exit(0); warnings.warn('x')",
    "opens the debugger": "import sys; sys.stdin = open('/dev/zero'); breakpoint()",
    "forks a bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "forks a bomb that ends at once": """
import os
for _ in range(9999):
    try:
        if not os.fork(): os._exit(0)
    except OSError: break""",
    "starts threads without end": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()",
    "starts processes": "import subprocess\nfor _ in range(99): subprocess.Popen(['sleep', '999'], start_new_session=True)",
    "goes on behind": """
import os, time
if not os.fork():
    os.setsid()
    if not os.fork():
        while True: time.sleep(0.1)
    os._exit(0)""",
    "leaves a writer behind": """
import os
if not os.fork():
    while True:
        for end in range(3, 20):
            try: os.write(end, b'{"value": 1764}\\n')
            except OSError: pass""",
    "takes memory": "held = []\nwhile True: held.append(bytearray(1 << 24))",
    "takes memory at once": "held = bytearray(1 << 40)",
    "takes memory in children": """
import os
for _ in range(9):
    if not os.fork(): break
held = []
while True: held.append(bytearray(1 << 24))""",
    "takes memory in a number": "held = 10 ** 10 ** 9",
    "takes memory by mmap": "import mmap\nheld = [mmap.mmap(-1, 1 << 26) for _ in range(999)]\nfor m in held: m.write(bytes(1 << 26))",
    "takes memory by files": """
import os
for number in range(10 ** 6):
    with open(f'/tmp/{number}', 'wb') as file: file.write(bytes(1 << 21))""",
    "takes memory by memory files": """
import os
for number in range(99):
    end = os.memfd_create('x')
    while os.write(end, bytes(1 << 20)): pass""",
    "makes files without end": "number = 0\nwhile True:\n    open(f'/tmp/x{number}', 'w').close(); number += 1",
    "makes folders without end": "import os\nwhile True: os.mkdir('x'); os.chdir('x')",
    "makes a large file": "with open('/tmp/large', 'wb') as file:\n    while True: file.write(bytes(1 << 20))",
    "makes a file with a hole": "with open('/tmp/hole', 'wb') as file: file.truncate(1 << 50)",
    "prints without end": "while True: print('x' * 10 ** 6)",
    "writes errors without end": "import sys\nwhile True: sys.stderr.write('x' * 10 ** 6)",
    "replies without end": """
import os
while True:
    for end in range(3, 9):
        try: os.write(end, b'x' * 65536)
        except OSError: pass""",
    "loops": "while True: pass",
    "sleeps": "import time; time.sleep(10 ** 6)",
    "waits for input": "import sys; sys.stdin.read(); input()",
    "waits for a lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "recurses": "import sys; sys.setrecursionlimit(10 ** 9)\ndef r(): return r() + 1\nr()",
    "recurses in a text": "exec('[' * 10 ** 5 + ']' * 10 ** 5)",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "crashes by code": "import types\nf2 = (lambda: 0).__code__\nexec(f2.replace(co_code=bytes([100, 255] * 99), co_stacksize=0))",
    "ignores signals": """
import signal
for s in range(1, 65):
    try: signal.signal(s, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass""",
    "catches the limit": "import signal; signal.signal(signal.SIGXCPU, lambda *a: None)\nwhile True: pass",
    "raises its limits": """
import resource
for name in ('CPU', 'AS', 'NPROC', 'FSIZE', 'NOFILE'):
    try: resource.setrlimit(getattr(resource, f'RLIMIT_{name}'), (resource.RLIM_INFINITY,) * 2)
    except (ValueError, OSError): pass
held = []
while True: held.append(bytearray(1 << 24))""",
    "kills all": "import os; os.kill(-1, 9)",
    "kills its parent": "import os; os.kill(os.getppid(), 9)",
    "kills its group": "import os; os.killpg(0, 15); os.killpg(os.getpgid(0), 9)",
    "stops its parent": "import os, signal; os.kill(os.getppid(), signal.SIGSTOP); os.kill(1, signal.SIGSTOP)",
    "kills init": "import os, signal\nfor s in (9, 15, 2, 1): os.kill(1, s)",
    "kills the victim": "import os; os.kill(VICTIM, 9)",
    "kills by every number": """
import os
for pid in range(2, 99999):
    if pid != os.getpid():
        try: os.kill(pid, 9)
        except OSError: pass""",
    "traces its parent": "import ctypes, os; ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0); ctypes.CDLL(None).ptrace(16, VICTIM, 0, 0)",
    "changes its user": "import os\nfor f in (os.setuid, os.setgid):\n    try: f(0)\n    except OSError: pass\nopen('FOLDER/made', 'w')",
    "becomes root by a program": "import subprocess; subprocess.run(['su', '-c', 'touch FOLDER/made'], timeout=5)",
    "enters a user namespace": """
import ctypes, os
libc = ctypes.CDLL(None)
if libc.unshare(0x10020000) == 0:
    libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, b'size=99g')
    open('FOLDER/made', 'w')""",
    "mounts": "import ctypes; ctypes.CDLL(None).mount(b'/', b'/tmp', b'', 4096 | 16384, b''); ctypes.CDLL(None).umount2(b'/', 2)",
    "leaves its root": """
import os; os.mkdir('/tmp/a'); os.chroot('/tmp/a'); os.chdir('../../../..'); os.chroot('.'); open('FOLDER/made', 'w')""",
    "makes a file outside": "open('FOLDER/made', 'w').write('x')",
    "changes a file outside": "open('FOLDER/canary', 'a').write('x')",
    "removes a folder outside": "import shutil; shutil.rmtree('FOLDER')",
    "removes everything": "import shutil; shutil.rmtree('/', ignore_errors=True)",
    "changes Python": "import os; path = os.__file__; os.chmod(path, 0o777); open(path, 'a').write('x')",
    "links to the outside": "import os; os.symlink('FOLDER/canary', '/tmp/link'); open('/tmp/link', 'a').write('x')",
    "replaces its folder by a link": "import os; os.chdir('/'); os.rmdir('/tmp'); os.symlink('FOLDER', '/tmp')",
    "makes a device": "import os, stat; os.mknod('/tmp/disk', 0o666 | stat.S_IFBLK, os.makedev(8, 0)); open('/tmp/disk', 'rb').read(1)",
    "reads passwords": "open('/etc/shadow').read(); open('/etc/passwd').read()",
    "connects": "import socket; socket.create_connection(('127.0.0.1', PORT), 2).sendall(b'x')",
    "connects to the world": "import socket; socket.create_connection(('1.1.1.1', 53), 2)",
    "sends packets": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "fetches": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:PORT/', timeout=2)",
    "connects by a name": "import socket; socket.socket(socket.AF_UNIX).connect('\\0tts-victim-VICTIM')",
    "opens raw sockets": """
import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW); socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)""",
    "runs a shell": "import os; os.system('touch FOLDER/made; kill -9 VICTIM; rm -rf FOLDER')",
    "is replaced": "import os; os.execv('/bin/sh', ['sh', '-c', 'echo passed; exit 0'])",
    "unpickles": "import pickle; pickle.loads(b\"cos\\nsystem\\n(S'touch FOLDER/made'\\ntR.\")",
    "speaks to the terminal": """
import fcntl, termios
for end in range(9):
    try: fcntl.ioctl(end, termios.TIOCSTI, b'x')
    except OSError: pass""",
}  # fmt: skip
# What the function gives in the place of an answer.
VALUES = {
    "equal to all": "type('E', (), {'__eq__': lambda s, o: True, '__ne__': lambda s, o: False, '__hash__': lambda s: 0})()",
    "a number equal to all": "type('N', (int,), {'__eq__': lambda s, o: True, '__ne__': lambda s, o: False, '__hash__': None})(1)",
    "a number that converts": "type('N', (int,), {'__int__': lambda s: 1764 if x == 0 else 1, '__index__': lambda s: 1})(1)",
    "a text equal to all": "type('S', (str,), {'__eq__': lambda s, o: True, '__hash__': str.__hash__})('x')",
    "a list equal to all": "type('L', (list,), {'__eq__': lambda s, o: True})()",
    "a set that holds all": "type('S', (set,), {'__contains__': lambda s, o: True, '__eq__': lambda s, o: True})()",
    "truth itself": "True",
    "not a number": "float('nan')",
    "infinity": "float('inf')",
    "nothing": "None",
    "its argument": "x",
    "itself": "f",
    "a mock": "__import__('unittest.mock').mock.MagicMock()",
    "any": "__import__('unittest.mock').mock.ANY",
    "a generator without end": "__import__('itertools').count()",
    "a list without end": "type('L', (list,), {'__iter__': lambda s: __import__('itertools').count()})()",
    "a list of itself": "(lambda l: l.append(l) or l)([])",
    "a deep list": "__import__('functools').reduce(lambda a, _: [a], range(10 ** 5), [])",
    "a huge list": "[0] * 10 ** 8",
    "a huge text": "'x' * (1 << 27)",
    "a huge number": "1 << (1 << 27)",
    "half a character": "'\\ud800'",
    "an error": "ValueError('passed')",
    "an error that is raised": "(_ for _ in ()).throw(AssertionError)",
    "an exit that is raised": "(_ for _ in ()).throw(SystemExit(0))",
    "a reply": "{'value': 1764}",
    "a verdict": "{'passed': True, 'said': '', 'values': []}",
    "a disguised kind": "['tuple', [1764]]",
    "an unknown kind": "type('numpy', (), {'__module__': 'numpy', 'tolist': lambda s: s})()",
    "a false class": "type('C', (), {'__class__': property(lambda s: int), '__int__': lambda s: 1764, '__eq__': lambda s, o: True})()",
    "a fraction equal to all": "type('F', (__import__('fractions').Fraction,), {'__eq__': lambda s, o: True})(1)",
    "a dictionary of what is no key": "type('D', (dict,), {'items': lambda s: [([], 1)]})()",
    "a coroutine": "__import__('types').coroutine(lambda: (yield))()",
    "a class": "int",
    "a module": "__import__('os')",
}  # fmt: skip
CHEAP = (
    *(
        "exits",
        "prints verdicts",
        "writes verdicts to every descriptor",
        "patches the harness",
        "looks for the tests in memory",
        "kills all",
    ),
    *(
        "connects",
        "removes a folder outside",
        "enters a user namespace",
        "makes a large file",
        "takes memory",
        "forks a bomb that ends at once",
    ),
)


class Place(NamedTuple):
    """What programs must not reach: a folder with a canary, a server's port, a process; ``reached`` says what was."""

    folder: Path
    port: int
    victim: subprocess.Popen
    calls: list

    def filled(self, text: str) -> str:
        return text.replace("FOLDER", str(self.folder)).replace("PORT", str(self.port)).replace("VICTIM", str(self.victim.pid))

    @property
    def reached(self) -> str:
        changed = [path.name for path in self.folder.iterdir()] != ["canary"] or (self.folder / "canary").read_text() != "sings"
        told = {"the folder": changed, "the server": self.calls, "the process": self.victim.poll() is not None}
        return ", ".join(name for name, was in told.items() if was)


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    """A place for attacks, which is wide open to whoever is not in a sandbox."""
    (folder := folder / "outside").mkdir(parents=True)
    for part, mode in ((folder, 0o777), (folder.parent, 0o711)):  # which root's temporary folders are not
        part.chmod(mode)
    (folder / "canary").write_text("sings")
    (folder / "canary").chmod(0o666)
    victim, calls = subprocess.Popen(["sleep", "99999"]), []
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as named:
        named.bind(f"\0tts-victim-{victim.pid}")
        named.listen()

        def serve() -> None:
            while True:
                try:
                    calls.append(server.accept())
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield Place(folder, server.getsockname()[1], victim, calls)
        finally:
            victim.kill()
            victim.wait()
            server.shutdown(socket.SHUT_RDWR)


def programs() -> dict[str, str]:
    """Every attack while the program is loaded, in the call, and behind it in a thread and at the end; every value; by name."""
    found = {}
    for name, attack in ATTACKS.items():
        attack = attack.strip()
        inside = textwrap.indent(attack, "    ")
        found[f"{name}, on loading"] = f"{attack}\ndef f(x):\n    return 0\n"
        found[f"{name}, in the call"] = f"def f(x):\n{inside}\n    return 0\n"
        behind = "threading.Thread(target=attack, daemon=True).start()\natexit.register(attack)"
        found[f"{name}, behind it"] = f"import atexit, threading\ndef attack():\n{inside}\n{behind}\ndef f(x):\n    return 0\n"
    return found | {f"gives {name}": f"def f(x):\n    return {value}\n" for name, value in VALUES.items()}


def judged(where: Place, program: str, limits: Limits = ENDLESS) -> tuple[sandbox.Outcome, float]:
    """What becomes of a program, and the seconds it took; ``AssertionError`` where it passed, reached something, or left a process."""
    before, started = set(descendants(os.getpid())), time.monotonic()
    outcome = sandbox.run(where.filled(program), "f", tests=TESTS, limits=limits)
    took = time.monotonic() - started
    assert outcome.passed is False, f"passed is {outcome.passed}: {outcome.said}\n{program}"
    assert not where.reached, f"it reached {where.reached}\n{program}"
    deadline = time.monotonic() + 10
    while (left := set(descendants(os.getpid())) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, f"processes stayed: {left}\n{program}"
    return outcome, took


def campaign(folder: Path, seed: int) -> Tally:
    """Runs all of :func:`programs`, in an order of chance, then a right program, which must still pass: in each sandbox that works here."""
    started, every = time.monotonic(), list(programs().items())
    random.Random(seed).shuffle(every)
    python = hashlib.sha256(Path(os.__file__).read_bytes()).digest()
    slowest, ended, counts = 0.0, 0, {"attacks": len(ATTACKS) + len(VALUES)}
    failures = {name: sandbox._failure(name) for name in sandbox.KNOWN}
    for kind in (name for name, reason in failures.items() if not reason):
        os.environ[sandbox.CHOICE] = kind
        sandbox.protection.cache_clear()
        with place(folder / kind) as where:
            for name, program in every:
                outcome, took = judged(where, program)
                slowest, ended = max(slowest, took), ended + (took >= 6 * ENDLESS.seconds)
                assert hashlib.sha256(Path(os.__file__).read_bytes()).digest() == python, f"{name}: Python itself was changed"
            assert sandbox.run("def f(x):\n    return (x + 22) ** 2 if x > 0 else 1521\n", "f", tests=TESTS).passed
        counts |= {f"programs in {kind}": len(every)}
    assert len(counts) > 1, failures
    counts |= {"that passed": 0, "that reached anything outside": 0}
    counts |= {"ended by the limit of waiting": ended, "slowest (s)": round(slowest, 1)}
    os.environ.pop(sandbox.CHOICE)
    sandbox.protection.cache_clear()
    skipped = [f"{name}: {reason}" for name, reason in failures.items() if reason]
    return Tally("hostile programs", counts, time.monotonic() - started, skipped)
