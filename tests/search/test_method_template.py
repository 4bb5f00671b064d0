"""The template of a method, registered through the public path: everywhere it appears it has its own numbers, at every budget."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from greedy_steps import GREEDY_STEPS, greedy_steps
from torture.invoke import command_line, in_process

from tts.analysis.accuracy import Results
from tts.common.paths import ROOT
from tts.exchange import plain
from tts.generate.chunks import Engines
from tts.generate.grid import Grid, ParameterError, grid_of
from tts.generate.runner import fill
from tts.report import plots, tables
from tts.search import registry
from tts.search.driver import Driver
from tts.store.store import Store
from tts.tasks.extraction import boxed_answer

POLICY, PRM = "policy-51k", "implicit:policy-51k"
GRID = {"problems": {"pocket-main": 8}, "policies": [POLICY], "prms": [PRM], "methods": ["best_of_n", "greedy_steps"]}
GRID |= {"samples": 4, "budgets": [2, 4], "beam_width": 1}


@pytest.fixture
def registered():
    registry.register(GREEDY_STEPS)
    yield
    del registry.METHODS[GREEDY_STEPS.name]


@pytest.fixture(scope="module")
def expected():
    """Accuracy and policy tokens at each budget, by the search itself and without any of the suite's bookkeeping."""
    grid, engines = Grid(**GRID | {"methods": ["best_of_n"]}), Engines(128)
    policy, prm = engines.policy(POLICY, grid.sampling()), engines.prm(PRM)
    [problems], found = grid.chunks("pocket-main"), {}
    for n in grid.budgets:
        roots = [policy.root(p["id"], p["problem"]) for p in problems]
        outcomes = Driver(policy, prm).run([(root, greedy_steps(root, n)) for root in roots])
        answers = [boxed_answer(o.trajectories[0].text) if o.trajectories else None for o in outcomes]
        right = sum(answer == p["answer"] for answer, p in zip(answers, problems)) / len(problems)
        found[n] = right, sum(o.policy_tokens for o in outcomes) / len(problems)
    assert len(set(found.values())) == 2, "the budgets cannot be told apart"
    return found


def numbers(table):
    rows = table[table["method"] == "greedy_steps"]
    return {row.n: (pytest.approx(row.accuracy), pytest.approx(row.policy_tokens)) for row in rows.itertuples()}


def test_it_has_its_own_numbers_in_table_figure_and_export(registered, expected, tmp_path):
    grid, store = Grid(**GRID), Store(tmp_path)
    fill(grid, store)
    table = Results(grid, store).table
    assert expected == numbers(table)
    for n in grid.budgets:
        shown = tables.at_budget(table[table["n"].isin([1, n])], n)["greedy_steps"].item()
        assert shown.startswith(f"{100 * expected[n][0]:.1f} [") and "N =" not in shown
    figure = plots.grid_of_panels(table)
    [line] = [line for line in figure.axes[0].get_lines() if line.get_label() == "Greedy steps"]
    # Methods with error bars stand side by side, each a little off its budget.
    assert {round(x): y for x, y in zip(line.get_xdata(), line.get_ydata())} == {
        n: pytest.approx(right) for n, (right, _) in expected.items()
    }
    assert "Greedy steps" in [text.get_text() for text in figure.legends[0].get_texts()]
    plt.close(figure)
    exported = [row for row in plain.rows(store) if row["method"] == "greedy_steps"]
    for n, (_, tokens) in expected.items():
        own = [row["policy_tokens"] for row in exported if row["n"] == n]
        assert len(own) == 8 and sum(own) / 8 == pytest.approx(tokens)


@pytest.mark.slow
def test_it_runs_through_a_notebook(registered, expected, tmp_path, monkeypatch):
    """Kernels and commands know it by the plugin that the environment names."""
    (tmp_path / "my_plugin.py").write_text(
        "from greedy_steps import GREEDY_STEPS\nfrom tts.search import register\n\nregister(GREEDY_STEPS)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TTS_PLUGINS", "my_plugin")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT / "docs" / "examples"), str(ROOT)]))
    listed = subprocess.run([sys.executable, "-m", "tts", "list"], capture_output=True, text=True)
    assert "greedy_steps" in listed.stdout, listed.stdout + listed.stderr
    asked = {key: value for key, value in GRID.items()} | {"store": str(tmp_path / "runs"), "figures": str(tmp_path / "figures")}
    done = in_process(
        command_line("run", "01_tts_methods", *(part for key, value in asked.items() for part in ("-p", f"{key}={json.dumps(value)}")))
    )
    assert done.code == 0, done.out + done.err
    with (tmp_path / "figures" / "tts_methods_pocket-main.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "greedy_steps"]
    assert {int(r["n"]): (float(r["accuracy"]), float(r["policy_tokens"])) for r in rows} == {
        n: pytest.approx(v) for n, v in expected.items()
    }


def test_a_changed_method_makes_its_runs_anew(registered):
    grid, changed = Grid(**GRID), replace(GREEDY_STEPS, version=2)
    before = grid.spec("greedy_steps", POLICY, PRM, 4)
    registry.METHODS["greedy_steps"] = changed
    assert before.key != grid.spec("greedy_steps", POLICY, PRM, 4).key and before.version is None


def test_an_unknown_method_is_an_error_everywhere():
    with pytest.raises(ParameterError, match="unknown method 'greedy_steps'; choose from majority, best_of_n, beam_search, dvts"):
        grid_of(**GRID)
    with pytest.raises(registry.MethodError, match="unknown method 'greedy_steps'"):
        registry.method_of("greedy_steps")
    with pytest.raises(registry.MethodError, match="unknown method"):
        plots.methods_in(["majority", "greedy_steps"])


def test_two_methods_cannot_share_a_name(registered):
    registry.register(GREEDY_STEPS)  # the same one again changes nothing
    with pytest.raises(registry.MethodError, match="there is a method 'dvts' already"):
        registry.register(registry.Method("dvts", "other", "C0", "o", GREEDY_STEPS.build))


# Public names, readers of other tools' file names, and the rule that the study's authors used.
NAMING = {"__init__.py", "exchange/compute_optimal_tts.py", "exchange/search_and_learn.py", "exchange/released.py", "strategy/choices.py"}


def test_no_module_lists_the_methods():
    """The names of the study's methods stand together in no other file than the one that registers them."""
    names = ("beam_search", "dvts", "best_of_n")
    holders = [p for p in Path(ROOT / "tts").rglob("*.py") if all(f'"{n}"' in p.read_text() for n in names)]
    assert {p.relative_to(ROOT / "tts").as_posix() for p in holders} - NAMING == {"search/__init__.py"}
