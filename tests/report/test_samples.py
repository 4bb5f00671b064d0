"""Samples of a stored run as text, from rows written by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stores import hand_written, trajectory
from typer.testing import CliRunner

from tts.analysis.accuracy import Graded, Results
from tts.report import samples
from tts.search.registry import method_of
from tts.store.run_spec import Model, RunEngine, RunSpec, TaskKey
from tts.store.store import Store, StoreError
from tts.study.cli import app
from tts.study.experiment import Experiment
from tts.tasks.maths import MATHS
from tts.tasks.selection import Rule

SPEC = RunSpec("scores", Model("small", "a"), Model("judge", "b"), 4, {"seed": 3}, RunEngine("scripted"), TaskKey("maths", 1, "x"))


def solution(number, *steps, status="finished", scores=(), tokens=5):
    return {"path": [number], "steps": list(steps), "scores": list(scores), "status": status, "tokens": tokens}


TRAJECTORIES = [
    solution(0, "7+8=15\nso", "\\boxed{15}", scores=(0.25, 0.5), tokens=1234),
    solution(1, "7+8=16", "\\boxed{16}\x1b[2J"),
    solution(2, "7+8=15"),
    solution(3, "\\boxed{15}", status="truncated", tokens=None),
    solution(4, "\\boxed{(((}"),
]


def chunk(store, first, trajectories):
    problems = [{"id": f"p{i}", "problem": f"{i}+8=?", "answer": "15"} for i in (first, first + 1)]
    counted = {"prompt_tokens": 3, "policy_tokens": None, "prm_tokens": 70, "trajectories": trajectories}
    rows = [counted | {"problem_id": p["id"], "problem": p["problem"], "answer": p["answer"]} for p in problems]
    store.open(SPEC).write(problems, rows, 1.0)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    chunk(store, 7, TRAJECTORIES)
    chunk(store, 4, TRAJECTORIES[:1])
    return store


def shown(store, *given):
    done = CliRunner().invoke(app, ["show", *given, "--store", str(store.folder)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_each_sample_has_its_status_answer_verdict_scores_and_tokens(store):
    head, *samples = shown(store, SPEC.key[:6], "p7", "--samples", "9").split("\n\n")
    assert head.splitlines() == [
        "scores of small with judge, N = 4, seed 3; problem p7",
        "problem: 7+8=?",
        "reference: 15",
        "samples: 5, 1 right; 2 answered, 1 no answer, 1 truncated, 1 unreadable",
        "tokens: unknown of the policy, 70 of the PRM",
    ]
    assert [sample.splitlines()[0] for sample in samples] == [
        "sample 1: right, answered: 15; 1,234 tokens",
        "sample 2: wrong, answered: 16; 5 tokens",
        "sample 3: wrong, no answer; 5 tokens",
        "sample 4: wrong, truncated; unknown tokens",
        "sample 5: wrong, unreadable: (((; 5 tokens",
    ]
    assert samples[0].splitlines()[1:] == ["  0.25  7+8=15", "        so", "  0.50  \\boxed{15}"]
    assert samples[1].splitlines()[2] == "        \\boxed{16}\\x1b[2J", "no control character reaches a terminal"


def test_only_some_or_only_wrong_ones(store):
    numbers = lambda *given: [line[7] for line in shown(store, "scores of small", "p7", *given).splitlines() if line.startswith("sample ")]  # noqa: E731
    assert numbers() == ["1", "2", "3"] and numbers("--samples", "1") == ["1"] and numbers("--wrong", "--samples", "2") == ["2", "3"]
    *_, said, how = shown(store, "scores-small", "p4", "--wrong").splitlines()
    assert said == "no such sample" and how.startswith("graded: ")


@pytest.mark.parametrize(("problem", "found"), [("", "p4"), ("1", "p4"), ("3", "p7"), ("p8", "p8"), ("7+8=?", "p7")])
def test_a_problem_is_its_id_or_its_number(store, problem, found, monkeypatch):
    from tts.store import store as module

    whole, read = [], module.read_chunk
    monkeypatch.setattr(module, "read_chunk", lambda path, *columns: (columns or whole.append(path), read(path, *columns))[1])
    assert store.find(SPEC.key).row(problem)["problem_id"] == found and len(whole) == 1, "one chunk is read whole"


@pytest.mark.parametrize("problem", ["0", "5", "p70", "-1"])
def test_what_is_not_there_is_said(store, problem):
    with pytest.raises(StoreError, match=f"holds 4 problems, and none with the id, number or text '{problem}'"):
        store.find(SPEC.key).row(problem)


OWN = replace(SPEC, policy=Model("/path/to/a folder/mine", "c"), prm=Model("math-shepherd:/path/to/prm", "d"))
SERVED = replace(SPEC, policy=Model("http://host:80/v1#mine-too", "c"), prm=None, n=64)


@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        (SPEC, ["scores of small with judge, N = 4, seed 3", "scores of small", "small", "judge", SPEC.key[:6]]),
        (OWN, ["scores of …/mine with math-shepherd:…/prm, N = 4, seed 3", "scores of mine", "mine", f"scores of {OWN.policy.name} with"]),
        (SERVED, ["scores of http://host:80/v1#mine-too, N = 64, seed 3", "mine-too"]),
    ],
)
def test_a_run_is_found_by_what_store_lists_of_it(store, spec, texts):
    for one in (OWN, SERVED):
        store.open(one)
    assert spec.brief == texts[0] and [store.find(text).spec for text in texts] == [spec] * len(texts)
    with pytest.raises(StoreError, match="'scores of' means 3 runs; give more, or a key:"):
        store.find("scores of")


def test_store_lists_the_runs_that_hold_a_text(store):
    for one in (OWN, SERVED):
        store.open(one)
    for text, found in (("a folder/mine", [OWN]), ("prm, N = 4", [OWN]), (SERVED.key, [SERVED]), ("", [SPEC, OWN, SERVED])):
        said = CliRunner().invoke(app, ["store", *([text] if text else []), "--store", str(store.folder)], env={"COLUMNS": "80"}).output
        assert {spec.key for spec in (SPEC, OWN, SERVED) if spec.key in said} == {spec.key for spec in found} and "/path" not in said
    both = CliRunner().invoke(app, ["store", "small", "--clean", "--yes", "--store", str(store.folder)])
    assert isinstance(both.exception, ValueError) and len(list(store.runs())) == 3


def test_an_id_goes_before_a_number(tmp_path):
    store, problems = Store(tmp_path), [{"id": name, "problem": "1+1=?", "answer": "2"} for name in ("2", "1")]
    counted = {"prompt_tokens": 3, "policy_tokens": 1, "prm_tokens": 0, "trajectories": []}
    store.open(SPEC).write(problems, [counted | {"problem_id": p["id"], "problem": "1+1=?", "answer": "2"} for p in problems], 1.0)
    assert [store.run(SPEC).row(problem)["problem_id"] for problem in ("1", "2")] == ["1", "2"]


STEPS = "a step (1.00) | \\boxed{{{}}} ({:.2f})".format


def rows_of(results, n=4, count=3, **changes):
    results = Results(results.grid.model_copy(update=changes), results.store)
    [problems], [policy], [prm] = results.grid.problems, results.grid.policies, results.grid.prms
    return [(title, table.to_numpy().tolist()) for title, table in samples.examples(results, problems, policy, prm, n, count)]


def test_a_problem_in_full_has_solutions_votes_and_verdicts(tiny_lm, tmp_path):
    """By PRM-Max over the lowest step score; of a the pool says 15 (0.3), 14 (0.9), 14 (0.1) and 15.0 (0.8)."""
    (first, of_a), (second, of_b) = rows_of(hand_written(tiny_lm, tmp_path))
    assert first == "7,+8=? right answer: 15; the methods differ" and second == "1,+1=? right answer: 2; the methods differ"
    assert of_a == [
        ["2 of the pool", "14", "wrong", STEPS(14, 0.9)],
        ["2 of the pool", "15.0", "right", STEPS("15.0", 0.8)],
        ["CoT (greedy)", "15", "right", "one solution"],
        ["Majority", "15", "tie, 50% right", "votes 2 against 2 for 14"],
        ["Best-of-N", "14", "wrong", "best score 0.9 against 0.8 for 15.0"],
        ["Beam search", "15", "right", "best score 0.2, no other answer"],
        ["DVTS", "15", "right", "best score 0.2, no other answer"],
    ]
    assert of_b[:2] == [["1 of the pool", "2", "right", STEPS(2, 0.6)], ["2 of the pool", "3", "wrong", STEPS(3, 0.5)]]
    assert of_b[-2:] == [
        ["Beam search", "none", "wrong", "no candidate has an answer"],
        ["DVTS", "3", "wrong", "best score 0.9 against 0.4 for 2"],
    ]


def test_problems_are_chosen_by_whether_the_methods_agree(tiny_lm, tmp_path):
    results = hand_written(tiny_lm, tmp_path)
    titles = lambda **changes: [title.rpartition("; ")[2] for title, _ in rows_of(results, **changes)]  # noqa: E731
    assert titles(methods=["beam_search"]) == ["every method is right", "no method is right"]
    assert titles(methods=["best_of_n"]) == ["every method is right", "no method is right"], "the second problem comes first"
    assert titles(count=1) == ["the methods differ"]


def test_at_a_smaller_budget_only_the_first_samples_count(tiny_lm, tmp_path):
    [(_, of_a), (_, of_b)] = rows_of(hand_written(tiny_lm, tmp_path), n=2, methods=["best_of_n", "dvts"])
    assert of_a[:2] == [["1 of the pool", "14", "wrong", STEPS(14, 0.9)], ["1 of the pool", "15", "right", STEPS(15, 0.3)]]
    assert of_b[0] == ["1 of the pool", "2", "right", STEPS(2, 0.6)] and of_b[-1][:3] == ["DVTS", "3", "wrong"]


def test_an_answer_of_right_and_wrong_samples_is_shown_as_accuracy_counts_it():
    """Two samples of one vote, of which the best is wrong; beside them a wrong answer, with less weight or with the same."""
    graded = Graded(np.array([0, 0, 1]), np.array([True, False, False]), [], {"min": np.array([0.2, 0.9, 0.4])}, np.arange(3), {})
    samples_of = [trajectory(answer, score, (n,)) for n, (answer, score) in enumerate([("15", 0.2), ("15.0", 0.9), ("14", 0.4)])]
    row, by = {"trajectories": samples_of}, Rule("min", "max")
    tally = samples._tally(graded, by, 3)
    assert [told[:3] for told in samples._solutions(row, tally, MATHS, "the pool")] == [
        ("2 of the pool", "15.0", "mixed: 1 of 2 right"),
        ("1 of the pool", "14", "wrong"),
    ]
    verdict = lambda tally: samples._vote(method_of("best_of_n"), row, tally, "best score", MATHS)[2]  # noqa: E731
    assert verdict(tally) == "mixed: 1 of 2 right" and verdict(tally.assign(weight=1.0)) == "tie, 25% right"


def test_a_vote_that_stops_or_weighs_is_shown_as_it_votes(tiny_lm, tmp_path):
    [(_, of_a), _] = rows_of(hand_written(tiny_lm, tmp_path), methods=["majority", "early_stopping"], constants={"window": 2})
    assert [how for who, _, _, how in of_a if who == "Early stopping"][0].startswith("of 4 samples, votes 2"), "no two agree before"
    graded = Graded(np.array([0, 1, 1]), np.array([False, True, True]), [], {}, np.arange(3), {})
    tally = samples._tally(graded, Rule("", "majority"), 3, np.array([0.9, 0.2, 0.3]))
    assert tally["weight"].tolist() == [0.9, 0.5] and tally["verdict"].tolist() == ["wrong", "right"] and tally["best"].tolist() == [0, 2]


def test_a_notebook_shows_problems_of_its_first_policy_whole(tiny_lm, tmp_path, capsys):
    results = hand_written(tiny_lm, tmp_path)
    Experiment(results.store.folder, **results.grid.model_dump()).show_problems(1)
    said = capsys.readouterr().out
    assert f"{results.grid.policies[0]}, scored by {results.grid.prms[0]}, N = 4, rule min+max." in said
    assert "every method is right" in said and "votes 2 against 2 for 14" in said
