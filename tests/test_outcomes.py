"""Outcomes: what is collected, and that a fresh run agrees with what is committed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tts import outcomes, strategy
from tts.accuracy import Results
from tts.grid import Grid
from tts.runner import fill
from tts.store import Store

POLICIES, PRM, SETS = ["policy-32k", "policy-51k"], "prm-qwen-328k", {"pocket-main": 10}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Ten problems of the full grid, generated now."""
    grid = Grid(problems=SETS, policies=POLICIES[:1], prms=[PRM])
    store = Store(tmp_path_factory.mktemp("runs"))
    fill(grid, store)
    return grid, outcomes.collect(Results(grid, store))


def test_every_cell_has_every_problem_once(fresh):
    grid, rows = fresh
    assert (rows.groupby(outcomes.CELL)["problem_id"].nunique() == 10).all() and len(rows) == 10 * len(rows.groupby(outcomes.CELL))
    assert set(rows["method"]) == {"cot", "pass", "majority", "best_of_n", "beam_search", "dvts"}
    assert rows["accuracy"].between(0, 1).all()


def test_fresh_outcomes_agree_with_the_committed_ones(fresh):
    grid, rows = fresh
    full = outcomes.committed(grid)
    assert not full.empty, "the committed outcomes do not belong to the committed models"
    key = [*outcomes.CELL, "seed", "problem_id"]
    both = rows.merge(full, on=key, suffixes=("", " committed"))
    assert len(both) == len(rows)
    # The same seed gives the same samples but where rounding moves one across a token's boundary.
    assert (np.abs(both["accuracy"] - both["accuracy committed"]) < 1e-6).mean() > 0.97


def test_the_full_run_is_as_large_as_it_says():
    grid = Grid(problems={"pocket-main": 1}, policies=POLICIES, prms=[PRM])
    full = outcomes.committed(grid)
    assert full["seed"].nunique() == 2
    ids = pd.Index(full["problem_id"].unique())
    for policy in POLICIES:
        counts = outcomes.bins_of(grid, policy, "pocket-main", len(ids)).reindex(ids).value_counts()
        assert all(counts[name] >= 150 for name in strategy.BINS), counts


def test_committed_outcomes_of_other_settings_or_models_are_left_out(fresh):
    grid, _ = fresh
    assert outcomes.committed(grid.model_copy(update={"temperature": 0.9})).empty
    stranger = outcomes.committed(grid.model_copy(update={"prms": ["implicit:policy-6k"]}))
    assert set(stranger["prm"]) == {""}


def test_seeds_are_averaged_within_a_problem_before_the_interval(tmp_path):
    cell = {"problems": "p", "policy": "a", "prm": "", "method": "majority", "n": 4}
    rows = pd.DataFrame(
        [
            {**cell, "seed": seed, "problem_id": f"{i}", "accuracy": value}
            for seed, values in ((0, [1, 0, 1]), (1, [0, 0, 1]))
            for i, value in enumerate(values)
        ]
    )
    [row] = outcomes.summary(rows).to_dict("records")
    assert row["accuracy"] == pytest.approx(0.5) and row["count"] == 3


def test_outcomes_of_different_settings_are_not_kept_in_one_file(fresh, tmp_path):
    grid, rows = fresh
    with pytest.raises(ValueError, match="different settings"):
        outcomes.commit([(grid, rows), (grid.model_copy(update={"vote": "majority"}), rows)], tmp_path / "x.parquet")
    path = outcomes.commit([(grid, rows), (grid, rows)], tmp_path / "y.parquet")
    again = outcomes.committed(grid, path)
    assert len(again) == len(rows) and np.allclose(sorted(again["accuracy"]), sorted(rows["accuracy"]))
