"""Outcomes: what is collected, and that a fresh run agrees with what is committed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tts.analysis import committed, difficulty
from tts.analysis.accuracy import Results
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.models.files import pocket_models
from tts.report import tables
from tts.store.store import Store
from tts.strategy import choices
from tts.tasks.selection import RULES

POLICIES, PRM, SETS = ["policy-32k", "policy-51k"], "prm-qwen-328k", {"pocket-main": 10}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Ten problems of the full grid, generated now."""
    grid = Grid(problems=SETS, policies=POLICIES[:1], prms=[PRM])
    store = Store(tmp_path_factory.mktemp("runs"))
    fill(grid, store)
    return grid, committed.collect(Results(grid, store)), store


@pytest.mark.slow
def test_every_cell_has_every_problem_once(fresh):
    grid, rows, _ = fresh
    assert (rows.groupby(committed.CELL)["problem_id"].nunique() == 10).all() and len(rows) == 10 * len(rows.groupby(committed.CELL))
    assert set(rows["method"]) == {"cot", "pass", "majority", "best_of_n", "beam_search", "dvts"}
    assert rows["accuracy"].between(0, 1).all()


@pytest.mark.slow
def test_fresh_outcomes_agree_with_the_committed_ones(fresh):
    grid, rows, _ = fresh
    held = [rows.take(np.concatenate([*places.values()])) for rows, places in committed._holding(grid, committed.FOLDER) if places]
    full = pd.concat([part.astype(dict.fromkeys(committed.NAMES, str)) for part in held])
    assert not full.empty, "the committed outcomes do not belong to the committed models"
    key = [*committed.CELL, "seed", "problem_id"]
    both = rows.merge(full, on=key, suffixes=("", " committed"))
    assert len(both) == len(rows)
    # The same seed gives the same samples but where rounding moves one across a token's boundary.
    assert (both["policy_tokens"] == both["policy_tokens committed"]).mean() > 0.97
    # A tie in a majority vote went to the earlier sample when they were committed; now it counts by the share of right ones.
    voted = both["method"] == "majority"
    assert (np.abs(both["accuracy"] - both["accuracy committed"]) < 1e-6)[~voted].mean() > 0.97 and not voted.all()


def test_the_full_run_is_as_large_as_it_says(tmp_path):
    grid = Grid(problems={"pocket-main": 1}, policies=POLICIES, prms=[PRM])
    full = committed.committed(grid)
    assert full.seeds == 2 and full.grid.policies == POLICIES
    for policy in POLICIES:
        bins = choices.absolute_bins(difficulty.pass_at_1(full.grid, Store(tmp_path), policy, "pocket-main"))
        assert len(bins) == len(full.accuracy("pocket-main", policy, PRM, "dvts", 64))
        assert all((bins == name).sum() >= 150 for name in choices.BINS)
    assert not list(tmp_path.iterdir()), "the counts of the full run's problems are not all committed"


def test_all_policies_of_the_full_run_have_their_pools():
    grid = Grid(
        problems={"pocket-main": 1}, policies=pocket_models("policy"), prms=["implicit:policy-216k"], methods=["majority", "best_of_n"]
    )
    full = committed.committed(grid)
    assert set(full.grid.policies) == {name for name in grid.policies if name.count("-") == 1}
    assert full.grid.problems["pocket-main"] >= 900 and full.seeds == 2


@pytest.mark.slow
def test_committed_outcomes_of_other_settings_or_models_are_left_out(fresh):
    grid, *_ = fresh
    assert committed.committed(grid) is not None
    for change in ({"temperature": 0.9}, {"prms": ["implicit:policy-6k"]}, {"budgets": [4, 32]}, {"policies": ["policy-6k"]}):
        assert committed.committed(grid.model_copy(update=change)) is None, change


def test_seeds_are_averaged_within_a_problem_before_the_interval():
    grid = Grid(problems={"pocket-main": 3}, policies=["a"], methods=["majority"], budgets=[4])
    ids = [problem["id"] for problem in grid.chunks("pocket-main")[0]]
    rows = pd.DataFrame(
        [
            {"problems": "pocket-main", "policy": "a", "prm": "", "method": method, "n": n, "seed": seed, "problem_id": name}
            | dict.fromkeys(committed.VALUES, float(value))
            for method, n in (("cot", 1), ("pass", 4), ("majority", 4))
            for seed, values in ((0, [1, 0, 1]), (1, [0, 0, 1]))
            for name, value in zip(ids, values)
        ]
    )
    full = committed.Committed(grid, rows)
    assert full.seeds == 2 and full.accuracy("pocket-main", "a", None, "majority", 4).tolist() == [0.5, 0, 1]
    assert full.table["accuracy"].tolist() == pytest.approx([0.5] * 3) and set(full.table["count"]) == {3}


def test_the_full_run_has_no_spread_over_rules():
    full = committed.committed(Grid(problems={"pocket-main": 1}, policies=POLICIES[:1], prms=[PRM]))
    rows = tables.over_rules(full, "pocket-main")
    assert set(rows["method"]) > {"best_of_n", "beam_search", "dvts"} and [*rows] == [*full.table]


@pytest.mark.slow
def test_outcomes_of_different_settings_are_not_kept_in_one_file(fresh, tmp_path):
    grid, rows, store = fresh
    with pytest.raises(ValueError, match="different settings"):
        committed.commit([(grid, rows), (grid.model_copy(update={"vote": "majority"}), rows)], tmp_path / "x.parquet")
    path = committed.commit([(grid, rows), (grid, rows)], tmp_path / "y.parquet")
    again, results = committed.committed(grid, path.parent), Results(grid, store)
    assert again.grid == grid and again.seeds == 1
    kept = results.table[results.table["n"].isin(grid.budgets) | (results.table["method"] == "cot")]
    pd.testing.assert_frame_equal(again.table, kept.reset_index(drop=True), rtol=1e-5)


@pytest.mark.slow
def test_a_file_answers_under_every_rule(fresh, tmp_path):
    grid, rows, store = fresh
    committed.commit([(grid, rows)], tmp_path / "x.parquet")
    results, held = Results(grid, store), committed.committed(grid, tmp_path)
    asked = ("pocket-main", POLICIES[0], PRM, "best_of_n", 64)
    assert held.rules(*asked) == list(RULES)
    for rule in RULES:
        expected = results.accuracy(*asked, rule)
        assert held.accuracy(*asked, rule) == pytest.approx(expected)
        other = grid.model_copy(update=rule._asdict() if rule.aggregate else {"vote": "majority"})
        again = committed.committed(other, tmp_path)
        assert again.accuracy(*asked) == pytest.approx(expected), rule
        assert again.accuracy("pocket-main", POLICIES[0], None, "majority", 64) == pytest.approx(held.accuracy(*asked, RULES[-1]))
    committed.commit([(grid, rows.drop(columns="min+max"))], tmp_path / "x.parquet")
    assert committed.committed(grid.model_copy(update={"aggregate": "min", "vote": "max"}), tmp_path) is None


@pytest.mark.slow
def test_what_two_files_hold_counts_once(fresh, tmp_path):
    grid, rows, _ = fresh
    committed.commit([(grid, rows[rows["method"] != "dvts"])], tmp_path / "a.parquet")
    assert committed.committed(grid, tmp_path) is None
    committed.commit([(grid, rows[rows["method"] != "majority"])], tmp_path / "b.parquet")
    committed.commit([(grid, rows)], tmp_path / "alone" / "c.parquet")
    again, alone = committed.committed(grid, tmp_path), committed.committed(grid, tmp_path / "alone")
    assert again.grid == grid
    pd.testing.assert_frame_equal(again.table, alone.table)


@pytest.mark.slow
def test_problems_that_not_every_budget_holds_are_left_out(fresh, tmp_path):
    grid, rows, _ = fresh
    few = rows[(rows["n"] != 64) | rows["problem_id"].isin(sorted(set(rows["problem_id"]))[:4])]
    committed.commit([(grid, few)], tmp_path / "x.parquet")
    assert committed.committed(grid, tmp_path).grid.problems == {"pocket-main": 4}
    assert committed.committed(grid.model_copy(update={"budgets": [4, 16]}), tmp_path).grid.problems == {"pocket-main": 10}
