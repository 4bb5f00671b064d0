"""The compute-optimal strategy: by hand, and by simulation with a known truth."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tts.strategy import choices
from tts.strategy.compute_optimal import FOLDS, efficiency_gain, first_best, fit, folds_of, resampled_problems
from tts.tasks.selection import RULES


def by_loops(values, bins, fold, weights, crossed):
    """What `fit` works out, one resample, written as a loop."""
    total = 0.0
    for name in dict.fromkeys(bins):
        for number in range(FOLDS):
            judged = (bins == name) & (fold == number)
            seen = (bins == name) & (fold != number) if crossed else bins == name
            best = int(np.argmax((values[:, seen] * weights[seen]).sum(1)))
            total += (values[best, judged] * weights[judged]).sum()
    return total / weights.sum()


@pytest.mark.parametrize("crossed", [True, False])
def test_agrees_with_the_definition(crossed):
    rng = np.random.default_rng(3)
    values, bins = rng.random((4, 60)), np.array(["easy", "medium", "hard"])[rng.integers(3, size=60)]
    found = fit(values, bins, crossed, resamples=20)
    expected = [by_loops(values, bins, folds_of(bins), w, crossed) for w in resampled_problems(60, 20)]
    assert found.estimates == pytest.approx(expected)


def test_each_bin_gets_its_own_candidate():
    bins = np.array(["easy"] * 20 + ["hard"] * 20)
    values = np.array([np.where(bins == "easy", 0.9, 0.1), np.where(bins == "easy", 0.8, 0.3)])
    found = fit(values, bins)
    assert found.choice == {"easy": 0, "hard": 1} and found.stability == {"easy": 1.0, "hard": 1.0}
    assert found.accuracy.estimate == pytest.approx(0.6)
    assert (found.of_bin["easy"].estimate, found.of_bin["hard"].estimate) == pytest.approx((0.9, 0.3))
    fixed = fit(values, ["all"] * 40)
    assert fixed.choice == {"all": 1} and fixed.accuracy.estimate == pytest.approx(0.55)


def test_the_cost_is_that_of_what_was_chosen():
    bins = np.array(["easy"] * 20 + ["hard"] * 20)
    values = np.array([np.where(bins == "easy", 0.9, 0.1), np.where(bins == "easy", 0.8, 0.3)])
    costs = np.array([np.full(40, 10.0), np.full(40, 50.0)])
    assert fit(values, bins, costs=costs).cost == pytest.approx(30.0)
    # The second candidate brings 0.2 on hard problems for 40 more: worth it at 0.004 each, not at 0.006.
    assert fit(values, bins, costs=costs, price=0.004).cost == pytest.approx(30.0)
    frugal = fit(values, bins, costs=costs, price=0.006)
    assert frugal.cost == pytest.approx(10.0) and frugal.accuracy.estimate == pytest.approx(0.5)


def test_folds_are_even_within_each_bin():
    bins = np.array(["a"] * 23 + ["b"] * 8 + ["c"] * 2)
    fold = folds_of(bins)
    assert np.ptp(np.bincount(fold, minlength=FOLDS)) <= 1
    for name in "abc":
        assert np.ptp(np.bincount(fold[bins == name], minlength=FOLDS)) <= 1


def test_in_sample_is_optimistic_and_cross_fitting_is_not():
    """Equal candidates, so that the truth is 0.5 whatever is chosen."""
    rng = np.random.default_rng(0)
    bins = np.array(["easy", "medium", "hard"])[np.arange(90) % 3]
    gaps = {True: [], False: []}
    for _ in range(60):
        values = (rng.random((12, 90)) < 0.5).astype(float)
        for crossed in gaps:
            gaps[crossed].append(fit(values, bins, crossed, resamples=1).estimates[0] - 0.5)
    assert np.mean(gaps[False]) > 0.08
    assert abs(np.mean(gaps[True])) < 3 * np.std(gaps[True]) / np.sqrt(60)


def test_intervals_cover_the_accuracy_of_the_strategy():
    """One candidate is better by far, so that the strategy's true accuracy is known: 0.7."""
    rng = np.random.default_rng(1)
    bins, covered = np.array(["easy", "hard"])[np.arange(100) % 2], 0
    for _ in range(200):
        values = (rng.random((2, 100)) < np.array([[0.7], [0.2]])).astype(float)
        accuracy = fit(values, bins, resamples=200).accuracy
        covered += accuracy.low <= 0.7 <= accuracy.high
    assert 0.89 <= covered / 200 <= 0.99


def test_too_few_problems_are_refused():
    with pytest.raises(ValueError, match="at least 5 problems of a set; given 4: ask for more"):
        fit(np.ones((2, 4)), ["all"] * 4)


def test_efficiency_gain_by_hand():
    majority = np.array([[0.30], [0.40], [0.50], [0.50]]).repeat(3, 1)
    tts = np.array([[0.20], [0.45], [0.55]]).repeat(3, 1)
    # Majority peaks at 16 (64 is no better); TTS reaches 0.50 half-way from 4 to 16, at 8.
    gain = efficiency_gain([1, 4, 16, 64], majority, 0.01, [1, 4, 16], tts)
    assert (
        gain.interval.estimate == pytest.approx(2.0)
        and gain.bound == ""
        and (gain.interval.low, gain.interval.high) == pytest.approx((2, 2))
    )
    assert str(gain) == "2 [2, 2]"


def test_efficiency_gain_is_censored_where_it_must_be():
    majority = np.array([[0.30], [0.40], [0.50]]).repeat(3, 1)
    always = efficiency_gain([1, 4, 16], majority, 0.01, [4, 16], np.array([[0.6], [0.7]]).repeat(3, 1))
    assert always.bound == ">" and always.interval.estimate == pytest.approx(4.0)
    never = efficiency_gain([1, 4, 16], majority, 0.01, [4, 16], np.array([[0.2], [0.3]]).repeat(3, 1))
    assert never.bound == "<" and never.interval.estimate == pytest.approx(1.0)
    assert always.untested == never.untested == ""


def test_a_gain_that_cannot_come_out_above_one_says_so():
    """Majority voting is at its best with 4 samples already, and a search was run with 4 at the fewest."""
    flat = efficiency_gain([1, 4, 16], np.array([[0.3], [0.5], [0.5]]).repeat(3, 1), 0.01, [4, 16], np.array([[0.4], [0.6]]).repeat(3, 1))
    assert (str(flat), flat.untested) == ("not tested", "majority is at its best with 4, the fewest are 4")


def test_the_strategy_against_majority_voting_by_hand():
    """Twenty problems: best-of-N solves the first half, beam search the second, majority voting a quarter at either end."""
    solved = {"best_of_n": np.repeat([1.0, 0], 10), "beam_search": np.repeat([0, 1.0], 10), "majority": np.repeat([1, 0, 1.0], [5, 10, 5])}
    at, candidates = choices.Setting("set", "policy-6k", "prm", 4), [choices.Choice(m, RULES[0]) for m in ("best_of_n", "beam_search")]

    def gain(count, bins):
        among = {method: values[:count] for method, values in solved.items()}
        evidence = SimpleNamespace(accuracy=lambda problem_set, policy, prm, method, n, rule=None: among[method])
        [(claim, found)] = choices.over_majority(evidence, [at], candidates, {("policy-6k", "prm"): np.array(bins)}).items()
        assert claim == "Compute-optimal test-time scaling beats majority voting for 6k with prm (predicted difficulty, N = 4)"
        return found

    told = gain(20, ["easy"] * 10 + ["hard"] * 10)
    assert told.estimate == pytest.approx(0.5) and told.low > 0
    assert gain(20, ["easy", "hard"] * 10).estimate <= 0, "bins that say nothing of the problems"
    assert gain(6, ["easy"] * 6) == "6 problems are too few"


def test_a_flat_curve_peaks_early():
    majority = np.array([[0.498], [0.499], [0.500]]).repeat(3, 1)
    gain = efficiency_gain([4, 16, 64], majority, 0.01, [4, 16], np.array([[0.4], [0.6]]).repeat(3, 1))
    assert gain.interval.estimate < 1  # against 64 it would be ten times


def test_of_equal_candidates_the_first_is_chosen():
    rng = np.random.default_rng(4)
    for _ in range(30):
        values = rng.random((5, 60))
        twice = np.concatenate([values, values])
        fitted = fit(twice, rng.choice(["easy", "hard"], 60), resamples=50)
        assert max(fitted.choice.values()) < 5


def test_candidates_that_are_as_good_on_other_problems_are_equal_whatever_the_order_of_addition():
    """Sums of 0.1, 0.2 and 0.3 differ in their last bits; which comes out higher must not decide."""
    tenths = np.array([0.1, 0.2, 0.3] * 20)
    assert len({float(sum(tenths[start:]) + sum(tenths[:start])) for start in range(60)}) > 1
    for start in range(60):
        values = np.stack([np.roll(tenths, start), tenths, tenths[::-1]])
        assert fit(values, ["all"] * 60, resamples=20).choice == {"all": 0}
        assert first_best(values.cumsum(1)[:, -1]) == 0
