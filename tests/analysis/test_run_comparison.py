"""Two runs side by side, on stores written by hand."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from tts.analysis.run_comparison import compare
from tts.store.run_spec import Model, RunEngine, RunSpec
from tts.store.store import Store, StoreError
from tts.study.cli import app
from tts.tasks.selection import Rule

RULE = Rule("product", "vote")


def spec(method, policy="small", prm=None, n=1, **more):
    sampling = {"seed": more.pop("seed", 0), "temperature": 0.7}
    return RunSpec(method, Model(policy, "a"), Model(prm, "b") if prm else None, n, sampling, RunEngine("scripted"), **more)


def problem(number):
    return {"id": f"p{number}", "problem": f"{number}+1=?", "answer": str(number + 1)}


def write(store, of, answers, first=0, scores=None):
    """One chunk: per problem its candidates' answers, with one step and, where given, its score."""
    problems = [problem(first + i) for i in range(len(answers))]
    rows = [
        {
            "problem_id": p["id"],
            "problem": p["problem"],
            "answer": p["answer"],
            "prompt_tokens": 3,
            "policy_tokens": 10 * len(given),
            "prm_tokens": 7,
        }
        | {
            "trajectories": [
                {"path": [i], "steps": [f"\\boxed{{{a}}}"], "scores": [scores[i]] if scores else [], "status": "finished", "tokens": 10}
                for i, a in enumerate(given)
            ]
        }
        for p, given in zip(problems, answers)
    ]
    store.open(of).write(problems, rows, 1.0)
    return store.run(of)


def test_the_difference_is_paired_on_the_common_problems(tmp_path):
    store = Store(tmp_path)
    greedy = write(store, spec("cot"), [["1"], ["2"], ["0"], ["4"]])  # right on three of four
    pool = write(store, spec("pool", n=3), [["1", "1", "9"], ["9", "9", "3"], ["4", "4", "4"]], first=1)  # problems 1, 2, 3: only the last
    found = compare(greedy, pool, RULE)
    assert found.problems == 3
    assert found.runs["accuracy"].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert found.difference.estimate == pytest.approx(1 / 3) and str(found).endswith("is undecided")
    assert found.runs["policy_tokens"].tolist() == [10, 30] and found.runs["prm_tokens"].tolist() == [7, 7]


def test_searches_select_by_the_rule(tmp_path):
    store = Store(tmp_path)
    answers = [["1", "9", "9", "9"], ["2", "9", "9", "9"]]
    beam = write(store, spec("beam_search", prm="prm", n=4, width=2), answers, scores=[0.9, 0.4, 0.3, 0.1])
    dvts = write(store, spec("dvts", prm="prm", n=4, width=2), [row[:2] for row in answers], scores=[0.2, 0.7])
    # beam search: 0.9 for the right answer against 0.8 for the wrong one by vote; by majority the wrong one
    assert compare(beam, dvts, RULE).runs["accuracy"][0] == 1.0
    assert compare(beam, dvts, Rule("", "majority")).runs["accuracy"][0] == 0.0
    # both of DVTS's candidates are of one subtree, of which the last written counts
    assert compare(beam, dvts, RULE).runs["accuracy"][1] == 0.0


def test_a_run_is_found_by_key_or_folder(tmp_path):
    store = Store(tmp_path)
    run = write(store, spec("cot"), [["1"]])
    other = write(store, spec("cot", seed=1), [["1"]])
    assert store.find(run.key).key == run.key and store.find(other.folder.name).key == other.key
    with pytest.raises(StoreError, match="means 2 runs; give more, or a key") as error:
        store.find("cot-small")
    assert run.key in str(error.value) and "seed 1" in str(error.value)
    with pytest.raises(StoreError, match=re.escape(f"no run 'nothing' in {tmp_path}; it holds 2 runs")):
        store.find("nothing")


def test_what_cannot_be_compared_is_said(tmp_path):
    store = Store(tmp_path)
    run, elsewhere = write(store, spec("cot"), [["1"], ["2"]]), write(store, spec("cot", seed=1), [["6"]], first=5)
    with pytest.raises(StoreError, match="no common problem: cot-small-.* holds 2, cot-small-.* 1 others"):
        compare(run, elsewhere, RULE)
    single = write(store, spec("cot", seed=2), [["1"]])
    found = compare(run, single, RULE)
    assert found.difference is None and str(found) == "one common problem, too few for an interval; at least 2 are needed"


def test_the_command_prints_both_and_the_difference(tmp_path):
    store = Store(tmp_path)
    right = write(store, spec("cot"), [[str(i + 1)] for i in range(20)])
    wrong = write(store, spec("cot", policy="tiny"), [["0"] for _ in range(20)])
    done = CliRunner().invoke(app, ["compare", right.key, wrong.key, "--store", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "20 common problems" in done.output and "first less second: +100.0 [+100.0, +100.0] points" in done.output
    assert "is supported" in done.output


def test_unknown_tokens_stay_unknown(tmp_path):
    store = Store(tmp_path)
    known, unknown = write(store, spec("cot"), [["1"], ["2"]]), write(store, spec("cot", seed=1), [["1"], ["2"]])
    path, rows = unknown.path([problem(0), problem(1)]), [row | {"policy_tokens": None} for row in unknown.rows()]
    path.unlink()
    unknown.write([problem(0), problem(1)], rows, 1.0)
    done = CliRunner().invoke(app, ["compare", known.key, unknown.key, "--store", str(tmp_path)], catch_exceptions=False)
    assert "unknown" in done.output and "nan" not in done.output and "10" in done.output


def test_a_problem_whose_answer_changed_is_not_the_same(tmp_path):
    store = Store(tmp_path)
    first, second = write(store, spec("cot"), [["1"], ["2"], ["3"]]), write(store, spec("cot", seed=1), [["1"], ["2"], ["3"]])
    path = second.path([problem(i) for i in range(3)])
    rows = [row | {"answer": "9"} if row["problem_id"] == "p1" else row for row in second.rows()]
    path.unlink()
    second.write([problem(i) for i in range(3)], rows, 1.0)
    assert compare(first, second, RULE).problems == 2
