"""Costs that are not known: imports without token counts, models whose size no name tells. None of them is taken for nothing."""

from __future__ import annotations

import json
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from tts import exchange
from tts.analysis.accuracy import Results
from tts.analysis.flops import Cost
from tts.claims import comparisons
from tts.common.names import shown
from tts.exchange import importing
from tts.generate.grid import Grid
from tts.report import comparison_plots, html, plots
from tts.store.store import Store
from tts.strategy import adviser, choices


def test_a_strategy_is_learnt_where_no_cost_is_known(tmp_path):
    """Neither token counts nor the models' sizes: costs are unknown, and none is taken for nothing."""
    rows = [
        {"problem": f"What is {i}+1?", "answer": str(i + 1), "policy": "a", "prm": "b"}
        | {"completions": [{"text": f"\\boxed{{{i + 1 + wrong}}}", "scores": [score]} for wrong, score in ((0, 0.9), (1, 0.2))]}
        for i in range(12)
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "runs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = Store(tmp_path / "store")
    found, _ = exchange.read_runs(tmp_path / "in")
    source = importing.import_into(store, found[0], "x", tmp_path / "in").source
    models = {"policies": ["imported:x/a"], "prms": ["imported:x/b"]}
    grid = Grid(problems={source.problem_set: 12}, **models, methods=["majority", "best_of_n"], samples=2, budgets=[2])
    results, at = Results(grid, store), choices.Setting(source.problem_set, *grid.policies, *grid.prms, 2)
    entries = adviser.learn(results, *at[:3], peek=2).entries
    assert {e.method for e in entries} == {"best_of_n"} and {(e.policy_tokens, e.prm_tokens, e.flops) for e in entries} == {(None,) * 3}
    equal = choices.at_equal_tokens(results, at, np.array(["easy"] * 12), peek=2)
    assert list(equal["strategy"]) == ["majority", "best_of_n"] and equal["tokens"].isna().all(), "nothing can be priced"
    gain = choices.efficiency(results, at, choices.choices(grid.methods), np.array(["easy"] * 12))
    assert gain["in tokens"] == "unknown" and gain["in samples"].interval.estimate == 0.5, (
        "majority is as accurate with one sample, and TTS has two"
    )
    page = html._what_ran([results])
    assert "<td>unknown</td>" in page and "NaN" not in page


def test_no_pair_is_made_of_a_policy_of_unknown_size(monkeypatch):
    sizes = {"a": 1e6, "b": np.nan, "c": 1e9}
    monkeypatch.setattr(comparisons.costs, "shape_of", lambda name: SimpleNamespace(parameters=sizes[name]))
    monkeypatch.setattr(comparisons, "ways_of", lambda *asked: {"small": Cost(deployed=1.0, decode=np.nan), "large": Cost(deployed=np.nan)})
    right = SimpleNamespace(grid=SimpleNamespace(policies=list(sizes)), accuracy=lambda *asked: np.ones(10))
    found = comparisons.flops_comparisons(right, "set", "prm", "dvts", 4)
    assert set(zip(found["small with TTS"], found["large with CoT"])) == {("a", "c")}
    assert comparisons.widest(found) is None, "no ratio is known"


def test_figures_say_what_is_unknown():
    assert [shown(number, ".1f") for number in (2, np.nan, None)] == ["2.0", "unknown", "unknown"]
    _, ax = plt.subplots()
    rows = pd.DataFrame([Cost(prefill=1.0, decode=3.0), Cost(prefill=np.nan)]).assign(policy=["a", "b"])
    comparison_plots.cost_shares(rows, ("prefill", "decode"), ax)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.25, 0, 0.75, 0])
    assert [(text.get_text(), text.get_position()[1]) for text in ax.texts] == [("unknown", 1)]
    _, ax = plt.subplots()
    rows = pd.DataFrame(
        {"prm": ["a", "b", "c"], "f1": 0.5, "accuracy": 0.5, "low": 0.4, "high": 0.6, "parameters": [np.nan, 100.0, 64000.0]}
    )
    plots.quality_against_accuracy(rows, (0.0, 50.0), ax)
    points = [drawn for drawn in ax.collections if isinstance(drawn, PathCollection)]
    crosses = [len(point.get_paths()[0].vertices) == 4 for point in points]
    assert list(zip(crosses, [point.get_sizes()[0] for point in points])) == [(True, 24), (False, 12), (False, 36)]
