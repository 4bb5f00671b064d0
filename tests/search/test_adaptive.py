"""Votes that stop early: the rules by hand, and their accuracies and costs from a stored pool against every sequence of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts.analysis import costs, stats
from tts.analysis.accuracy import Results
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.search.adaptive import adaptive_consistency, early_stopping, stays_ahead
from tts.store.store import Store

answers = st.lists(st.integers(-1, 3), min_size=1, max_size=24)


def test_the_beta_criterion_by_hand():
    """Beta(v + 1, w + 1) above 1/2: of one vote 1 - 1/4, of four 1 - 1/32, of four to one 57/64."""
    assert [stays_ahead(1, 0), stays_ahead(4, 0), stays_ahead(4, 1)] == [0.75, 31 / 32, 57 / 64]
    assert stays_ahead(3, 3) == 0.5


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        ([7, 7, 7, 7, 5, 5], 4),  # 31/32 after four, 15/16 after three
        ([7, 7, 5, 7, 7, 7, 7, 7, 7], 7),  # six to one: 1 - 9/256; five to one: 1 - 8/128
        ([7, 5, 7, 5], 4),
        ([-1, -1, -1, -1, -1, -1], 6),  # what has no answer has no vote
        ([7, -1, 7, -1, 7, -1, 7, 5], 7),
    ],
)
def test_adaptive_consistency_by_hand(drawn, expected):
    assert adaptive_consistency(drawn) == expected


@pytest.mark.parametrize(
    ("drawn", "window", "expected"),
    [
        ([7, 7, 7, 5], 3, 3),
        ([5, 7, 7, 7, 7, 7], 3, 6),  # windows, not runs
        ([7, 7, 5, 5], 2, 2),
        ([-1, -1, 7, 7], 2, 4),
        ([7, 5, 7], 2, 3),
    ],
)
def test_early_stopping_by_hand(drawn, window, expected):
    assert early_stopping(drawn, window) == expected


@given(answers)
def test_never_more_than_there_are(drawn):
    for stop in (adaptive_consistency, early_stopping):
        used = stop(drawn)
        assert 1 <= used <= len(drawn)
        assert stop(drawn[:used]) == used, "what comes later has no part in it"


@given(st.lists(st.tuples(st.integers(-1, 3), st.booleans()), min_size=1, max_size=12))
def test_votes_from_each_sample_on_are_those_of_a_vote_over_them(pool):
    groups, correct = (np.array(values) for values in zip(*pool))
    found = stats.votes_from_each(correct, groups)
    for start, number in np.ndindex(found.shape):
        inside = [(start + place) % len(pool) for place in range(number + 1)]
        if (groups[inside] >= 0).any():
            expected = stats.vote_accuracy(correct[inside], np.ones(len(inside)), groups[inside], len(inside))
            assert found[start, number] == pytest.approx(expected)
        else:
            assert found[start, number] == 0


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    grid = Grid(
        problems={"pocket-main": 12},
        policies=["policy-20k"],
        methods=["majority", "adaptive_consistency", "early_stopping"],
        samples=16,
        budgets=[1, 2, 4, 8, 16],
    )
    store = Store(tmp_path_factory.mktemp("store"))
    fill(grid, store)
    return grid, store


@pytest.mark.parametrize(("method", "stop"), [("adaptive_consistency", adaptive_consistency), ("early_stopping", early_stopping)])
def test_accuracy_and_cost_are_means_over_the_sequences_of_the_pool(stored, method, stop):
    grid, store = stored
    results = Results(grid, store)
    pool = results.graded("pocket-main", grid.run_of("majority", "policy-20k", None, 16))
    for n in grid.budgets:
        right, shares = [], []
        for graded in pool:
            of_each = []
            for start in range(16):
                order = [(start + i) % 16 for i in range(n)]
                drawn = order[: stop([int(graded.group[i]) for i in order])]
                votes = [int(graded.group[i]) for i in drawn if graded.group[i] >= 0]
                leading = {g for g in votes if votes.count(g) == max(map(votes.count, votes))}
                solved = [any(graded.correct[i] for i in drawn if graded.group[i] == g) for g in leading]
                of_each.append((np.mean(solved) if solved else 0.0, len(drawn)))
            right.append(np.mean([r for r, _ in of_each]))
            shares.append(np.mean([k for _, k in of_each]) / 16)
        asked = ("pocket-main", "policy-20k", None, method, n)
        assert results.accuracy(*asked) == pytest.approx(right)
        tokens = results.policy_tokens("pocket-main", "policy-20k", None, "majority", 16)
        assert results.policy_tokens(*asked) == pytest.approx(tokens * shares)
        assert (results.policy_tokens(*asked) <= results.policy_tokens("pocket-main", "policy-20k", None, "majority", n) + 1e-9).all()
    assert results.policy_tokens("pocket-main", "policy-20k", None, method, 16).sum() < tokens.sum(), "nothing stopped"


def test_samples_that_are_not_drawn_do_not_make_solutions_shorter(stored):
    """Attention is counted from a solution's mean length, which stopping does not change."""
    results = Results(*stored)
    full, stopped = (costs.cost(results, "pocket-main", "policy-20k", None, m, 16, full=True) for m in ("majority", "adaptive_consistency"))
    drawn = results.policy_tokens("pocket-main", "policy-20k", None, "adaptive_consistency", 16).sum()
    share = drawn / results.policy_tokens("pocket-main", "policy-20k", None, "majority", 16).sum()
    assert stopped.decode == pytest.approx(share * full.decode) and stopped.attention < full.attention
    assert stopped.attention == pytest.approx(share * full.attention, rel=0.3), "but for the prompts' own, once"


def test_a_constant_says_when_it_stops(stored):
    grid, store = stored
    strict = Results(grid.model_copy(update={"constants": {"confidence": 1.0, "window": 16}}), store)
    for method in ("adaptive_consistency", "early_stopping"):
        all_drawn = strict.policy_tokens("pocket-main", "policy-20k", None, method, 8)
        assert all_drawn == pytest.approx(strict.policy_tokens("pocket-main", "policy-20k", None, "majority", 8))
