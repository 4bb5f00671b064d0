"""The statistics against synthetic pools and problems whose truth is known: freedom from bias, and coverage of the intervals."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, norm

from tts.analysis import stats
from tts.strategy import compute_optimal
from tts.tasks.selection import select

# One problem: answer 0 is right, 1 and 2 are wrong, -1 is none; the PRM likes right answers better, not always. Scores are
# dyadic, so that sums of them tie exactly or not at all.
ANSWERS = {0: 0.35, 1: 0.35, 2: 0.2, -1: 0.1}
SCORES = {0: {1.0: 0.5, 0.5: 0.3, 0.25: 0.2}, 1: {1.0: 0.2, 0.5: 0.4, 0.25: 0.4}}
SAMPLES = [(answer, score, p * q) for answer, p in ANSWERS.items() for score, q in SCORES[0 if answer == 0 else 1].items()]
POOL, SUBSET, POOLS = 12, 3, 2000


def truth(vote):
    """Accuracy of ``SUBSET`` fresh samples, summed over all that they can be; ``any`` for Pass@n."""
    total = 0.0
    for drawn in product(SAMPLES, repeat=SUBSET):
        groups, scores, chances = zip(*drawn)
        if vote == "any":
            right = 0 in groups
        else:
            chosen = select(groups, scores, vote)
            right = chosen >= 0 and groups[chosen] == 0
        total += right * np.prod(chances)
    return total


ESTIMATORS = {
    "any": lambda groups, scores: stats.pass_at_k(groups == 0, SUBSET),
    "max": lambda groups, scores: stats.best_of_n_accuracy(groups == 0, scores, groups, SUBSET),
    "majority": lambda groups, scores: stats.vote_accuracy(groups == 0, np.ones(POOL), groups, SUBSET, draws=20),
    "vote": lambda groups, scores: stats.vote_accuracy(groups == 0, scores, groups, SUBSET, draws=20),
}


def pools():
    rng = np.random.default_rng(0)
    answers, scores, chances = (np.array(column) for column in zip(*SAMPLES))
    for drawn in rng.choice(len(SAMPLES), size=(POOLS, POOL), p=chances):
        yield answers[drawn], scores[drawn]


@pytest.mark.parametrize("vote", ESTIMATORS)
def test_pool_estimators_are_free_of_bias(vote):
    """Their mean over 2,000 pools of 12 lies within four Monte-Carlo errors (below one point each) of the truth at n = 3."""
    found = np.array([ESTIMATORS[vote](*pool) for pool in pools()])
    error = found.std() / np.sqrt(POOLS)
    assert error < 0.01 and abs(found.mean() - truth(vote)) < 4 * error


def test_the_same_check_sees_a_biased_estimator():
    """Pass@n with the pool's own share put into 1 - (1 - p)^n is too low, which Chen et al. 2021 warn of."""
    found = np.array([1 - (1 - np.mean(groups == 0)) ** SUBSET for groups, _ in pools()])
    assert truth("any") - found.mean() > 4 * found.std() / np.sqrt(POOLS)


@pytest.mark.parametrize("trials", [30, 120, 500])
def test_wilson_covers_proportions_as_it_says(trials):
    """Exactly, from the binomial distribution: 95 % on average over the proportions, never below 92 %."""
    intervals = [stats.wilson(k, trials) for k in range(trials + 1)]
    low, high = (np.array([getattr(i, end) for i in intervals]) for end in ("low", "high"))
    covered = [
        binom.pmf(np.arange(trials + 1), trials, p)[(low <= p + 1e-12) & (p <= high + 1e-12)].sum() for p in np.linspace(0.02, 0.98, 97)
    ]
    assert 0.945 <= np.mean(covered) <= 0.96 and min(covered) >= 0.92


def outcomes(rng, chance, of_problem, own=0.7):
    """``(candidates, problems)``, 0 or 1: candidates err on the same problems, as a hard problem is hard for each of them.

    Args:
        chance: ``(candidates, bins)``, each candidate's accuracy in each bin.
        of_problem: ``(problems,)``, the number of each problem's bin.
        own: deviation of what is a candidate's own, where what all share has deviation 1.
    """
    shape = (len(chance), len(of_problem))
    latent = rng.normal(size=shape[1]) + own * rng.normal(size=shape)
    return (latent < norm.ppf(chance[:, of_problem]) * np.hypot(1, own)).astype(float)


@pytest.mark.parametrize("problems", [40, 120])
def test_bootstrap_covers_a_paired_difference(problems):
    """Accuracies 0.6 and 0.5 on the same problems: 400 intervals, of which 95 % give or take three errors should hold 0.1."""
    rng, held = np.random.default_rng(2), 0
    for trial in range(400):
        first, second = outcomes(rng, np.array([[0.6], [0.5]]), np.zeros(problems, int))
        interval = stats.bootstrap(first - second, resamples=300, seed=trial)
        held += interval.low <= 0.1 <= interval.high
    assert 0.91 <= held / 400 <= 0.985


def test_verdicts_on_level_methods_are_wrong_one_time_in_twenty():
    """Two methods that are equally good on 120 problems: at most 9 % of the verdicts decide for one of them."""
    rng, decided = np.random.default_rng(3), 0
    for trial in range(400):
        first, second = outcomes(rng, np.array([[0.5], [0.5]]), np.zeros(120, int))
        decided += stats.verdict(stats.bootstrap(first - second, resamples=300, seed=trial)) != "undecided"
    assert decided / 400 <= 0.09


SHARES = np.array([0.5, 0.3, 0.2])
BINS = np.array(["easy", "medium", "hard"])


@pytest.fixture(scope="module")
def strategies():
    """A strategy chosen on 120 problems, 120 times, from 12 candidates whose accuracies lie a few points apart.

    Returns:
        ``(120, 7)``: the chosen strategy's true accuracy on new problems; estimate, low and high cross-fitted; and in-sample.
    """
    rng, rows = np.random.default_rng(4), []
    chance = np.array([0.85, 0.5, 0.12]) + np.random.default_rng(5).normal(0, 0.04, size=(12, 3))
    for _ in range(120):
        of_problem = rng.choice(3, size=120, p=SHARES)
        values = outcomes(rng, chance, of_problem)
        crossed, inside = (compute_optimal.fit(values, BINS[of_problem], how, resamples=150) for how in (True, False))
        true = sum(share * chance[crossed.choice[name], i] for i, (name, share) in enumerate(zip(BINS, SHARES)))
        rows.append([true, *(getattr(f.accuracy, end) for f in (crossed, inside) for end in ("estimate", "low", "high"))])
    return np.array(rows)


@pytest.mark.slow
def test_the_cross_fitted_accuracy_is_nearly_free_of_bias(strategies):
    """It judges strategies chosen on four fifths of the problems, so it may be low by less than a point, never high."""
    gap = strategies[:, 1] - strategies[:, 0]
    assert abs(gap.mean()) < 3 * gap.std() / np.sqrt(len(gap)) + 0.01


@pytest.mark.slow
def test_the_in_sample_accuracy_is_too_high(strategies):
    gap = strategies[:, 4] - strategies[:, 0]
    assert gap.mean() > 0.03 and gap.mean() > 5 * gap.std() / np.sqrt(len(gap))


@pytest.mark.slow
def test_the_cross_fitted_interval_covers_what_the_strategy_does_on_new_problems(strategies):
    """95 % give or take; the in-sample interval, the study's way, misses it every other time."""
    true = strategies[:, 0]
    crossed, inside = (((strategies[:, i] <= true) & (true <= strategies[:, i + 1])).mean() for i in (2, 5))
    assert 0.90 <= crossed <= 1.0 and inside < 0.75
