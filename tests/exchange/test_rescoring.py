"""Imported samples scored by a PRM that runs here: by hand, beside the scores that came along, and never mixed with them."""

from __future__ import annotations

import json
import math
import os
import sys

import numpy as np
import pytest
from by_hand import qwen_by_hand
from typer.testing import CliRunner

from tts import exchange
from tts.analysis.accuracy import Results
from tts.exchange import importing, plain
from tts.generate import runner
from tts.generate.dry_run import measure, missing_of
from tts.generate.grid import Grid
from tts.generate.local_pool import side_by_side
from tts.report import tables
from tts.store.store import Store, StoreError
from tts.study import cli

PROBLEMS = {"a": ("3,+5=?", 8), "b": ("4,+9=?", 13), "c": ("2,*6=?", 12)}


def lines(scored=True, prm="their-prm", policy="their-1B"):
    """Three problems with a right and two wrong solutions each; the scores that came along like the last one best."""
    rows = []
    for number, (name, (problem, answer)) in enumerate(PROBLEMS.items()):
        texts = [
            f"{problem[0]}={answer}\n\n\\boxed{{{answer}}}",
            f"{number}+1={answer + 1}\n\n\\boxed{{{answer + 1}}}",
            f"\\boxed{{{number}}}",
        ]
        scores = [[0.5, 0.2], [0.5, 0.3], [0.9]] if scored else [None] * 3
        completions = [{"text": t, "tokens": len(t)} | ({"scores": s} if s else {}) for t, s in zip(texts, scores)]
        row = {"id": name, "problem": problem, "answer": str(answer), "policy": policy, "completions": completions}
        rows.append(row | ({"prm": prm} if scored else {}))
    return rows


@pytest.fixture
def import_of(tmp_path):
    """Imports lines into a store."""

    def imported(rows, name="mine"):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        store = Store(tmp_path / "runs")
        return importing.import_into(store, exchange.read_runs(path)[0][0], name, path).source, store

    return imported


def grid_of(source, prms, **changes):
    policy = source.runs[0].spec.policy.name
    values = {"problems": {source.problem_set: source.count}, "policies": [policy], "prms": list(map(str, prms)), "budgets": [3]}
    return Grid(**(values | {"methods": ["majority", "best_of_n"], "samples": 3, "vote": "max", "chunk": 2} | changes))


def test_scores_and_choices_are_those_worked_out_by_hand(import_of, tiny_qwen_prm):
    source, store = import_of(lines(scored=False))
    grid = grid_of(source, [tiny_qwen_prm])
    assert runner.fill(grid, store) == 2, "three problems in chunks of two"
    run = store.run(grid.spec("scores", grid.policies[0], str(tiny_qwen_prm), 3))
    best = []
    for row in run.rows():
        by_hand = [qwen_by_hand(tiny_qwen_prm, row["problem"], t["steps"]) for t in row["trajectories"]]
        assert [t["scores"] for t in row["trajectories"]] == [pytest.approx(scores, abs=1e-5) for scores in by_hand]
        assert row["prm_tokens"] > 0 and [t["steps"][-1] for t in row["trajectories"]][0] == f"\\boxed{{{row['answer']}}}"
        best.append(int(np.argmax(list(map(math.prod, by_hand)))))
    results = Results(grid, store)
    right = results.accuracy(source.problem_set, grid.policies[0], str(tiny_qwen_prm), "best_of_n", 3)
    assert right.tolist() == [float(index == 0) for index in best]
    assert runner.fill(grid, store) == 0


def test_scores_that_came_along_stay_apart(import_of, tiny_qwen_prm):
    name = tiny_qwen_prm.name
    source, store = import_of(lines(prm=name))
    theirs = source.runs[-1].spec.prm.name
    before = {run.key: list(run.rows()) for run in store.runs()}
    grid = grid_of(source, [tiny_qwen_prm, theirs])
    assert [spec.elsewhere for spec in grid.specs()] == [True, False, True]
    runner.fill(grid, store)
    after = {run.key: list(run.rows()) for run in store.runs()}
    assert {key: after[key] for key in before} == before and len(after) == len(before) + 1
    results = Results(grid, store)
    chosen = results.accuracy(source.problem_set, grid.policies[0], theirs, "best_of_n", 3)
    assert chosen.tolist() == [0, 0, 0], "they like the wrong one"
    assert set(results.table.query("method == 'best_of_n'")["prm"]) == {theirs, str(tiny_qwen_prm)}


def test_an_export_tells_two_prms_of_one_name_apart(import_of, tiny_qwen_prm, monkeypatch, tmp_path):
    monkeypatch.chdir(tiny_qwen_prm.parent)
    source, store = import_of(lines(prm=tiny_qwen_prm.name))
    runner.fill(grid_of(source, [tiny_qwen_prm.name]), store)
    rows = list(plain.rows(store))
    named = {row["prm"] for row in rows}
    assert len(named) == 3 and {None, tiny_qwen_prm.name} < named and any(n and n.startswith(f"{tiny_qwen_prm.name}@") for n in named)
    plain.write(rows, tmp_path / "all.jsonl")
    [found], _ = exchange.read_runs(tmp_path / "all.jsonl")
    again = Store(tmp_path / "again")
    assert not importing.import_into(again, found, "again", tmp_path / "all.jsonl").contents.skipped
    assert list(plain.rows(again)) == rows


def test_searches_are_refused_and_say_why(import_of, tiny_qwen_prm):
    source, _ = import_of(lines())
    for method in ("beam_search", "dvts"):
        with pytest.raises(ValueError, match=f"{method} of their-1B with .*can be scored, but not continued; leave only majority"):
            grid_of(source, [tiny_qwen_prm], methods=["majority", method])
    with pytest.raises(ValueError, match="best_of_n of their-1B with .* at N = 64, seed 0 is not in the imported data"):
        grid_of(source, [tiny_qwen_prm], methods=["best_of_n"], budgets=[64])


def test_searches_that_were_imported_have_no_samples_to_score(import_of, tiny_qwen_prm):
    source, _ = import_of([row | {"method": "beam_search", "n": 4, "width": 2} for row in lines()])
    with pytest.raises(ValueError, match="is not in the imported data; it holds:\n  beam_search of their-1B"):
        grid_of(source, [tiny_qwen_prm], methods=["best_of_n"], budgets=[2])


def test_a_search_that_was_imported_without_scores_has_the_majority_alone(import_of):
    source, store = import_of([row | {"method": "beam_search", "n": 3, "width": 3, "prm": "their-prm"} for row in lines(scored=False)])
    grid = grid_of(source, [source.runs[0].spec.prm.name], methods=["beam_search"], vote="majority")
    results = Results(grid, store)
    rows = tables.over_rules(results, source.problem_set)
    assert rows["method"].tolist() == ["beam_search"] and [*rows] == [*results.table], "no band where one rule is known"


def test_imported_samples_beside_a_policy_that_runs(import_of, tiny_qwen_prm, tiny_lm):
    source, store = import_of(lines())
    both = {"policies": [source.runs[0].spec.policy.name, str(tiny_lm)], "max_tokens": 8}
    grid = grid_of(source, [tiny_qwen_prm], **both)
    runner.fill(grid, store)
    assert len(Results(grid, store).table.query("method == 'best_of_n' and n == 3")) == 2
    with pytest.raises(ValueError, match="budget N = 4 is not in 1..samples = 3"):
        grid_of(source, [tiny_qwen_prm], **both, budgets=[3, 4])


def test_the_estimate_counts_what_a_prm_reads(import_of, tiny_qwen_prm):
    source, store = import_of(lines())
    found = measure(missing_of([(grid_of(source, [tiny_qwen_prm]), store)]))
    assert found.tokens == 0 and found.seconds > 0 and found.cache_bytes > 0


def test_changed_files_take_the_scores_that_were_given_to_them_along(import_of, tiny_qwen_prm, monkeypatch):
    dropped, drop = [], importing._drop_older
    monkeypatch.setattr(importing, "_drop_older", lambda *given: dropped.append(drop(*given)) or dropped[-1])
    source, store = import_of(lines())
    runner.fill(grid_of(source, [tiny_qwen_prm]), store)
    rows = lines()
    rows[0]["completions"][0]["text"] += "\n"
    assert import_of(rows)[0].digest == source.digest and len(list(store.runs())) == 3, "blanks at a text's end are no change"
    rows[0]["completions"][1]["text"] += " or so"
    changed, _ = import_of(rows)
    assert dropped == [[], [], [f"scores of imported:mine/their-1B with {tiny_qwen_prm}, N = 3"]]
    assert changed.digest != source.digest and {run.spec.policy.weights for run in store.runs()} == {changed.digest}
    assert runner.fill(grid_of(changed, [tiny_qwen_prm]), store) == 2


def test_on_the_command_line_with_a_notebook(import_of, tmp_path, monkeypatch, capsys):
    """As the import's own words say."""
    import_of(lines(scored=False))
    told = CliRunner().invoke(cli.app, ["import", str(tmp_path / "mine.jsonl"), "--store", str(tmp_path / "runs")], catch_exceptions=False)
    [command] = [line for line in told.output.splitlines() if "02_reward_models --preset" in line]
    assert "step scores: no best-of-n, but with a PRM that can be run" in told.output
    arguments = [part.strip("'") for part in command.replace("prm=PRM", "prm=prm-qwen-28k").replace("majority, ", "majority,").split()[3:]]
    done = CliRunner().invoke(cli.app, [*arguments, "-p", f"figures={tmp_path / 'figures'}"], catch_exceptions=False)
    assert done.exit_code == 0 and "done" in done.output, done.output
    quality = (tmp_path / "figures" / "prm_quality.csv").read_text().splitlines()
    assert len(quality) == 2 and quality[1].startswith("prm-qwen-28k,")
    arguments[arguments.index("methods=[majority,best_of_n]")] = "methods=[dvts]"
    monkeypatch.setattr(sys, "argv", ["tts", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "can be scored, but not continued" in capsys.readouterr().err


def test_processes_share_the_scoring(import_of, tiny_qwen_prm, monkeypatch):
    source, store = import_of(lines())
    grid = grid_of(source, [tiny_qwen_prm], chunk=1)
    monkeypatch.delenv("TTS_PROCESSES", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert side_by_side(grid.specs()) == (2, 1)
    assert runner.fill(grid, store) == 3 and runner.missing(grid, store) == []


def test_what_was_imported_and_is_gone_is_said(import_of):
    source, store = import_of(lines())
    grid = grid_of(source, [source.runs[-1].spec.prm.name])
    for run in list(store.runs()):
        run.remove()
        gone = f"{run.spec.method} of imported:mine/their-1B.* was imported and is no longer in .*; import its files again"
        with pytest.raises(StoreError, match=gone):
            runner.fill(grid, store)
        import_of(lines())
        assert runner.fill(grid, store) == 0
