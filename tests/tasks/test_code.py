"""Programs: taken from answers, cut into steps, run in the sandbox, graded and voted on; problem files in every form."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import signal
import struct
import textwrap
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torture.processes import descendants
from typer.testing import CliRunner

from tts.analysis import stats
from tts.analysis.grades import Judges, of_row
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.policies.base import Told, child_of
from tts.search.base import Candidate
from tts.store.run_spec import Model, RunEngine, RunSpec, TaskKey
from tts.store.store import Store
from tts.study.cli import app
from tts.tasks import code, sandbox, task_of
from tts.tasks.code import CODE
from tts.tasks.grading import Grader
from tts.tasks.judge import Judge, Stopped
from tts.tasks.problems import ProblemError, problem_rows
from tts.tasks.published import absent
from tts.tasks.sandbox import Limits, Outcome, run
from tts.tasks.verdicts import Verdicts

ROOT = Path(__file__).resolve().parents[2]
PROMPT = '''from typing import List


def larger(numbers: List[int], bound: int) -> List[int]:
    """ The numbers above a bound.
    >>> larger([1, 5, 3], 2)
    [5, 3]
    >>> larger([], 0)
    []
    """
'''
TESTS = "def check(candidate):\n    assert candidate([1, 5, 3], 2) == [5, 3]\n    assert candidate([4, 4], 4) == []\n"
ROW = {"task_id": "Own/0", "prompt": PROMPT, "entry_point": "larger", "test": TESTS}
RIGHT = "def larger(numbers, bound):\n    return [n for n in numbers if n > bound]"
SAME_IN_PUBLIC = "def larger(numbers, bound):\n    return [n for n in numbers if n >= bound]"  # wrong by a hidden test
REVERSED = "def larger(numbers, bound):\n    return [n for n in numbers[::-1] if n > bound]"
BODY = "    return [n for n in numbers if n > bound]"
SCRIPT = "n = int(input())\nprint(n + 1)"
USES = "```python\nfrom solution import larger\nprint(larger([1], 0))\n```"
TESTED = "```python\ndef test_larger():\n    assert larger([1], 0) == [1]\n\ntest_larger()\n```"


@pytest.fixture(scope="module", autouse=True)
def protected():
    try:
        return sandbox.protection()
    except sandbox.SandboxError as reason:
        pytest.skip(str(reason))


def file(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def problem(tmp_path):
    return problem_rows(f"code:{file(tmp_path / 'own.jsonl', ROW)}")[0]


# -- the sandbox -------------------------------------------------------------------------------------------------


def test_a_program_passes_by_the_values_it_gives():
    assert run("def f(x):\n    return x + 1", "f", tests="assert f(1) == 2") == Outcome(True, "")
    wrong = run("def f(x):\n    print('passed')\n    return x", "f", tests="assert f(1) == 2, 'one more'")
    assert wrong == Outcome(False, "AssertionError one more")
    assert run("def f(x):\n    return 1 / x", "f", tests="assert f(0) == 0").said == "ZeroDivisionError division by zero"
    handled = "try:\n    f(0)\nexcept ZeroDivisionError:\n    pass\nelse:\n    assert False"
    assert run("def f(x):\n    return 1 / x", "f", tests=handled).passed
    assert run("def f(x):\n    import os; os._exit(0)", "f", tests="try:\n    f(0)\nexcept BaseException:\n    pass").passed is False


@pytest.mark.parametrize(
    ("gives", "wanted", "passed"),
    [
        ("1000000000", "1000000007", False),
        ("1000000007", "1000000007", True),
        ("0.3000001", "0.3", True),  # a third of a millionth
        ("0.300001", "0.3", False),  # more than three
        ("3.0", "3", True),
        ("3.000001", "3", True),
    ],
)
def test_only_a_float_may_differ_a_little(gives, wanted, passed):
    assert run(f"def f():\n    return {gives}", "f", examples=[("f()", wanted)]).passed is passed


def test_values_arrive_as_they_were_sent():
    values = "None, True, -1, 10 ** 5000, 0.1, float('inf'), 'ä\\n\\ud800', b'\\x00', 1j, [1, (2,)], {3, 4}, frozenset('a'), {(1,): [2]}"
    kinds = "assert f(*given) == given and [type(v) for v in f(*given)] == [type(v) for v in given]"
    assert run("def f(*x):\n    return x", "f", tests=f"given = ({values})\n{kinds}") == Outcome(True, "")
    numbers = (
        "from decimal import Decimal as D\nfrom fractions import Fraction as F\nassert f(F(1, 3)) == F(1, 3) and f(D('1.10')) == D('1.1')"
    )
    assert run("def f(x):\n    return x", "f", tests=numbers).passed
    assert run("import collections\ndef f(x):\n    return collections.Counter(x).keys()", "f", tests="assert f('aab') == {'a', 'b'}").passed
    assert run("def f(x, *, y=1):\n    return x - y", "f", tests="assert f(5, y=3) == 2 and f(x=5) == 4").passed


def test_what_cannot_be_sent_is_doubted_and_tests_that_call_nothing_are_not_passed():
    function = run("def f(g):\n    return g(1)", "f", tests="assert f(lambda x: x) == 1")
    assert function == Outcome(None, "a test passes the program a value that cannot be sent")
    assert run("def f(x):\n    return x", "f", tests="pass") == Outcome(False, "the tests do not call the program")
    named = """assert f(["other", 1]) == ["other", 1] and f('{"other": 1}') == '{"other": 1}' and f({"other": 1}) == {"other": 1}"""
    assert run("def f(x):\n    return x", "f", tests=named) == Outcome(True, ""), "a text is no mark of what cannot be sent"
    assert run("def f():\n    return [f]", "f", tests="assert f() != f()").passed, "what cannot be sent back equals nothing"


@pytest.mark.slow
def test_a_program_is_limited():
    few = Limits(seconds=1, memory_mb=256, processes=4, file_mb=1)
    assert "MemoryError" in run("def f():\n    return len(bytearray(1 << 29))", "f", tests="assert f() > 0", limits=few).said
    assert run("def f():\n    while True: pass", "f", tests="assert f() is None", limits=few).passed is False
    large = "def f():\n    open('x', 'wb').write(bytes(1 << 21))\n    return 1"
    assert "File too large" in run(large, "f", tests="assert f() == 1", limits=few).said
    assert run(large, "f", tests="assert f() == 1", limits=replace(few, file_mb=4)).passed


def test_nothing_of_this_process_is_inherited(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    (tmp_path / "seen").write_text("x")
    look = """
import os
def f(path):
    return 'TOKEN' in os.environ, os.path.exists(path), os.path.exists('/etc/passwd'), sum(map(is_open, range(64))), os.getuid()
def is_open(end):
    try: return bool(os.fstat(end))
    except OSError: return False"""
    with open(tmp_path / "seen") as held:
        os.set_inheritable(held.fileno(), True)
        seen = f"f({str(tmp_path / 'seen')!r})"
        assert run(look, "f", tests=f"assert {seen} == (False, False, False, 5, 65534), {seen}") == Outcome(True, "")


def test_standard_input_and_output():
    added = "a, b = map(int, input().split())\nprint(a + b)"
    assert run(added, "", cases=[("1 2\n", "3\n"), ("4 5", " 9 ")]).passed
    assert not run(added, "", cases=[("1 2\n", "4")]).passed and not run(f"{added}\n1 / 0", "", cases=[("1 2\n", "3")]).passed
    assert run("import sys\nif __name__ == '__main__':\n    print(sys.stdin.read()[::-1])\n    exit()", "", cases=[("ab", "ba")]).passed


@pytest.mark.parametrize(
    ("given", "wanted", "passed"),
    [
        ("4.0", "4", True),
        ("0.30", "0.3", True),
        ("0.30000001", "0.3", False),
        ("1  2", "1 2", True),
        ("a  b", "a b", False),
        (" a \\n\\tb\\n\\n", "a\nb", True),
        ("a\\n\\nb", "a\nb", False),
    ],
)
def test_lines_of_output_are_compared_as_livecodebench_does(given, wanted, passed):
    assert run(f"print('{given}')", "", cases=[("", wanted)]).passed is passed


@pytest.mark.parametrize(
    "program",
    [
        "import atexit, io, sys\nout = sys.stdout = io.StringIO()\natexit.register(lambda: sys.__stdout__.write(out.getvalue()))\nprint(4)",
        "import threading, time\ndef main():\n    time.sleep(0.1)\n    print(4)\nthreading.Thread(target=main).start()",
        "import sys\nprint(4)\nsys.exit(1)",
        "out = open(1, 'w')\nout.write('4')",
    ],
)
def test_what_a_script_prints_at_its_end_counts(program):
    outcome = run(program, "", cases=[("", "4")])
    assert outcome.passed and outcome.values == run("print(' 4')", "", cases=[("", "4")]).values, "blanks make no other vote"


@pytest.mark.parametrize(
    "value",
    [
        "(i for i in range(x))",
        "map(int, range(x))",
        "range(x)",
        "iter([0, 1, 2])",
        "{0: 1, 1: 1, 2: 1}.keys()",
        "{4: 0, 2: 1, 3: 2}.values()",
    ],
)
def test_what_can_be_read_once_arrives_as_such(value):
    lists = "assert list(f(3)) == [0, 1, 2] and f(3) != [0, 1, 2] and f(3) != (0, 1, 2)"
    assert run(f"def f(x):\n    return {value}", "f", tests=lists) == Outcome(True, "")
    given = "assert f(range(3)) == f(i for i in range(3)) == f({0: 1, 1: 1, 2: 1}.keys()) == [0, 1, 2] and f({1: 2}.items()) == [(1, 2)]"
    assert run("def f(x):\n    return list(x)", "f", tests=given) == Outcome(True, "")


def test_views_keep_their_order_and_equal_sets():
    order = "assert list(f({'z': 1, 'b': 3, 'q': 2})) == ['z', 'q', 'b'] and f({'a': 1}) == {'a'}"
    assert run("def f(d):\n    return dict(sorted(d.items(), key=lambda pair: pair[1])).keys()", "f", tests=order).passed
    behaviours = {
        run(f"def f():\n    return {{{keys}}}.keys()", "f", examples=[("f()", "")]).values for keys in ("1: 0, 2: 0", "2: 0, 1: 0")
    }
    assert len(behaviours) == 1, "the order of a set is no behaviour"


def test_tests_that_use_a_class_of_the_program_give_no_verdict():
    pair = "class Pair:\n    def __init__(self, a):\n        self.a = a\ndef f(pair):\n    return pair.a"
    assert run(pair, "f", tests="assert f(Pair(1)) == 1") == Outcome(None, "the tests use Pair, which may be the program's")
    for raised in ("raise NameError('Pair', name='Pair')", "return Pair"):
        assert run(f"def f(x):\n    {raised}", "f", tests="assert f(1) == 1").passed is False


@pytest.mark.parametrize(
    ("value", "wanted", "passed"),
    [
        ("(x, 2)", "[1, 2]", True),
        ("[(x, 2)]", "[[1, 2]]", False),
        ("iter([x])", "[1]", False),
        ("0.1 + 0.2", "0.3", False),
        ("deepcopy([x])", "[1]", True),
        ("datetime.date(2020, 1, x).year", "2020", True),
        ("pow(x, 1, 5)", "1", True),
    ],
)
def test_methods_are_compared_as_livecodebench_does(value, wanted, passed):
    method = f"class Solution:\n    def m(self, x):\n        return {value}"
    assert run(method, "Solution().m", code._IMPORTS, examples=[("Solution().m(1)", wanted)]).passed is passed


def test_a_run_that_nobody_waits_for_ends():
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(Stopped):
        run("import time\ntime.sleep(999)", "f", tests="f()", stop=stop)


def test_a_verdict_that_the_system_took_is_doubted():
    def judging():
        return [p for p in descendants(os.getpid()) if b"\0judge\0" in Path(f"/proc/{p}/cmdline").read_bytes()]

    def kill():
        deadline = time.monotonic() + 20
        while not judging():
            assert time.monotonic() < deadline
        time.sleep(1.5)  # until it waits for the program, on a busy machine too
        for pid in judging():
            os.kill(pid, signal.SIGKILL)

    (killer := threading.Thread(target=kill)).start()
    outcome = run("import time\ndef f(x):\n    time.sleep(30)\n    return x", "f", tests="assert f(1) == 1")
    killer.join()
    assert outcome == Outcome(None, "the tests' process ended before its verdict")


def test_without_a_sandbox_nothing_runs_unless_told(tiny_lm, tmp_path, monkeypatch, capfd):
    sandbox.protection.cache_clear()
    monkeypatch.delenv(sandbox.CHOICE, raising=False)
    monkeypatch.setattr(sandbox, "_failure", lambda name: "not permitted")
    with pytest.raises(sandbox.SandboxError) as refused:
        run(RIGHT, "larger", tests="larger([], 0)")
    path = file(tmp_path / "own.jsonl", ROW)
    with pytest.raises(sandbox.SandboxError, match="no sandbox for programs works here"):
        fill(Grid(problems={f"code:{path}": 1}, policies=[str(tiny_lm)], methods=["majority"]), Store(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists(), "refused before anything is sampled"
    assert str(refused.value) == (
        "no sandbox for programs works here (bubblewrap: not permitted; namespaces: not permitted); "
        "install bubblewrap, or set TTS_SANDBOX=none to run models' programs with limits of time, memory and sizes alone"
    )
    monkeypatch.setenv("TTS_SANDBOX", "jail")
    with pytest.raises(sandbox.SandboxError, match="TTS_SANDBOX=jail: unknown; choose bubblewrap, namespaces or none"):
        sandbox.protection()
    monkeypatch.setenv("TTS_SANDBOX", "none")
    assert run("def f(x):\n    return x", "f", tests="assert f(1) == 1").passed and run("f = len", "f", tests="assert f([]) == 0").passed
    assert capfd.readouterr().err == "programs run WITHOUT a sandbox (TTS_SANDBOX=none): only time, memory and sizes are limited\n"
    sandbox.protection.cache_clear()


# -- answers and steps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (f"So:\n```python\n{RIGHT}\n```\nIt filters.", RIGHT),
        (f"```\nx = 1\n```\nBetter:\n```py\n{RIGHT}\n```\nUse it:\n```python\nprint(larger([1], 0))\n```", RIGHT),
        (f"```python\n{RIGHT}", RIGHT),
        (textwrap.indent(f"```python\n{RIGHT}\n```", "  "), RIGHT),
        (f"\n{BODY}\n", BODY),
        (f"{BODY}\n\n    # done\n\ndef other():\n    pass", f"{BODY}\n\n    # done"),
        (f"```python\n{BODY}\n```", BODY),
        (f"Sure.\n{RIGHT}", RIGHT),
        (f"from the text:\n\n{RIGHT}\n\nThat's all.\nimport it.", RIGHT),
        (f"{SCRIPT}\nimport math", f"{SCRIPT}\nimport math"),
        (f"[PYTHON]\n{RIGHT}\n[/PYTHON]", RIGHT),
        *((f"So: {fence}\n{RIGHT}\n{fence[:3]}\n{USES}", RIGHT) for fence in ("```Python3 x=1", "~~~py", "```{.python}", "``` python")),
        (f"````\n{RIGHT}\n````", RIGHT),
        (f"```code\n{RIGHT}\n```", RIGHT),
        (f"```python\n{RIGHT}```\nDone.", RIGHT),
        (f"```\nlarger = 1\n```\nBetter:\n```python\n{RIGHT}", RIGHT),
        *(
            (f"```python\n{RIGHT}\n```\nThen:\n{after}", RIGHT)
            for after in (
                USES,
                TESTED,
                "```\n[5, 3]\n```",
                "```python\nprint(len([1, 2]))\n```",
                "```\nstep(1)\n```",
                "```java\nclass A {\n}\n```",
                "```\n$ ls\n```",
            )
        ),
        (f"```python\n{RIGHT}\n```\nFaster:\n```python\n{SCRIPT}\n```\nIt prints:\n```\n3\n```", SCRIPT),
        (f"1. Read:\n\n   ```python\n{textwrap.indent(SCRIPT, '   ')}\n   ```", SCRIPT),
        ("Yes", None),
        ("~" * 60_000, None),
        (f"{' ' * 60_000}\nfrom here it is\n" * 2 + "def f(x) is\n" * 5_000, None),
        (f"About ~5 lines: ```python\n{RIGHT}\n```", RIGHT),
        ("I cannot do that.", None),
        ("", None),
    ],
)
def test_the_program_is_taken_from_the_answer(text, program):
    assert CODE.answer(text) == program


def test_steps_are_statements_and_parts_between_blank_lines_of_the_program():
    steps = [
        "First, think.\n\nThen write:\n```python\nimport math",
        'def f(x):\n    """Two lines,\n\n    one blank."""\n    y = [\n\n        x,\n    ]',
        "    if y:\n        return math.sqrt(x)\n    else:\n        return 0",
        "@cache\ndef g(x):\n    return x",
        "if f(4) == 2:\n    ok = 1\nelse:\n    ok = 0\n```\nThat is all.\n\nReally.",
    ]
    text = "\n".join(steps[:2]) + "\n\n" + "\n".join([*steps[2:4], "", steps[4]])
    assert CODE.split(text) == tuple(steps)
    assert CODE.answer(CODE.join(CODE.split(text))).replace("\n", "") == CODE.answer(text).replace("\n", "")
    assert CODE.split("no program\n\nhere") == ("no program", "here")
    assert CODE.step("\n  \n    return 1 \n") == "    return 1", "a sampled step keeps its indentation"


def test_a_program_goes_on_from_the_prompt_or_stands_alone(problem):
    reference = json.loads(problem["answer"])
    assert {"entry": "larger", "prompt": PROMPT, "tests": TESTS} == reference
    assert run(RIGHT, **reference).passed and run(BODY, **reference).passed
    assert run("def smaller(numbers, bound):\n    return []", **reference) == Outcome(False, "NameError the program does not define larger")
    assert run("x = 1", **reference).said == "NameError the program does not define larger", "the prompt's own, without a body, is none"
    assert run("def larger(:", **reference).said.startswith("SyntaxError")


# -- public tests, verdicts and votes ----------------------------------------------------------------------------


def test_public_tests_are_read_from_the_problem():
    assert code._public(PROMPT)["examples"] == [("larger([1, 5, 3], 2)", "[5, 3]"), ("larger([], 0)", "[]")]
    told = ["f(1) ==> 2, f(2)", 'For example f((1, 2)) returns "a" (a text).', ">>> f(3) == 4", "f([]) ➞ nothing", "f(a) => 5"]
    told = 'def f(x):\n    """\n    ' + "\n    ".join(told) + '\n    """\n'
    assert code._public(told)["examples"] == [("f((1, 2))", '"a"'), ("f(3)", "4")]
    shown = "Write a function.\nassert tall([1, 2]) == {2}\nassert not tall([])"
    assert code._public(shown)["entry"] == "tall" and code._public(shown)["examples"] == [
        ("tall([1, 2])", "{2}"),
        ("assert not tall([])", ""),
    ]
    assert code._public("Say hello.") == {"entry": "", "prompt": "", "examples": [], "cases": []}


def test_the_rule_scores_by_public_tests_alone(problem):
    scores = [CODE.rule("tests:public", problem["problem"], f"```python\n{p}\n```") for p in (RIGHT, SAME_IN_PUBLIC, REVERSED, "x = 1")]
    assert scores == [1, 1, 0, 0] and CODE.rule("tests:public", problem["problem"], "no program") == 0
    assert CODE.rule("tests:public", problem["problem"], BODY) == 1
    assert CODE.rule("tests:public", "Write f.", "def f():\n    return 1") == 1 and CODE.rule("tests:public", "Write f.", "def f(") == 0


def row_of(problem, programs):
    solutions = [
        {"steps": CODE.split(f"```python\n{p}\n```"), "status": "finished", "path": [i], "scores": []} for i, p in enumerate(programs)
    ]
    return {"problem": problem["problem"], "answer": problem["answer"], "trajectories": solutions}


def test_votes_go_by_behaviour_on_public_inputs_which_hidden_tests_do_not_touch(problem, tmp_path, monkeypatch):
    again = RIGHT.replace("n for n", "m for m").replace("if n", "if m")
    row, verdicts = row_of(problem, [RIGHT, SAME_IN_PUBLIC, REVERSED, again, "x = 1"]), Verdicts(tmp_path / "verdicts.sqlite")
    with Grader(CODE, Judge(programs=True), verdicts) as grader:
        found = of_row(row, grader)
    assert found.correct == [True, False, False, True, False] and found.group == [0, 0, 1, 0, -1]
    assert found.status == ["answered"] * 4 + ["unreadable"]
    monkeypatch.setattr(sandbox, "run", lambda *given, **more: pytest.fail("a program was run"))
    code._behaviour.cache_clear()
    with Grader(CODE, verdicts=verdicts) as reader:
        assert of_row(row, reader) == found, "verdicts are kept by reference and answer"
    with Grader(CODE) as reader:
        shown = of_row(row, reader)
    assert not any(shown.correct) and set(shown.status) == {"judged uncertain"}, "what only reads results runs nothing"


def test_show_and_export_read_verdicts_and_run_nothing(problem, tmp_path, monkeypatch):
    spec = RunSpec("pool", Model("p", ""), None, 2, {"seed": 0}, RunEngine("transformers"), TaskKey("code", 1, "", None))
    store, row = Store(tmp_path / "runs"), row_of(problem, [RIGHT, SAME_IN_PUBLIC])
    counts = {"problem_id": problem["id"], "prompt": "", "prompt_tokens": 1, "policy_tokens": 2, "prm_tokens": 0}
    solutions = [solution | {"tokens": 1} for solution in row["trajectories"]]
    (run_ := store.open(spec)).write([problem], [row | counts | {"trajectories": solutions}], 1.0)
    with Judges(programs=True) as judges:
        judges.of_chunk(run_, [problem], CODE)
    monkeypatch.setattr(sandbox, "run", lambda *given, **more: pytest.fail("a program was run"))
    code._behaviour.cache_clear()
    given = ["--store", str(store.folder)]
    shown = CliRunner().invoke(app, ["show", spec.key[:6], *given], catch_exceptions=False).output
    assert "samples: 2, 1 right; 2 answered" in shown and "    return [n for n in numbers if n >= bound]" in shown
    done = CliRunner().invoke(app, ["export", str(tmp_path / "out.jsonl"), "--graded", *given], catch_exceptions=False)
    [exported] = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert done.exit_code == 0 and [one["correct"] for one in exported["completions"]] == [True, False]


def test_a_sampled_step_keeps_its_indentation():
    child = child_of(Candidate("p", PROMPT), 0, Told((5,), "\n    bound += 1\n\n", "open", 1), whole=False, task=CODE)
    assert child.steps == ("    bound += 1",)


def test_a_vote_counts_as_the_share_of_right_programs_behind_it():
    """Samples right, wrong, right of one behaviour, and a wrong one of another: pairs (0,1) 1/2, (0,2) 1, (1,2) 1/2, (i,3) ties."""
    correct, groups = np.array([1, 0, 1, 0], bool), np.array([0, 0, 0, 1])
    assert stats.vote_accuracy(correct, np.ones(4), groups, 4) == pytest.approx(2 / 3)
    pairs = (1 / 2 + 1 + 1 / 2 + 1 / 2 + 0 + 1 / 2) / 6
    assert stats.vote_accuracy(correct, np.ones(4), groups, 2, draws=20_000) == pytest.approx(pairs, abs=0.01)


# -- problem files -----------------------------------------------------------------------------------------------


def test_problems_in_the_form_of_mbpp(tmp_path):
    asserts = ["assert set(common([1, 2], [2])) == {2}", "assert common([1], [2]) == []"]
    row = {
        "task_id": 7,
        "text": "Write a function.",
        "code": "def common(a, b):\n    return [x for x in a if x in b]",
        "test_list": asserts,
    }
    [held] = problem_rows(f"mbpp:{file(tmp_path / 'mbpp.jsonl', row)}", split="all")
    assert held["problem"] == f"Write a function.\nYour function must pass this test:\n{asserts[0]}" and asserts[1] not in held["problem"]
    assert run(row["code"], **json.loads(held["answer"])).passed and CODE.rule("tests:public", held["problem"], row["code"]) == 1
    plus = row | {
        "prompt": row.pop("text"),
        "test_imports": ["import math"],
        "test": "for given in ([1], [2]):\n    assert common(given, given) == given",
    }
    [held] = problem_rows(f"mbpp+:{file(tmp_path / 'plus.jsonl', plus)}", split="all")
    assert json.loads(held["answer"])["tests"] == plus["test"]


@pytest.mark.parametrize("packed", [True, False])
def test_problems_in_the_form_of_livecodebench(tmp_path, packed):
    def row(name, public, hidden, **more):
        text = json.dumps(hidden).encode()
        pickled = b"\x80\x02X" + struct.pack("<I", len(text)) + text + b"."  # protocol 2: a text, and the end
        kept = base64.b64encode(zlib.compress(pickled)).decode() if packed else text.decode()
        return {"question_id": name, "question_content": name, "public_test_cases": json.dumps(public), "private_test_cases": kept} | more

    adding = [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}], [{"input": "5 5\n", "output": "10\n", "testtype": "stdin"}]
    method = [{"input": "[1, 2]\n1", "output": "true"}], [{"input": "[]\n1", "output": "false"}]
    starter = {
        "starter_code": "class Solution:\n    def has(self, l: List[int], n: int) -> bool:\n        ",
        "metadata": '{"func_name": "has"}',
    }
    path = file(tmp_path / "lcb.jsonl", row("Add.", *adding), row("Has?", *method, **starter))
    first, second = sorted(problem_rows(f"livecodebench:{path}", split="all"), key=lambda held: held["problem"])
    assert "Input:\n```\n1 2\n```\nOutput:\n```\n3\n```" in first["problem"] and "10" not in first["problem"]
    assert ">>> Solution().has([1, 2], 1)\nTrue" in second["problem"]
    judge = Judge(programs=True)
    for held, right, wrong in [
        (first, "print(sum(map(int, input().split())))", "print(3)"),
        (
            second,
            "class Solution:\n    def has(self, l: List[int], n):\n        return n in l",
            "class Solution:\n    has = lambda *_: True",
        ),
    ]:
        assert [CODE.verdict(judge, held["answer"], program) for program in (right, wrong)] == [True, False]
        assert [CODE.rule("tests:public", held["problem"], f"```\n{program}\n```") for program in (right, wrong)] == [1, 1]


def test_problems_of_ones_own(tmp_path):
    row = {"problem": "Add two numbers: add(1, 2) is 3.", "answer": "assert add(1, 2) == 3\nassert add(-1, 1) == 0"}
    [held] = problem_rows(f"code:{file(tmp_path / 'own.jsonl', row)}")
    assert json.loads(held["answer"]) == {"entry": "add", "prompt": "", "tests": row["answer"]} and task_of(f"code:{tmp_path}") is CODE
    for tests, message in [
        ("x ==", "line 1: the tests are no Python that calls a function; give asserts"),
        ("assert 1 == 1", "line 1: the tests are no Python that calls a function"),
        ('{"entry": "add"}', "line 1: expected 'problem' and 'answer' .asserts., or the columns of .*; TypeError"),
        ("", "line 1: no .answer."),
    ]:
        with pytest.raises(ProblemError, match=message):
            problem_rows(f"code:{file(tmp_path / 'own.jsonl', row | {'answer': tests})}")


HUMANEVAL = {"prompt": "def f(x):\n", "entry_point": "f", "test": "def check(candidate):\n    assert candidate(1) == 1"}
CONTEST = {"question_id": "a", "question_content": "Add.", "public_test_cases": "[]"}
CONTEST |= {"private_test_cases": '[{"input": "1 2", "output": "3"}]', "metadata": "{}"}


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        *[(HUMANEVAL, {"test": none}, "there are no tests; give Python") for none in ("", " \n", 0, [])],
        *[(HUMANEVAL, {"entry_point": name}, "the entry point must be the name of a function") for name in ("", "f(x)", "class", 5)],
        *[(CONTEST, {"metadata": text}, "'metadata' must be an object as JSON") for text in ("null", "[]", "5")],
        (CONTEST, {"private_test_cases": "[]"}, "there are no tests; give some in 'public_test_cases'"),
        (
            CONTEST,
            {"private_test_cases": '[{"input": 1, "output": 3}]', "public_test_cases": '[{"input": 1, "output": 3}]'},
            "AttributeError",
        ),
        ({"problem": "a", "answer": '{"entry": "f", "prompt": "", "tests": ""}'}, {}, "there are no tests"),
        ({"problem": "a", "answer": "assert f(1) == 1"}, {"entry_point": "a b"}, "the entry point must be the name of a function"),
    ],
)
def test_rows_that_any_program_or_none_would_pass_are_refused_in_a_line(tmp_path, row, change, message):
    if "answer" not in row:
        assert len(problem_rows(f"code:{file(tmp_path / 'own.jsonl', row)}")) == 1
    with pytest.raises(ProblemError, match=f"line 1: .*{message}") as refused:
        problem_rows(f"code:{file(tmp_path / 'own.jsonl', row | change)}")
    assert "\n" not in str(refused.value)


def test_published_sets_are_pinned():
    assert set(CODE.sets) == {"humaneval", "humaneval+", "mbpp", "mbpp+", "livecodebench"}
    assert all(len(about.revision) == 40 and int(about.revision, 16) for about in code.PUBLISHED.values())
    assert absent(["mbpp+", "mbpp+:copy.jsonl", "code:own.jsonl", "pocket-main"]) == ["mbpp+"]
    with pytest.raises(ProblemError, match=r"cannot download mbpp\+ \(evalplus/mbppplus\).*give a local copy as mbpp\+:path"):
        problem_rows("mbpp+")


def test_the_page_says_what_the_table_of_recorded_programs_says():
    place = importlib.util.spec_from_file_location("programs", ROOT / "data" / "published" / "programs.py")
    place.loader.exec_module(programs := importlib.util.module_from_spec(place))
    table = pd.read_csv(programs.TABLE)
    assert "".join(f"- {line}\n" for line in programs.told(table)) in programs.PAGE.read_text()
    row = {"model": "m", "task": "t", "programs": 4, "right": 2, "public": 3, "public_right": 2, "public_tests": 1}
    one = programs.of_programs(pd.DataFrame([row]), 2).iloc[0]
    assert one["passed"] == pytest.approx(5 / 6), "one of six pairs holds no right one"
    assert one["best"] == pytest.approx((1 + 2 * 0.5 + 2 * 1 + 0) / 6), "two right ones, each with the tied wrong one, with the other, none"
