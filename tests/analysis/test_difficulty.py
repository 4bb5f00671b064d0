"""Difficulty counts: used for exactly the weights, sampling and problems that they were made with."""

from __future__ import annotations

import pandas as pd
import pytest

from tts.analysis import difficulty
from tts.generate.grid import Grid
from tts.store.store import Store

GRID = Grid(problems={"pocket-main": 6}, policies=["policy-6k"], methods=["majority"], samples=4, budgets=[4])


@pytest.fixture
def counts(tmp_path, monkeypatch):
    """Counts of six problems, sampled now and committed to a folder of their own."""
    monkeypatch.setattr(difficulty, "COUNTS", tmp_path / "difficulty")
    made = difficulty.count(GRID, Store(tmp_path / "runs"), "policy-6k", "pocket-main", samples=8)
    difficulty.commit_counts(made, "pocket-main")
    return made


def test_counts_are_of_separate_samples(counts):
    assert list(counts.columns) == difficulty.COLUMNS and len(counts) == 6
    assert (counts["samples"] == 8).all() and counts["correct"].between(0, 8).all()
    own = difficulty.counting_grid(GRID, "policy-6k", 8, "pocket-main")
    assert own.seed != GRID.seed and own.spec("pool", "policy-6k", n=8) != GRID.spec("pool", "policy-6k", n=8)


def test_committed_counts_need_the_same_weights_sampling_and_problems(counts):
    def known(policy="policy-6k", **changes):
        return difficulty.known_pass_at_1(GRID.model_copy(update=changes), policy, "pocket-main")

    assert known().tolist() == (counts["correct"] / 8).tolist()
    assert known("policy-10k") is None
    assert known(temperature=1.5) is None
    assert known(split="development") is None
    path = difficulty.commit_counts(counts.assign(problem="another"), "pocket-main")
    assert known() is None and len(pd.read_csv(path)) == 6


def test_counts_of_other_problems_are_kept_beside(counts):
    others = counts.assign(problem_id=counts["problem_id"].str.replace("test", "selection"))
    path = difficulty.commit_counts(others, "pocket-main")
    assert len(pd.read_csv(path)) == 12 and len(difficulty.known_pass_at_1(GRID, "policy-6k", "pocket-main")) == 6


def test_counts_of_fewer_samples_do_not_replace_those_of_more(counts):
    with pytest.raises(ValueError, match="has counts of . samples, which fewer would not replace; give as many or more"):
        difficulty.commit_counts(counts.assign(samples=counts["samples"] - 1, correct=0), "pocket-main")
    difficulty.commit_counts(counts.assign(samples=counts["samples"] - 1, correct=0, weights="others"), "pocket-main")


def test_ids_that_are_numbers_are_known_again(tmp_path, monkeypatch):
    monkeypatch.setattr(difficulty, "COUNTS", tmp_path / "difficulty")
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f'{{"id": "{i}", "problem": "{i}+1=?", "answer": "{i + 1}"}}\n' for i in range(3)))
    grid = GRID.model_copy(update={"problems": {str(path): 3}})
    made = difficulty.count(grid, Store(tmp_path / "runs"), "policy-6k", str(path), samples=4)
    for _ in range(2):
        assert len(pd.read_csv(difficulty.commit_counts(made, str(path)))) == 3
    assert difficulty.known_pass_at_1(grid, "policy-6k", str(path)).tolist() == (made["correct"] / 4).tolist()


def test_pass_at_1_counts_what_is_not_committed(counts, tmp_path):
    found = difficulty.pass_at_1(GRID, Store(tmp_path / "runs"), "policy-6k", "pocket-main")
    assert found.tolist() == (counts["correct"] / 8).tolist()
    longer = GRID.model_copy(update={"problems": {"pocket-main": 7}})
    assert len(difficulty.pass_at_1(longer, Store(tmp_path / "runs"), "policy-6k", "pocket-main", samples=4)) == 7


def test_counts_of_a_file_of_problems_stay_in_their_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(difficulty, "COUNTS", tmp_path)
    assert difficulty._path("/some/where/mine.jsonl") == tmp_path / "mine.csv"
