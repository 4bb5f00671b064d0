"""The adviser: learnt from a small real run, kept, looked up, applied; what does not belong is refused."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from tts.analysis.accuracy import Results
from tts.common import paths
from tts.generate.chunks import Engines
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.models.files import POCKET_FOLDER
from tts.search.registry import METHODS
from tts.store.store import Store
from tts.strategy import adviser, choices
from tts.strategy.compute_optimal import crossed
from tts.study import solve_cli
from tts.study.cli import app, guarded

POLICY, PRM = "policy-20k", "implicit:policy-51k"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    grid = Grid(problems={"pocket-main": 24}, policies=[POLICY], prms=[PRM], samples=16, budgets=[4, 16])
    store = Store(tmp_path_factory.mktemp("runs"))
    fill(grid, store)
    return Results(grid, store)


@pytest.fixture(scope="module")
def plan(results):
    return adviser.learn(results, "pocket-main", POLICY, PRM, peek=2)


@pytest.fixture
def file(plan, tmp_path):
    return adviser.save([plan], tmp_path / "strategy.json")


def test_every_difficulty_and_budget_has_an_entry(plan):
    assert [(e.n, e.difficulty) for e in plan.entries] == [(n, d) for n in (4, 16) for d in ("easy", "medium", "hard")]
    assert all(e.problems == 8 and 0 <= e.low <= e.accuracy <= e.high <= 1 and e.policy_tokens > 0 for e in plan.entries)
    easy, hard = plan.thresholds
    assert plan.difficulty(easy) == "easy" and plan.difficulty((easy + hard) / 2) == "medium" and plan.difficulty(hard - 1e-9) == "hard"


def test_a_budget_buys_the_best_that_it_can_pay_for(plan):
    assert {e.n for e in plan.within(4, "samples")} == {4}
    for unit in ("samples", "tokens", "flops"):
        budget = sorted(e.cost(unit) for e in plan.entries)[-2]
        for found in plan.within(budget, unit):
            rivals = [e for e in plan.entries if e.difficulty == found.difficulty and e.cost(unit) <= budget]
            assert found.cost(unit) <= budget and found.accuracy == max(e.accuracy for e in rivals)
    with pytest.raises(adviser.StrategyError, match="0.5 samples buy nothing; the least of a strategy for easy problems is 4"):
        plan.within(0.5, "samples")
    with pytest.raises(adviser.StrategyError, match=r"2 samples buy one greedy solution \(CoT\), \d+.\d%; the least"):
        plan.within(2, "samples")


def test_the_budgets_that_were_run_are_said(plan):
    said = {budget: plan.bought(budget, "samples") for budget in (4, 15, 1000)}
    assert said[4] == "N = 4, 16 were run; 4 samples pay for N = 4 at most"
    assert said[15].endswith("15 samples pay for N = 4 at most") and said[1000].endswith("1000 samples pay for N = 16 at most")


def test_the_advice_is_compared_with_what_needs_no_strategy(plan):
    """Four problems of each difficulty, of which the advice solves 3, 2 and 0; CoT solves these and a hard one."""
    entries = [plan.entries[0].model_copy(update={"difficulty": name}) for name in ("easy", "medium", "hard")]
    right = {4: [0, 1, 1] + [0, 1, 1] + [0, 1, 0] + [0, 0, 0]}
    cot = plan.plain[0].model_copy(update={"right": [*right[4][:9], 1, 0, 0]})
    votes = [adviser.Plain(name=f"majority voting, N = {n}", right=[n / 16] * 12, cost={"samples": n}) for n in (4, 16)]
    fixed = [adviser.Plain(name=f"the best fixed method, DVTS, N = {n}", right=[0] * 12, cost={"samples": n}) for n in (4, 16)]
    held = {"entries": entries, "right": right, "predicted": ["hard", "easy", "medium"] * 4, "plain": [cot, *votes], "fixed": fixed}
    said = plan.model_copy(update=held).overall(4, "samples")
    assert (
        said.startswith("accuracy 41.7% [") and " on 12 problems; not decidedly other than one greedy solution (CoT), 50.0% (-8.3 [" in said
    )
    assert "; not decidedly other than majority voting, N = 4, 25.0% (+16.7 [" in said and "N = 16" not in said
    assert "; decidedly better than the best fixed method, DVTS, N = 4, 0.0% (+41.7 [" in said
    assert "; decidedly worse than majority voting, N = 16, 100.0% (-58.3 [" in plan.model_copy(update=held).overall(16, "samples")
    assert "the best fixed method, DVTS, N = 4" in plan.model_copy(update=held).overall(16, "samples"), "of equal ones the least N"
    held["fixed"] = [fixed[0], fixed[1].model_copy(update={"right": [1] * 12})]
    assert "; decidedly worse than the best fixed method, DVTS, N = 16, 100.0%" in plan.model_copy(update=held).overall(16, "samples")
    held["plain"] = [cot.model_copy(update={"right": [0] * 12})]
    assert "; decidedly better than one greedy solution (CoT), 0.0% (+41.7 [" in plan.model_copy(update=held).overall(4, "samples")


def test_entries_of_two_budgets_are_put_together(plan):
    """At N = 4 all easy problems are solved and no other; at N = 16 all but the easy ones, which stay with N = 4."""
    accuracy = {("easy", 4): 1, ("medium", 4): 0, ("hard", 4): 0, ("easy", 16): 0, ("medium", 16): 1, ("hard", 16): 1}
    entries = [e.model_copy(update={"accuracy": accuracy[e.difficulty, e.n]}) for e in plan.entries]
    right = {n: [accuracy[name, n] for name in plan.predicted] for n in (4, 16)}
    both = plan.model_copy(update={"entries": entries, "right": right})
    assert both.overall(4, "samples").startswith("accuracy 33.3% [") and both.overall(16, "samples").startswith("accuracy 100.0% [")


def test_the_parts_make_the_whole(plan):
    for e in plan.entries:
        inside = np.array(plan.predicted) == e.difficulty
        assert inside.sum() == e.problems and np.array(plan.right[e.n])[inside].mean() == pytest.approx(e.accuracy)
    assert [(p.cost["samples"], len(p.right)) for p in plan.plain] == [(1, 24), (4, 24), (16, 24)]
    assert [p.name.split()[0] for p in plan.plain] == ["one", "majority", "majority"]


def test_the_best_fixed_method_is_cross_fitted_over_all_problems(plan, results):
    for known in plan.fixed:
        n = int(known.name.rpartition(" ")[2])
        values = choices.values(results, "pocket-main", POLICY, PRM, n, candidates := choices.choices(results.grid.methods))
        method, rule = candidates[values.mean(1).argmax()]
        assert (
            known.name.startswith(f"one method for all problems, chosen on others of them; on all: {METHODS[method].label}")
            and known.cost["samples"] == n
        )
        assert known.right == list(crossed(values))
        assert known.cost["tokens"] == pytest.approx(results.policy_tokens("pocket-main", POLICY, PRM, method, n).mean())


def test_it_solves_a_problem_and_says_what_it_cost(plan, file):
    again = adviser.load(file, POLICY, PRM)
    assert again == plan
    found = adviser.solve(again, Engines(batch=128), "7,+8=?", 16)
    assert found.answer == "15" and found.steps[-1] == "\\boxed{15}" and found.entry.difficulty == again.difficulty(found.score)
    assert found.policy_tokens > 0 and found.prm_tokens > 0
    assert found == adviser.solve(again, Engines(batch=128), "7,+8=?", 16)
    with pytest.raises(adviser.StrategyError, match="the problem is empty"):
        adviser.solve(again, Engines(batch=128), " ", 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["strategies"][0]["policy"].update(weights="other"), "made with other weights"),
        (
            lambda c: c["strategies"][0]["policy"].update(name="policy-6k"),
            "holds no strategy for policy-20k with implicit:policy-51k; it holds",
        ),
        (lambda c: c.update(version=1), r"not a strategy file of this version \(version: Input should be 2 \(given: 1\)\); run `python"),
        (lambda c: c["strategies"][0].update(entries="none"), "is not a strategy file"),
        (lambda c: c.pop("strategies"), "is not a strategy file"),
        (lambda c: c["strategies"][0]["right"].pop("4"), "not of the same problems, difficulties and N"),
        (lambda c: c["strategies"][0]["predicted"].pop(), "not of the same problems, difficulties and N"),
        (lambda c: c["strategies"][0]["plain"][1]["right"].append(1), "not of the same problems, difficulties and N"),
    ],
)
def test_a_strategy_of_something_else_is_refused(file, change, message):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(adviser.StrategyError, match=message):
        adviser.load(file, POLICY, PRM)


def test_damaged_and_missing_files_are_refused(file):
    file.write_text(file.read_text()[:100])
    with pytest.raises(adviser.StrategyError, match="is not a strategy file"):
        adviser.load(file, POLICY, PRM)
    file.unlink()
    with pytest.raises(adviser.StrategyError, match="run `python -m tts run 05_compute_optimal -p policy=policy-20k"):
        adviser.load(file, POLICY, PRM)


def test_unknown_costs_stay_unknown_and_only_their_units_are_refused(plan, tmp_path, capsys, monkeypatch):
    unknown = [e.model_copy(update={"policy_tokens": None, "flops": None}) for e in plan.entries]
    some = plan.model_copy(update={"entries": [*plan.entries[:-1], plan.entries[-1].model_copy(update={"flops": None})]})
    for unit in ("tokens", "flops"):
        with pytest.raises(adviser.StrategyError, match=f"costs in {unit} are unknown for policy-20k with .*; use --unit samples"):
            plan.model_copy(update={"entries": unknown}).within(1e30, unit)
    assert len(some.within(1e30, "tokens")) == 3
    with pytest.raises(adviser.StrategyError, match="costs in flops are unknown"):
        some.within(1e30, "flops")
    file = adviser.save([plan.model_copy(update={"entries": unknown})], tmp_path / "unknown.json")
    monkeypatch.setattr("sys.argv", ["tts", "advise", "--policy", POLICY, "--prm", PRM, "--strategy", str(file)])
    with pytest.raises(SystemExit) as stopped:
        guarded(app)
    printed = capsys.readouterr().out
    assert stopped.value.code == 0 and printed.count("policy tokens unknown, PRM tokens ") == 3 and printed.count("FLOPs unknown each") == 3
    table = adviser.table(unknown)
    assert set(table["flops"]) == set(table["policy_tokens"]) == {"unknown"} and "unknown" not in set(table["prm_tokens"])


def test_from_the_command_line(file, capsys, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["tts", *arguments, "--policy", POLICY, "--prm", PRM, "--strategy", str(file)])
        with pytest.raises(SystemExit) as stopped:
            guarded(app)
        printed = capsys.readouterr()
        return stopped.value.code, printed.out, printed.err

    code, out, _ = run("advise", "--budget", "16")
    assert (
        code == 0
        and "easy:" in out
        and "hard:" in out
        and "all: accuracy " in out
        and "N = 4, 16 were run; 16 samples pay for N = 16" in out
    )
    code, out, _ = run("solve", "7,+8=?", "--budget", "16")
    assert code == 0 and "answer: 15" in out and "policy tokens" in out and "16 samples pay for N = 16" in out
    code, _, err = run("advise", "--budget", "0.5")
    assert code == 2 and err.startswith("error: 0.5 samples buy nothing") and "Traceback" not in err


def test_a_model_in_a_folder_may_be_named_from_where_one_is(plan, tmp_path, capsys, monkeypatch):
    """A study keeps its models by absolute paths."""
    kept = adviser.Model(name=str(POCKET_FOLDER / POLICY), weights=plan.policy.weights)
    file = adviser.save([plan.model_copy(update={"policy": kept})], tmp_path / "strategy.json")
    monkeypatch.chdir(POCKET_FOLDER.parent)
    monkeypatch.setattr("sys.argv", ["tts", "advise", "--policy", f"models/{POLICY}", "--prm", PRM, "--strategy", str(file)])
    with pytest.raises(SystemExit) as stopped:
        guarded(app)
    assert stopped.value.code == 0 and "easy:" in capsys.readouterr().out


def test_without_a_file_the_studys_is_used_else_the_latest_of_a_changed_run(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    study = tmp_path / "figures" / "pocket"
    other = plan.model_copy(update={"policy": adviser.Model(name="policy-6k", weights="any")})
    for age, (folder, held) in enumerate([("own/a-1", plan), ("own/b-2", plan.model_copy(update={"peek": 9})), ("own/c-3", other)]):
        os.utime(adviser.save([held], study / folder / "strategy.json"), (age, age))
    assert solve_cli._strategy(None, POLICY, PRM).peek == 9
    adviser.save([plan], study / "strategy.json")
    assert solve_cli._strategy(None, POLICY, PRM) == plan
    with pytest.raises(adviser.StrategyError, match="holds no strategy for policy-51k"):
        solve_cli._strategy(None, "policy-51k", PRM)
