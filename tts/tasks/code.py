"""Programs in Python: right where they pass hidden tests in a sandbox, the same vote where they behave alike on public inputs."""

import ast
import base64
import builtins
import json
import pickletools
import re
import textwrap
import tokenize
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from io import StringIO
from itertools import islice
from keyword import iskeyword
from pathlib import Path
from threading import RLock

from tts.tasks import sandbox
from tts.tasks.base import Task
from tts.tasks.judge import Judge
from tts.tasks.problems import read
from tts.tasks.published import Published, half

# Commits as others' code records them; nobody could ask the Hub when this was written.
_SETS = """
humaneval openai/openai_humaneval 7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544 openai_humaneval/test-00000-of-00001.parquet
humaneval+ evalplus/humanevalplus d32357cf319e50e9c8d8dab5ea876c72b0fd321b data/test-00000-of-00001-5973903632b82d40.parquet
mbpp google-research-datasets/mbpp 4bb6404fdc6cacfda99d4ac4205087b89d32030c full/test-00000-of-00001.parquet
mbpp+ evalplus/mbppplus b2d74c91837c3f2a20c1299ae98133cbe7cfa077 data/test-00000-of-00001-d5781c9c51e02795.parquet
livecodebench livecodebench/code_generation_lite 0fe84c3912ea0c4d4a78037083943e8f0c4dd505 test6.jsonl
"""
PUBLISHED = {name: Published(*where) for name, *where in map(str.split, _SETS.strip().splitlines())}
# What LiveCodeBench puts before a program: these modules with all that they hold, of which a later one takes precedence.
_MODULES = "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json".split()
_IMPORTS = "".join(f"from {module} import *\n" for module in [*_MODULES, "builtins", "typing"])
_IMPORTS += f"import {', '.join(_MODULES)}\nsys.setrecursionlimit(50000)\n"

_FENCE = re.compile(
    r"^(?P<margin>[ \t]*+)(?:[^\n`~]|~(?!~~))*+(?P<fence>`{3,}+|~{3,}+)[ \t{.]*+(?P<language>\w*+)[^\n`]*+\n"
    r"(?P<code>.*?)(?:^[ \t]*(?P=fence)|(?P=fence)[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_DEFINES = re.compile(r"^(?:(?:async def|def|class)\s+(?=\w)|(?=\w+ *= *lambda\b))(\w+)", re.MULTILINE)
_READS = re.compile(r"\b(?:input|stdin)\b|\bopen\(0\b")
_PROGRAM = re.compile(r"^(?:def |class |async def |import |from \w|@)", re.MULTILINE)
_WANT = re.compile(r"[\s#]*(?:=+>?|->|➞|→|returns|should return|is|:)\s*(.+)")
_CASE = re.compile(r"^Input:\n```\n(.*?)```\nOutput:\n```\n(.*?)```", re.MULTILINE | re.DOTALL)
_UNREADABLE = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
_PARSER = RLock()  # Python 3.11 raises SystemError where two threads, here graders, parse at once (CPython issue 106905)
_VOTE = "problem and program: "
_METHOD = re.compile(r">>> (Solution\(\)\.\w+)\(")


class Code(Task):
    """An answer is a program; the reference, as JSON, is the hidden tests with what they need of the problem.

    Programs run where solutions are graded, or scored by the rule ``tests:public``. What only reads results, as import, display and export
    do, gets the verdicts that are stored; without one an answer counts as ``judged uncertain``.
    """

    name = "code"
    version = 2  # 1: another block of several was cut into steps
    # 2: another block of several; iterators and views could not be sent; lines of numbers compared as texts
    # 3: answers inside thinking counted
    grading = 4
    sets = tuple(PUBLISHED)
    rules = ("tests:public",)
    instruction = "Solve the problem in Python. Give the whole program in one block that begins with ```python and ends with ```."
    aliases = {"id": "task_id"}
    longest = 100_000
    telling = r"\s*(assert\b|def check\()"

    def has(self, name: str) -> bool:
        return name.partition(":")[0] in PUBLISHED

    def published(self, name: str) -> Sequence[Published]:
        return [PUBLISHED[name]] if name in PUBLISHED else []

    def load(self, name: str, count: int | None, split: str, seed: int) -> tuple[list[dict], str]:
        own, _, copy = name.partition(":")
        return half(own, read(Path(copy) if copy else PUBLISHED[own].fetch(own), self), split), own

    def prepared(self, row: dict, seed: int) -> dict:
        """Takes rows in the form of HumanEval, MBPP or LiveCodeBench too; without these, ``answer`` is tests or a reference."""
        try:
            if "question_content" in row:
                return row | _of_contest(row)
            if "test_list" in row:
                return row | _of_mbpp(row)
            if "test" in row:
                return row | {"problem": row["prompt"], "answer": _reference(row["entry_point"], row["prompt"], row["test"])}
            if (tests := row["answer"]).startswith("{"):
                return row | {"answer": _reference(**json.loads(tests))}
        except (AttributeError, LookupError, TypeError, ValueError, zlib.error) as error:
            told = "expected 'problem' and 'answer' (asserts), or the columns of HumanEval, MBPP or LiveCodeBench"
            raise ValueError(f"{told}; {type(error).__name__}: {error}") from None
        if not (entry := row.get("entry_point") or _called(tests)):
            raise ValueError("the tests are no Python that calls a function; give asserts, as in 'assert add(1, 2) == 3', or 'entry_point'")
        return row | {"answer": _reference(entry, _code(row["problem"]), tests)}

    def check_ready(self) -> None:
        sandbox.protection()

    def step(self, text: str) -> str:
        return re.sub(r"\A(?:[ \t]*\n)+", "", text).rstrip()

    def split(self, text: str) -> tuple[str, ...]:
        """Steps begin at a statement at the program's top level, and after a blank line inside of it; what stands around it joins them."""
        block = _block(text)
        if self.answer(text) is None:
            return super().split(text)
        start, end = block.span("code") if block else (0, len(text))
        lines = text.splitlines(keepends=True)
        first, last = text.count("\n", 0, start) + 1, text.count("\n", 0, end) + 1
        cuts = [number for number in _begins(text[start:end], first) if first < number < last or not block]
        parts = ["".join(lines[a - 1 : b - 1]) for a, b in zip([1, *cuts], [*cuts, len(lines) + 1])]
        return tuple(part for part in map(self.step, parts) if part)

    def answer(self, text: str) -> str | None:
        """The program of the block that counts; without one, the text if it is a program or indented, or the longest one in it."""
        if block := _block(text):
            code = re.sub(f"^{block['margin']}", "", block["code"], flags=re.MULTILINE)
            program = code if _DEFINES.search(code) else textwrap.dedent(code)  # which must not be done to the rest of a function
            return self.normal(program if _DEFINES.search(program) else code)
        if (program := self.normal(text))[:1].isspace():
            return self.normal(re.split(r"\n(?=[^\s#)\]}])", program)[0])  # base models go on after the function
        if _parsed(program) and _foreign(program) is not None:
            return program
        longest, at = "", 0
        for begins in islice(_PROGRAM.finditer(text), 50):  # a line that a model repeats without end is parsed no oftener
            if begins.start() >= at:
                found = _without_prose(text[begins.start() :])
                longest, at = max(longest, found, key=len), begins.start() + len(found)
        return self.normal(longest) or None

    def normal(self, answer: str) -> str:
        return self.step(answer)

    def vote(self, row: Mapping, answer: str, right: bool) -> str:
        return _VOTE + json.dumps([row.get("problem", ""), answer])

    def value(self, answer: str) -> str | None:
        return None if answer.startswith(_VOTE) else answer

    def same(self, a: str, b: str) -> bool | None:
        return a == b or (None if a.startswith(_VOTE) else False)

    def right(self, reference: str, answer: str) -> None:
        return None

    def readable(self, answer: str) -> bool | None:
        return None if answer.startswith(_VOTE) else True

    def verdict(self, judge: Judge, first: str, second: str) -> bool | None:
        """Whether a program passes a reference's tests; of two votes whether they behave alike, and of one twice whether it works."""
        if not judge.programs:
            return None
        if not first.startswith(_VOTE):
            held = json.loads(first)
            hidden = zlib.decompress(base64.b64decode(held.pop("packed"))) if "packed" in held else b"{}"
            return sandbox.run(second, **held, **json.loads(hidden), stop=judge.stop).passed
        one, other = (_behaviour(*json.loads(vote.removeprefix(_VOTE))) for vote in (first, second))
        if one.passed is None or other.passed is None:
            return None
        return bool(one.works or one.passed) if first == second else one.works and one.values == other.values

    def rule(self, name: str, problem: str, text: str) -> float:
        """Whether the program of a solution passes the tests that its problem shows; 1 for one that loads where it shows none."""
        program = self.answer(text)
        return 0.0 if program is None else float(bool(_behaviour(problem, program).passed))


CODE = Code()


@lru_cache(maxsize=1 << 14)
def _behaviour(problem: str, program: str) -> sandbox.Outcome:
    return sandbox.run(program, **_public(problem))


def _block(text: str) -> re.Match | None:
    """The last block of Python that does something and uses nothing which only an earlier one defines, as its tests do; or the last.

    A block that neither defines anything nor reads input, as an example does, counts only where none before it defines anything.
    """
    blocks = [block for block in _FENCE.finditer(text) if block["code"].strip()]
    blocks = [block for block in blocks if re.match("py|$", block["language"], re.IGNORECASE)] or blocks
    counts, known = blocks[-1] if blocks else None, set[str]()
    for block in blocks:
        foreign = _foreign(code := textwrap.dedent(block["code"]))
        if foreign is not None and not foreign & known and (not known or _DEFINES.search(code) or _READS.search(code)):
            counts = block
        known |= {*_DEFINES.findall(code)}
    return counts


def _foreign(program: str) -> set[str] | None:
    """The names that a program uses and does not set; None where it does nothing, as ``[1, 2]``, or is no Python and defines nothing."""
    nodes, own = [*ast.walk(_parsed(program) or ast.Module([], []))], {*_DEFINES.findall(program)}
    if not own and not any(isinstance(node, (ast.Call, ast.Return)) for node in nodes):
        return None
    names = [node for node in nodes if isinstance(node, ast.Name)]
    own |= {node.id for node in names if not isinstance(node.ctx, ast.Load)} | {node.arg for node in nodes if isinstance(node, ast.arg)}
    return {node.id for node in names} - own


def _without_prose(text: str) -> str:
    """The text up to the first line at its margin that is no Python; all of it where an indented line is none."""
    try:
        with _PARSER:
            ast.parse(text)
    except _UNREADABLE as error:
        lines, wrong = text.split("\n"), (getattr(error, "lineno", None) or 0) - 1
        if "".join(lines[wrong : wrong + 1])[:1].strip():
            return _without_prose("\n".join(lines[:wrong]))
    return text


def _begins(program: str, first: int) -> list[int]:
    """Numbers of the lines at which steps of a program begin, its own first line being ``first``; none inside of brackets and texts."""
    found, fresh, blank, decorated = [], True, False, False
    with suppress(tokenize.TokenError, SyntaxError):  # what cannot be read is one step with what stands before it
        for token in tokenize.generate_tokens(StringIO(program).readline):
            if token.type == tokenize.NEWLINE:
                fresh = True
            elif token.type == tokenize.NL:
                blank |= fresh and not token.line.strip()
            elif fresh and token.type not in (tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER):
                goes_on = token.string in ("else", "elif", "except", "finally") or decorated
                if blank or (not token.start[1] and not goes_on):
                    found.append(first + token.start[0] - 1)
                fresh, blank, decorated = False, False, token.string == "@"
    return found[1:]


def _reference(entry: str, prompt: str, tests: str, **more: object) -> str:
    """Hidden tests as JSON; ``ValueError`` where there are none, which any program would pass, or no function can have the entry's name."""
    if not isinstance(tests, str) or not (tests.strip() or any(more.values())):
        raise ValueError(f"there are no tests; give Python that calls the function, given {tests!r:.80}")
    if (entry or not more) and not all(part.isidentifier() and not iskeyword(part) for part in str(entry).split("().")):
        raise ValueError(f"the entry point must be the name of a function; given {entry!r:.80}")
    return json.dumps({"entry": entry, "prompt": prompt, "tests": tests} | more)


def _parsed(text: str, mode: str = "exec") -> ast.AST | None:
    with suppress(*_UNREADABLE), _PARSER:
        return ast.parse(text, mode=mode)
    return None


def _code(text: str) -> str:
    """A problem's text where it is itself the beginning of a program; "" else."""
    return text if any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in getattr(_parsed(text), "body", ())) else ""


def _called(tests: str, defined: str = "") -> str:
    """The function that tests call: the first of those a program defines, or which Python itself has not; "" where there is none."""
    tree, known = _parsed(tests), _DEFINES.findall(defined)
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)] if tree else []
    names = [call.id for call in calls if isinstance(call, ast.Name)]
    return next((name for name in names if (name in known if defined else name not in dir(builtins))), "")


def _of_mbpp(row: dict) -> dict:
    shown = "\n".join([str(row.get("text") or row.get("prompt")), "Your function must pass this test:", *row["test_list"][:1]])
    asserts = "\n".join(row["test_list"])
    tests = row.get("test") or "\n".join([*row.get("test_imports", []), row.get("test_setup_code", ""), asserts])
    if not (entry := _called(asserts, row.get("code", ""))):
        raise ValueError("'test_list' calls no function")
    return {"problem": shown, "answer": _reference(entry, "", tests)}


def _of_contest(row: dict) -> dict:
    """Public tests are shown below the problem; hidden ones stay packed in the reference."""
    public, packed = json.loads(row["public_test_cases"]), row["private_test_cases"]
    try:
        private = json.loads(packed)
    except ValueError:  # base64 of zlib of a pickled text, which is read without being unpickled
        parts = pickletools.genops(zlib.decompress(base64.b64decode(packed)))
        private = json.loads(next(str(held) for opcode, held, _ in parts if "UNICODE" in opcode.name))
    if not isinstance(metadata := json.loads(row.get("metadata") or "{}"), dict):
        raise ValueError(f"'metadata' must be an object as JSON, given {metadata!r:.80}")
    if not (tests := [(one["input"], one["output"]) for one in (*public, *private)]):
        raise ValueError("there are no tests; give some in 'public_test_cases' or 'private_test_cases'")
    name = metadata.get("func_name")
    entry, kind, form = "", "cases", "Input:\n```\n{}\n```\nOutput:\n```\n{}\n```"
    if name:
        entry, kind, form = f"Solution().{name}", "examples", ">>> {}\n{}"
        calls = [", ".join(repr(json.loads(line)) for line in given.splitlines()) for given, _ in tests]
        tests = [(f"{entry}({call})", repr(json.loads(out))) for call, (_, out) in zip(calls, tests)]
    shown = [form.format(given.rstrip(), out.rstrip()) for given, out in tests[: len(public)]]
    hidden = base64.b64encode(zlib.compress(json.dumps({kind: tests}).encode())).decode()
    text = "\n\n".join(filter(None, [row["question_content"], row.get("starter_code"), *shown]))
    return {"id": row["question_id"], "problem": text, "answer": _reference(entry, _IMPORTS, "", packed=hidden)}


@lru_cache(maxsize=1 << 12)
def _public(problem: str) -> dict:
    """What :func:`sandbox.run` needs to know of the tests that a problem shows, of which there may be none."""
    if cases := _CASE.findall(problem):
        return {"entry": "", "prompt": _IMPORTS, "examples": [], "cases": cases}
    prompt, asserts = _code(problem), list(filter(_called, re.findall(r"^assert .+", problem, re.MULTILINE)))
    if prompt:
        entry = _DEFINES.findall(prompt)[-1]
    elif method := _METHOD.search(problem):
        entry, prompt = method[1], _IMPORTS
    else:
        entry = _called("\n".join(asserts))
    examples = list(map(_of_assert, asserts)) or (list(dict.fromkeys(_shown(problem, entry))) if entry else [])
    return {"entry": entry, "prompt": prompt, "examples": examples, "cases": []}


def _of_assert(line: str) -> tuple[str, str]:
    """An assert as an expression and what it gives; as it stands where it compares otherwise."""
    with _PARSER:
        test = ast.parse(line).body[0].test  # type: ignore[attr-defined]
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        if _literal(want := ast.unparse(test.comparators[0])):
            return ast.unparse(test.left), want
    return line, ""


def _shown(problem: str, entry: str) -> list[tuple[str, str]]:
    """Calls of the entry in a problem's text with what they give: behind ``>>>`` on the next line, else behind ``==``, an arrow, a word."""
    found, lines = [], problem.splitlines()
    for line, after in zip(lines, [*lines[1:], ""]):
        call, source = line[line.find(f"{entry}(") :], line.partition(">>>")[2].strip()
        places = (place.end() for place in re.finditer(r"\)", call)) if f"{entry}(" in line else ()
        ends = [end for end in places if _known(call[:end], entry)]
        if ends and _known(source, entry) and _literal(after.strip()):
            found.append((source, after.strip()))
        elif ends and (want := _WANT.match(call[ends[0] :])):
            ways = (want[1], want[1].rstrip(".,; "), want[1].split("  ")[0], want[1].split(" #")[0], want[1].split(" (")[0])
            found += [(call[: ends[0]], way.strip()) for way in ways if _literal(way.strip())][:1]
    return found


def _known(text: str, entry: str) -> bool:
    """Whether a text is an expression of nothing but values, the entry and Python's own functions: ``f(a)`` may stand for ``f("a")``."""
    tree = _parsed(text, "eval")
    own = {*dir(builtins), entry.partition("(")[0]}
    return tree is not None and all(node.id in own for node in ast.walk(tree) if isinstance(node, ast.Name))


def _literal(text: str) -> bool:
    with suppress(*_UNREADABLE), _PARSER:
        ast.literal_eval(text)
        return True
    return False
