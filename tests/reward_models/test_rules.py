"""Rule verifiers: what they score, through the store and in searches, and where they are refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scripted import ScriptedPolicy

from tts import tasks
from tts.analysis import costs
from tts.analysis.accuracy import Results
from tts.generate.grid import Grid, ParameterError, grid_of
from tts.generate.runner import fill
from tts.models.hub import ModelError
from tts.report import figure_files, redraw
from tts.report.style import in_words
from tts.reward_models import can_score, check_reads, family_of, open_prm, rules, weights_of
from tts.search import beam_search, dvts
from tts.search.base import Candidate
from tts.search.driver import Driver
from tts.store.store import Store
from tts.tasks import sandbox
from tts.tasks.code import CODE
from tts.tasks.maths import MATHS
from tts.tasks.pocket_code import POCKET_CODE
from tts.tasks.pocket_puzzles import POCKET_PUZZLES

RULE = "tests:public"
MOST = "1:2,5>5;3,9>9?"  # max does it, and so does dropping the first number
TEXT = "2:7,2,5>4,10,14;9,1,1,3>2,2,6,18?"


def test_a_whole_solution_has_one_score_and_costs_nothing():
    prm = open_prm(RULE, task=POCKET_CODE)
    scores, read = prm.score([("a", TEXT)] * 3, [("sort>2,5,7", "*2>0"), ("sort>2,5,7",), ()])
    assert scores == [(1.0, 1.0), (0.0,), ()] and read == [0, 0, 0], "what a step states is nothing to a test"
    assert costs.shape_of(RULE).active == costs.training_flops(RULE) == 0 and costs.solver_of(RULE) is None
    assert family_of(RULE) == ("rule", RULE) and weights_of(RULE) == "rule"


def test_best_of_n_takes_what_passes_and_votes_by_behaviour(tiny_lm, tmp_path):
    file = tmp_path / "own.jsonl"
    rows = [{"id": name, "problem": MOST, "answer": "1:7,4>7;1,2>2?"} for name in "ab"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    grid = Grid(
        problems={f"pocket-code:{file}": 2}, policies=[str(tiny_lm)], prms=[RULE], methods=["majority", "best_of_n"], samples=4, budgets=[4]
    )
    steps = {"a": ["max>5", "drop1>5", "drop1>5", "min>2"], "b": ["min>2", "min>2", "min>2", "max>5"]}
    store, policy, [chunk] = Store(tmp_path / "runs"), str(tiny_lm), grid.chunks(f"pocket-code:{file}")

    def write(spec, count):
        solutions = {name: [{"path": [n], "steps": [s], "scores": [], "status": "finished", "tokens": 5} for n, s in enumerate(own[:count])]
                     for name, own in steps.items()}  # fmt: skip
        made = [{"problem_id": p["id"], "problem": p["problem"], "answer": p["answer"], "trajectories": solutions[p["id"]]} for p in chunk]
        store.open(spec).write(chunk, [row | {"prompt_tokens": 7, "policy_tokens": 20, "prm_tokens": 0} for row in made], 1.0)

    write(grid.spec("cot", policy), 1)
    write(grid.spec("pool", policy, n=4), 4)
    assert fill(grid, store) == 1
    scored = store.run(grid.spec("scores", policy, RULE, 4)).read(chunk)
    assert [[t["scores"] for t in row["trajectories"]] for row in scored] == [[[1], [1], [1], [0]], [[0], [0], [0], [1]]]
    results = Results(grid, store)

    def accuracy(method, prm=None):
        return np.round(results.accuracy(f"pocket-code:{file}", policy, prm, method, 4), 3).tolist()

    assert accuracy("pass") == [1, 1] and accuracy("majority") == [0, 0]
    assert accuracy("best_of_n", RULE) == [0, 1], "of a, two solutions that hidden tests refuse pass the public ones"
    assert results.prm_tokens(f"pocket-code:{file}", policy, RULE, "best_of_n", 4).tolist() == [0, 0]


@pytest.mark.parametrize("search", [beam_search, dvts])
def test_a_search_goes_by_the_tasks_step_checker_until_a_solution_ends(search):
    def script(steps, index):
        if not steps:
            return ("rev>5,2,7", "sort>2,5,7", "sort>2,5,7", "*2>14,4,10")[index % 4], "finished" if index == 2 else "open", 1
        return ("*2>4,10,14", "sort>4,10,14")[steps[0][0] == "*"] if index == 0 else "acc>2,7,14", "finished", 1

    root = Candidate("a", TEXT)
    [outcome] = Driver(ScriptedPolicy(script), open_prm(RULE, task=POCKET_CODE), record=True).run([(root, search(root, 4, 2))])
    judged = {c.steps: (c.status, c.scores) for c in outcome.nodes if c.scores}
    assert judged["rev>5,2,7",] == ("open", (0,)) and judged["*2>14,4,10",] == ("open", (1,))
    assert judged["sort>2,5,7", "*2>4,10,14"] == ("finished", (1, 1)) and judged["sort>2,5,7", "acc>2,7,14"] == ("finished", (0, 0))
    assert [(c.steps, c.scores) for c in outcome.nodes if c.status == "finished" and len(c.steps) == 1] == [(("sort>2,5,7",), (0,))], (
        "it ends early"
    )
    assert outcome.prm_tokens == 0 and {c.scores for c in outcome.trajectories} == {(1, 1)}


@pytest.fixture
def ruled():
    """The template task with a rule, and without a checker of steps."""
    place = importlib.util.spec_from_file_location("text_task", Path(__file__).resolve().parents[2] / "docs" / "examples" / "text_task.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    module.TEXT.rules = (RULE,)
    tasks.register(module.TEXT)
    yield module.TEXT
    del tasks.TASKS["text"]


def test_the_public_tests_of_programs_are_a_prm_of_whole_solutions(tiny_lm, tmp_path):
    """Two rows as HumanEval has them: public tests take the one of four programs that gives their values, the first of equal scores."""
    try:
        sandbox.protection()
    except sandbox.SandboxError as reason:
        pytest.skip(str(reason))
    prompts = {name: f'def {name}(x):\n    """ Gives x {told}.\n    >>> {name}(3)\n    {value}\n    """\n' for name, told, value in
               (("twice", "times two", 6), ("square", "times x", 9))}  # fmt: skip
    hidden = "def check(candidate):\n    assert candidate(5) == {}\n"
    rows = [{"task_id": name, "prompt": prompts[name], "entry_point": name, "test": hidden.format(right)}
            for name, right in (("twice", 10), ("square", 25))]  # fmt: skip
    (file := tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"problems": {f"code:{file}": 2}, "policies": [str(tiny_lm)], "prms": [RULE], "samples": 4, "budgets": [4]}
    with pytest.raises(ParameterError, match=r"scores whole solutions only; beam_search, dvts need.* the task code cannot check"):
        grid_of(**given)
    grid = Grid(**given, methods=["majority", "best_of_n"])
    bodies = {"twice": ["x + 3", "x", "x - 1", "1 / 0"], "square": ["x", "x + x", "x * x", "x * x"]}
    store, policy, [chunk] = Store(tmp_path / "runs"), str(tiny_lm), grid.chunks(f"code:{file}")
    for spec, count in ((grid.spec("cot", policy), 1), (grid.spec("pool", policy, n=4), 4)):
        made = []
        for problem in chunk:
            programs = [f"```python\ndef {problem['id']}(x):\n    return {body}\n```" for body in bodies[problem["id"]]]
            solutions = [{"path": [n], "steps": list(CODE.split(text)), "scores": [], "status": "finished", "tokens": 5}
                         for n, text in enumerate(programs[:count])]  # fmt: skip
            counts = {"problem_id": problem["id"], "prompt_tokens": 7, "policy_tokens": 20, "prm_tokens": 0, "trajectories": solutions}
            made.append(counts | {key: problem[key] for key in ("problem", "answer")})
        store.open(spec).write(chunk, made, 1.0)
    assert fill(grid, store) == 1
    scored = store.run(grid.spec("scores", policy, RULE, 4)).read(chunk)
    scores = {row["problem_id"]: [t["scores"][0] for t in row["trajectories"]] for row in scored}
    assert scores == {"twice": [1, 0, 0, 0], "square": [0, 0, 1, 1]}
    results = Results(grid, store)
    majority, best = (results.accuracy(f"code:{file}", policy, *by, 4) for by in ((None, "majority"), (RULE, "best_of_n")))
    assert dict(zip((row["id"] for row in chunk), best)) == {"twice": 0, "square": 1}, "3 + 3 passes, and 5 + 3 does not"
    assert dict(zip((row["id"] for row in chunk), majority)) == {"twice": 0, "square": 1}


def test_the_name_of_a_rule_tells_of_the_oracle_that_guides_its_searches():
    oracle = " (searches: exact step checker)"
    assert rules.in_searches(RULE, POCKET_CODE) == rules.in_searches("atoms") == oracle
    assert rules.in_searches(RULE, CODE) == rules.in_searches("prm-qwen-28k") == ""
    assert in_words("atoms") == f"atoms{oracle}" and in_words("dial:0,0") == "dial:0,0"
    told = figure_files.caption("policy_scaling", pd.DataFrame({"prm": ["atoms"]}), {})
    assert f"PRM: atoms{oracle}." in told and oracle in redraw.table(pd.DataFrame({"prm": ["atoms"]}), "markdown", [])


def test_a_search_is_refused_where_steps_cannot_be_checked(ruled, tiny_lm, tmp_path):
    given = {"problems": {f"text:{tmp_path / 'a.jsonl'}": 2}, "policies": [str(tiny_lm)], "prms": [RULE]}
    with pytest.raises(ParameterError, match=r"scores whole solutions only; beam_search, dvts need.* the task text cannot check"):
        grid_of(**given)
    assert grid_of(**given, methods=["majority", "best_of_n"]).prms == [RULE]
    assert grid_of(**given | {"problems": {"pocket-code": 2}}).methods == ["majority", "best_of_n", "beam_search", "dvts"]


def test_the_rule_of_another_task_is_refused(tiny_lm):
    said = "tests:public is a rule of the tasks pocket-code, code; the task maths has none: take another PRM"
    with pytest.raises(ParameterError, match=said.replace("maths", "pocket")):
        grid_of(problems={"pocket-main": 2}, policies=[str(tiny_lm)], prms=[RULE], methods=["best_of_n"])
    with pytest.raises(ModelError, match=said):
        open_prm(RULE, task=MATHS)
    with pytest.raises(ModelError, match=said):
        check_reads(RULE, [{"problem": "7,+8=?"}])
    assert can_score(RULE, POCKET_CODE) and not can_score(RULE, POCKET_PUZZLES)
    with pytest.raises(ModelError):
        family_of("tests:hidden")
