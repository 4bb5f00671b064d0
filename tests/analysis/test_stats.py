"""Pool estimators against brute force over all subsets; intervals against their definitions."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from tts.analysis import stats
from tts.tasks.selection import AGGREGATES, aggregates, select


@st.composite
def pools(draw):
    size = draw(st.integers(1, 7))
    groups = draw(st.lists(st.integers(-1, 2), min_size=size, max_size=size))
    scores = draw(st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9]), min_size=size, max_size=size))
    right = draw(st.integers(0, 2))
    return groups, [g == right for g in groups], scores


def over_subsets(pool, n, vote):
    groups, correct, scores = pool
    outcomes = []
    for subset in combinations(range(len(groups)), n):
        answered = [i for i in subset if groups[i] >= 0]
        totals = {}
        for i in answered:
            key, weight = (i, scores[i]) if vote == "max" else (groups[i], 1 if vote == "majority" else scores[i])
            totals[key] = round(totals.get(key, 0) + weight, 9)
        tied = [key for key, total in totals.items() if total == max(totals.values())]
        right = {i if vote == "max" else groups[i]: correct[i] for i in answered}
        outcomes.append(sum(right[key] for key in tied) / len(tied) if tied else 0)
    return float(np.mean(outcomes))


def test_ties_are_broken_at_random():
    """Two right answers before one wrong one: a majority of two samples is as good as one sample."""
    correct, groups = [True, True, False], [0, 0, 1]
    found = [stats.vote_accuracy(correct, [1.0] * 3, groups, n, draws=50_000) for n in (1, 2, 3)]
    assert found == pytest.approx([2 / 3, 2 / 3, 1], abs=0.01)
    assert stats.vote_accuracy([True, False, False], [0.3, 0.1, 0.2], [0, 1, 1], 3) == 0.5
    assert stats.vote_accuracy([True, False, False], [3e-20, 1e-20, 1e-20], [0, 1, 1], 3) == 1, "small weights are no ties"
    assert stats.best_of_n_accuracy([True, False, False], [0.5, 0.5, 0.2], [0, 1, 1], 3) == 0.5
    assert stats.best_of_n_accuracy([True, False, False], [0.5, 0.5, 0.5], [0, 1, 1], 2) == pytest.approx(1 / 3)
    assert select([0, 1], [0.5, 0.5], "max") == select([0, 1], None, "majority") == 0, "one has to be named"


@settings(max_examples=150, deadline=None)
@given(pools(), st.data())
def test_best_of_n_is_exact(pool, data):
    n = data.draw(st.integers(1, len(pool[0])))
    groups, correct, scores = pool
    assert stats.best_of_n_accuracy(correct, scores, groups, n) == pytest.approx(over_subsets(pool, n, "max"))


@settings(max_examples=100, deadline=None)
@given(pools(), st.data())
def test_pass_at_k_is_exact(pool, data):
    n = data.draw(st.integers(1, len(pool[0])))
    expected = np.mean([any(pool[1][i] for i in subset) for subset in combinations(range(len(pool[1])), n)])
    assert stats.pass_at_k(pool[1], n) == pytest.approx(expected)


@settings(max_examples=100, deadline=None)
@given(pools(), st.sampled_from(["majority", "vote"]))
def test_votes_over_the_whole_pool_are_exact(pool, vote):
    groups, correct, scores = pool
    weights = [1.0] * len(groups) if vote == "majority" else scores
    found = stats.vote_accuracy(correct, weights, groups, len(groups))
    assert found == pytest.approx(over_subsets(pool, len(groups), vote))


@pytest.mark.parametrize("vote", ["majority", "vote"])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_votes_over_drawn_subsets_approach_brute_force(vote, n):
    pool = ([0, 1, 0, 2, 1, 1, -1, 0], [False, True, False, False, True, True, False, False], [0.9, 0.4, 0.2, 0.6, 0.5, 0.3, 0.8, 0.1])
    groups, correct, scores = pool
    weights = [1.0] * len(groups) if vote == "majority" else scores
    found = stats.vote_accuracy(correct, weights, groups, n, draws=20_000)
    assert found == pytest.approx(over_subsets(pool, n, vote), abs=0.015)


def test_no_answers_are_wrong_not_an_error():
    assert stats.vote_accuracy([False] * 3, [1.0] * 3, [-1] * 3, 2) == 0.0
    assert stats.best_of_n_accuracy([False] * 3, [1.0] * 3, [-1] * 3, 2) == 0.0


def test_seeded_draws_repeat():
    args = ([True, False, False, True], [1.0] * 4, [0, 1, 2, 0], 2)
    assert stats.vote_accuracy(*args, seed=3) == stats.vote_accuracy(*args, seed=3)


@pytest.mark.parametrize("n", [0, 5])
def test_subsets_larger_than_the_pool_are_refused(n):
    with pytest.raises(ValueError, match=f"no subsets of {n}"):
        stats.pass_at_k([True] * 4, n)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_is_statsmodels(counts, level):
    interval = stats.wilson(*counts, level)
    low, high = proportion_confint(*counts, 1 - level, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_holm_by_hand():
    """Of three the smallest p is multiplied by 3, the next by 2, the last by 1; none falls below one before it, or passes 1."""
    assert stats.holm([0.02, 0.01, 0.5]) == pytest.approx([0.04, 0.03, 0.5])
    assert stats.holm([0.3, 0.2, 0.25]) == pytest.approx([0.6, 0.6, 0.6]) and stats.holm([0.9]) == 0.9 and not len(stats.holm([]))


@pytest.mark.parametrize("count", [1, 7, 40])
def test_holm_is_statsmodels(count):
    p = np.random.default_rng(count).uniform(0, 0.2, count).round(2)  # some of them equal
    assert stats.holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        interval = stats.bootstrap(rng.binomial(1, 0.4, 80), resamples=400, seed=trial)
        hits += interval.low <= 0.4 <= interval.high
    assert 0.89 <= hits / 200 <= 0.99


def test_an_interval_over_few_columns_by_hand():
    """Columns of means 0.2, 0.4, 0.9; every problem has the same slope, so that the columns alone make the interval."""
    means, x = np.array([0.2, 0.4, 0.9]), np.array([0.0, 1.0, 2.0])
    found = stats.of_few(np.tile(means, (10, 1)), x)
    # slope 0.35; residuals 0.05, -0.1, 0.05, so s² = 0.015 with one degree of freedom, whose quantile is 12.706; Sxx = 2
    assert found.estimate == pytest.approx(0.35) and found.high - 0.35 == pytest.approx(12.7062 * math.sqrt(0.015 / 2), rel=1e-4)
    mean = stats.of_few(np.tile(means, (10, 1)))
    assert mean.estimate == pytest.approx(0.5) and 0.5 - mean.low == pytest.approx(4.30265 * math.sqrt(0.13 / 3), rel=1e-4)
    problems = np.array([[0.0], [1.0]] * 50) + np.array([0.0, 0.0, 0.0])  # columns alike: the problems alone make it
    assert stats.of_few(problems).high - 0.5 == pytest.approx(1.95996 * math.sqrt(25 / 99 / 100), rel=1e-4)
    with pytest.raises(ValueError, match="2 columns are too few"):
        stats.of_few(np.ones((10, 2)), x[:2])


@pytest.mark.parametrize("columns", [2, 3, 4, 8])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.08])
@pytest.mark.parametrize("sloped", [False, True])
def test_an_interval_over_few_columns_covers_at_least_93_percent(columns, spread, sloped):
    """PRMs scatter by ``spread`` around a line over ln F1; problems differ in difficulty and in their slope."""
    if sloped and columns < 3:
        return
    rng, repeats, problems = np.random.default_rng(columns), 400, 150
    x = np.log(np.linspace(0.25, 0.9, columns))
    x -= x.mean()
    slope, inside = 0.15 * sloped, 0
    for _ in range(repeats):
        own = rng.normal(0, 0.3, problems) * sloped
        of_prm = 0.4 + slope * x + spread * rng.standard_normal(columns)
        values = of_prm + (rng.beta(0.6, 0.6, problems) - 0.5)[:, None] + own[:, None] * x + rng.normal(0, 0.2, (problems, columns))
        found = stats.of_few(values, x if sloped else None)
        inside += found.low <= (slope if sloped else 0.4) <= found.high
    assert inside / repeats >= 0.93


def test_clusters_are_drawn_together():
    values = np.repeat([0.0, 1.0], 50)
    alone = stats.bootstrap(values)
    together = stats.bootstrap(values, clusters=np.repeat(np.arange(10), 10))
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_an_interval_of_one_problem_is_refused():
    with pytest.raises(ValueError, match="at least two problems; given 1"):
        stats.bootstrap(np.array([1.0]))


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.1, 0.2, "supported"), (-0.2, -0.1, "contradicted"), (-0.1, 0.1, "undecided"), (0.0, 0.1, "undecided")]
)
def test_verdicts(low, high, expected):
    assert stats.verdict(stats.Interval(0.0, low, high, "")) == expected


def test_aggregates():
    scores = [[0.5, 0.2, 0.8]]
    assert [float(aggregates(scores, how)[0]) for how in ("min", "last", "avg", "product")] == pytest.approx([0.2, 0.8, 0.5, 0.08])


@given(st.lists(st.lists(st.floats(0, 1), max_size=20), max_size=8))
def test_aggregates_of_many_are_those_of_each(solutions):
    by_hand = {"min": min, "last": lambda scores: scores[-1], "avg": statistics.fmean, "product": math.prod}
    for how in AGGREGATES:
        expected = [by_hand[how](scores) if scores else 0.0 for scores in solutions]
        assert aggregates(solutions, how) == pytest.approx(np.array(expected), abs=1e-12)
    with pytest.raises(ValueError, match="unknown aggregate 'mean'; choose from min, last"):
        aggregates([[0.5]], "mean")


def test_votes_by_hand():
    groups, scores = [0, 1, 1, 2, -1], [0.5, 0.2, 0.2, 0.6, 0.99]
    assert select(groups, scores, "majority") == 1
    assert select(groups, scores, "max") == 3
    assert select(groups, scores, "vote") == 3
    assert select([0, 1], [0.5, 0.5], "max") == 0
    assert select([-1, -1], [0.5, 0.5], "vote") == -1


def test_log_fit_recovers_its_line_and_refuses_too_little():
    x = np.array([0.2, 0.4, 0.8])
    a, b, r = stats.log_fit(x, 0.3 * np.log(x) + 0.7)
    assert (a, b, r) == pytest.approx((0.3, 0.7, 1.0))
    assert np.isnan(stats.log_fit([0.0, 0.4, 0.8], [0.1, 0.2, 0.3])).all()


@pytest.mark.parametrize("total", [64, 256])
def test_numbers_of_subsets_beyond_64_bits_are_exact(total):
    """The best of n is the first of the ranking that a subset holds; with every other one right that is a sum of shares."""
    correct, scores, groups = np.arange(total) % 2 == 0, -np.arange(total, dtype=float), np.arange(total)
    for n in (1, 2, total // 4, total // 2, total - 1, total):
        expected, left = Fraction(0), Fraction(1)
        for rank in range(total - n + 1):
            first = left * Fraction(n, total - rank)  # none of the ranks above is in the subset, and this one is
            expected, left = expected + first * bool(correct[rank]), left - first
        assert stats.best_of_n_accuracy(correct, scores, groups, n) == pytest.approx(float(expected))
        tied = np.arange(total) // 16  # of each sixteen equal scores eight are right
        assert stats.best_of_n_accuracy(correct, tied, groups, n) == pytest.approx(0.5)
