"""Samples of a stored run as text, from rows written by hand."""

from __future__ import annotations

import pytest
from stores import grid
from typer.testing import CliRunner

from tts.generate.runner import fill
from tts.store.run_spec import Model, RunEngine, RunSpec, TaskKey
from tts.store.store import Store, StoreError
from tts.study.cli import app
from tts.study.experiment import Experiment

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
    assert shown(store, "scores-small", "p4", "--wrong").endswith("\n\nno such sample\n")


@pytest.mark.parametrize(("problem", "found"), [("", "p4"), ("1", "p4"), ("3", "p7"), ("p8", "p8")])
def test_a_problem_is_its_id_or_its_number(store, problem, found, monkeypatch):
    from tts.store import store as module

    whole, read = [], module.read_chunk
    monkeypatch.setattr(module, "read_chunk", lambda path, *columns: (columns or whole.append(path), read(path, *columns))[1])
    assert store.find(SPEC.key).row(problem)["problem_id"] == found and len(whole) == 1, "one chunk is read whole"


@pytest.mark.parametrize("problem", ["0", "5", "p70", "-1"])
def test_what_is_not_there_is_said(store, problem):
    with pytest.raises(StoreError, match=f"holds 4 problems, and none with the id or number '{problem}'"):
        store.find(SPEC.key).row(problem)


def test_an_id_goes_before_a_number(tmp_path):
    store, problems = Store(tmp_path), [{"id": name, "problem": "1+1=?", "answer": "2"} for name in ("2", "1")]
    counted = {"prompt_tokens": 3, "policy_tokens": 1, "prm_tokens": 0, "trajectories": []}
    store.open(SPEC).write(problems, [counted | {"problem_id": p["id"], "problem": "1+1=?", "answer": "2"} for p in problems], 1.0)
    assert [store.run(SPEC).row(problem)["problem_id"] for problem in ("1", "2")] == ["1", "2"]


def test_a_notebook_shows_samples_of_its_first_policys_pool(tiny_lm, tmp_path, capsys):
    values = grid(tiny_lm, tiny_lm, methods=["majority", "best_of_n"]).model_dump()
    fill((experiment := Experiment(tmp_path, **values)).grid, experiment.store)
    capsys.readouterr()
    experiment.show_samples(2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"pool of {tiny_lm}, N = 4, seed 0; problem pocket-main-test-00000")
    assert [line[:9] for line in lines if line.startswith("sample ")] == ["sample 1:", "sample 2:"]
