"""The checks of claims against outcomes that were written down, with contrasts worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm
from typed_evidence import F1, FAIR, GOOD, LARGE, LAST_VOTE, MIDDLE, MIN_MAX, SMALL, WEAK, Typed, scope

from tts.analysis import costs, stats
from tts.claims import checks, comparisons, findings, wording
from tts.claims.finding import Finding, certainty, least_certain, most_certain
from tts.claims.scope import NotTested, size_class
from tts.strategy.compute_optimal import resampled_means
from tts.tasks.selection import RULES


def ones(count, of=20):
    return [1.0] * count + [0.0] * (of - count)


def test_advantage_counts_the_problems_of_its_bins_only():
    values = {(SMALL, GOOD, "dvts"): ones(12), (SMALL, GOOD, "best_of_n"): ones(2)}
    everywhere = checks.advantage(scope(values), "dvts", "best_of_n")
    assert everywhere.estimate == pytest.approx(0.5)
    # the first ten problems are easy, and DVTS is ahead on eight of them
    easy = scope(values, pass_at_1={("set", SMALL): np.array([1.0] * 10 + [0.0] * 10)})
    assert checks.advantage(easy, "dvts", "best_of_n", bins=["easy"]).estimate == pytest.approx(0.8)
    assert checks.advantage(easy, "dvts", "best_of_n", bins=["hard"]).estimate == pytest.approx(0.2)
    least = checks.advantage_in_each(easy, "dvts", "best_of_n", bins=["easy", "hard"])
    assert least.estimate == pytest.approx(0.2) and "on hard problems" in least.detail


def test_advantage_averages_over_the_policies_of_a_size():
    values = {(SMALL, GOOD, "dvts"): ones(10), (LARGE, GOOD, "best_of_n"): ones(5)}
    assert checks.advantage(scope(values, policies=[SMALL, LARGE]), "dvts", "best_of_n", size="small").estimate == pytest.approx(0.5)
    assert checks.advantage(scope(values), "dvts", "best_of_n", size="small").estimate == pytest.approx(0.25), "51k is small too"
    assert checks.advantage(scope(values), "best_of_n", "dvts", size="large").estimate == pytest.approx(0.25)
    with pytest.raises(NotTested, match="no policy of size middle"):
        checks.advantage(scope(values), "dvts", "best_of_n", size="middle")


def test_two_problem_sets_count_as_one_where_a_check_does_not_take_them_apart():
    here, there = Typed({(SMALL, GOOD, "dvts"): ones(20)}), Typed({(SMALL, GOOD, "dvts"): ones(0, 10)}, 10, "harder")
    both = scope({}, problem_sets=["set", "harder"], evidence=[here, there])
    assert checks.advantage(both, "dvts", "best_of_n").estimate == pytest.approx(20 / 30)
    assert checks.advantage(both.on("harder"), "dvts", "best_of_n").estimate == 0
    with pytest.raises(NotTested, match="the difficulty of the problems of harder for 6k was not counted"):
        both.changed(pass_at_1={("set", SMALL): np.ones(20)}).bins(SMALL)


def test_a_policy_alone_goes_by_the_studys_sizes_and_has_no_weak_prm():
    values = {(SMALL, GOOD, "dvts"): ones(10)}
    alone = scope(values, policies=[SMALL], prms=[GOOD], weak_prms=[])
    assert checks.advantage(alone, "dvts", "best_of_n", size="small").estimate == pytest.approx(0.5)
    with pytest.raises(NotTested, match="no policy of size large"):
        checks.advantage(alone, "dvts", "best_of_n", size="large")
    for check, reason in (
        (lambda: checks.poor_prms(alone, "majority", "beam_search"), "no PRM known to be weak"),
        (
            lambda: checks.voting(alone, MIN_MAX._asdict(), LAST_VOTE._asdict()),
            "a slope over PRMs needs three of different F1; there are 1",
        ),
        (lambda: checks.relative_gain(alone), "a slope needs three policies that solve 8 problems alone; there are 0"),
        (lambda: checks.gain_by_size(alone, "dvts", "best_of_n"), "a slope over sizes needs three policies; there are 1"),
        (lambda: checks.gain_by_prm(alone, "best_of_n"), "a slope over PRMs needs three of different F1; there are 1"),
        (lambda: checks.small_over_large(alone, 10), "no two policies of different sizes"),
    ):
        with pytest.raises(NotTested, match=reason):
            check()


def test_interaction_is_a_difference_of_differences():
    values = {(SMALL, GOOD, "beam_search"): ones(15), (SMALL, GOOD, "best_of_n"): ones(5)}
    halves = scope(values, pass_at_1={("set", SMALL): np.array([1.0] * 10 + [0.0] * 10)})
    found = checks.interaction(halves, "beam_search", "best_of_n", {"bins": ["hard"]}, {"bins": ["easy"]})
    assert found.estimate == pytest.approx(0.5 - 0.5) and "+50.0% (6k with implicit 216k; hard) less +50.0%" in found.detail


def slope(x, y):
    x = np.asarray(x) - np.mean(x)
    return float(x @ y / (x @ x))


def sizes(*policies):
    return np.log10([costs.shape_of(policy).parameters for policy in policies])


def test_the_gain_by_size_is_minus_the_slope_over_decades():
    values = {(SMALL, GOOD, "dvts"): ones(12), (MIDDLE, GOOD, "dvts"): ones(6), (LARGE, GOOD, "best_of_n"): ones(2)}
    found = checks.gain_by_size(scope(values), "dvts", "best_of_n")
    assert found.estimate == pytest.approx(-slope(sizes(SMALL, MIDDLE, LARGE), [0.6, 0.3, -0.1]))
    assert found.estimate > 0 and "6k +60.0%, 51k +30.0%, 668k -10.0%" in found.detail


def test_the_relative_gain_is_a_factor_per_decade_of_policies_that_solve_enough_alone():
    solved = {SMALL: (8, 20), MIDDLE: (10, 15), LARGE: (16, 16)}
    values = {(policy, None, "cot"): ones(cot) for policy, (cot, _) in solved.items()}
    values |= {(policy, GOOD, method): ones(tts) for policy, (_, tts) in solved.items() for method in ("best_of_n", "beam_search", "dvts")}
    found = checks.relative_gain(scope(values))
    assert found.estimate == pytest.approx(np.exp(-slope(sizes(*solved), np.log([2.5, 1.5, 1]))))
    assert (found.unit, found.margin) == ("ratio", 1.0) and found.low > 1
    with pytest.raises(NotTested, match="three policies that solve 8 problems alone; there are 2"):
        checks.relative_gain(scope(values | {(SMALL, None, "cot"): ones(7)}))


def test_the_relative_gain_covers_at_least_93_percent():
    """Of 100 problems on whose difficulty the outcomes depend by half; the smallest of four policies solves 12 in expectation."""
    rng, repeats, problems = np.random.default_rng(0), 300, 100
    x = sizes(SMALL, "policy-20k", MIDDLE, LARGE)
    x = x - x.mean()
    alone, scaled = np.array([0.12, 0.3, 0.66, 0.93]), np.array([0.3, 0.6, 0.9, 0.96])
    reached = np.sort(rng.random((2, 100_000)).mean(0))
    truth, used, inside = np.exp(-slope(x, np.log(scaled / alone))), 0, 0
    for _ in range(repeats):
        difficulty = rng.random((problems, 1))
        cot, tts = ((rng.random((problems, 4)) + difficulty) / 2 < np.quantile(reached, rates) for rates in (alone, scaled))
        if (cot.sum(0) >= stats.FEW).all():
            ways = [(resampled_means(t), resampled_means(c)) for t, c in zip(tts.T, cot.T)]
            found = checks.fall(ways, x, 0.5 / problems)
            used, inside = used + 1, inside + (found.low <= truth <= found.high)
    assert used > 200 and inside / used >= 0.93


def pair(found, policy, other, of=20):
    return {(policy, GOOD, method): ones(found, of) for method in ("best_of_n", "beam_search", "dvts")} | {(other, None, "cot"): ones(10)}


def test_a_size_claim_is_of_the_pair_most_certain_to_be_above():
    open_ = {(policy, None, "pass"): ones(20) for policy in (SMALL, MIDDLE, LARGE)}
    values = open_ | pair(13, MIDDLE, LARGE) | pair(5, SMALL, LARGE)
    found = checks.small_over_large(scope(values), 10)
    assert found.estimate == pytest.approx(0.15) and found.tests == 2
    assert "51k with TTS 65.0% less 668k with CoT 50.0%" in found.detail and "2 open pairs of 2" in found.detail
    assert checks.small_over_large(scope(values), 100).estimate == pytest.approx(-0.25)
    with pytest.raises(NotTested, match="no policy has 500 times fewer parameters than another; the most is 106"):
        checks.small_over_large(scope(values), 500)


def test_a_pair_whose_outcome_is_certain_before_is_not_tested():
    """6k solves 5 of 20 in any of its samples, 668k 10 alone: no verifier of the pool could close that."""
    values = {(SMALL, None, "pass"): ones(5)} | pair(4, SMALL, LARGE)
    with pytest.raises(NotTested, match="no outcome is open: at best 6k solves 25% of set in any of 4 samples, 668k 50% alone"):
        checks.small_over_large(scope(values), 100)
    table = comparisons.size_pairs(scope(values))
    assert table["room"].tolist() == pytest.approx([0.25, -0.25, -0.5]) and not table["open"].iloc[1]
    same = comparisons.size_pairs(scope(values | {(MIDDLE, None, "cot"): ones(10)})).set_index(["small", "large"])["p"]
    assert same.notna().to_dict() == {(SMALL, MIDDLE): True, (SMALL, LARGE): False, (MIDDLE, LARGE): False}, "51k equals 668k alone"
    full = {(policy, None, "pass"): ones(20) for policy in (SMALL, MIDDLE)} | pair(18, MIDDLE, LARGE) | {(LARGE, None, "cot"): ones(13)}
    assert comparisons.size_pairs(scope(full)).set_index("large").loc[LARGE, "open"].tolist() == [False, False], "7 wrong are too few"
    ahead = {(SMALL, None, "pass"): ones(20), (SMALL, None, "cot"): ones(11)} | pair(18, SMALL, LARGE)
    assert not comparisons.size_pairs(scope(ahead)).set_index("large").loc[LARGE, "open"].iloc[0], "ahead alone"


def test_a_claim_on_flops_is_of_pairs_that_differ_so_much_in_them():
    values = {(policy, None, "pass"): ones(20) for policy in (SMALL, MIDDLE)} | pair(13, MIDDLE, LARGE) | pair(5, SMALL, LARGE)
    table = comparisons.size_pairs(scope(values)).set_index(["small", "large"])
    times = table["times fewer FLOPs"]
    found = checks.small_over_large(scope(values), float(times[SMALL, LARGE]), of="flops")
    assert found.estimate == pytest.approx(-0.25) and "times the flops" in found.detail
    with pytest.raises(NotTested, match="times fewer flops than another"):
        checks.small_over_large(scope(values), float(times.max()) * 1.01, of="flops")


def test_one_of_several_is_wider_on_the_side_by_which_it_was_chosen():
    """One end of four tests lies 2.498 errors away in place of 1.960, the normal distribution's quantiles of 0.99375 and 0.975."""
    above, below = (Finding(sign * 0.2, sign * 0.2 - 0.2, sign * 0.2 + 0.2, "bootstrap", "points", "") for sign in (1, -1))
    assert above.p == pytest.approx(0.05)
    wide = 0.2 * norm.ppf(1 - 0.025 / 4) / norm.ppf(0.975)
    most, least = most_certain([above] * 4), least_certain([below] * 4)
    assert (
        (most.low, most.high) == pytest.approx((0.2 - wide, 0.4))
        and most.p == pytest.approx(0.2)
        and certainty(most) == pytest.approx(1.96, abs=1e-3)
    )
    assert (least.low, least.high) == pytest.approx((-0.4, -0.2 + wide)) and least.p == pytest.approx(0.2)
    assert most_certain([below] * 4).p == pytest.approx(0.05), "that the most certain of all lies below 0 says that all do"
    assert least_certain([above] * 4).p == pytest.approx(0.05) and most.method == "bootstrap; low end for one chosen of 4"
    ratio = most_certain([Finding(4.0, 2.0, 8.0, "bootstrap", "ratio", "", 1.0)] * 4)
    assert ratio.low == pytest.approx(4 * 0.5 ** (wide / 0.2)) and ratio.high == 8.0
    assert most_certain([above]) == above
    assert Finding(0.2, 0.0, 0.4, "t", "points", "", df=2).p == pytest.approx(0.05), "half the interval is 4.30 errors"
    assert Finding(0.2, 0.1, 0.3, "t", "points", "", df=2).p > Finding(0.2, 0.1, 0.3, "bootstrap", "points", "").p


def test_where_few_problems_differ_an_interval_is_not_empty():
    """DVTS and best-of-N solve the same ten of 20 problems: resamples say 0, with two problems more they do not."""
    values = {(SMALL, GOOD, method): ones(10) for method in ("dvts", "best_of_n")}
    found = checks.advantage(scope(values), "dvts", "best_of_n")
    assert found.estimate == 0 and found.low == -found.high == pytest.approx(-3 / 22)
    assert stats.of_difference(np.zeros(20)) == stats.Interval(0.0, found.low, found.high, found.method)
    assert stats.alike(np.array([1.0] * 15 + [0.0] * 85)) and not stats.alike(np.array([1.0] * 16 + [0.0] * 84))
    assert stats.alike(np.array([1.0, -1.0] + [0.01] * 98)), "a hundred problems, of which two count"


def test_over_majority_reports_the_policy_that_is_least_certain():
    values = {(SMALL, GOOD, "dvts"): ones(20), (MIDDLE, GOOD, "dvts"): ones(20)}
    values |= {(LARGE, None, "majority"): ones(20), (LARGE, GOOD, "dvts"): ones(20)}
    found = checks.compute_optimal_over_majority(scope(values))
    assert found.estimate == pytest.approx(0.0) and found.detail.endswith("668k")
    assert certainty(found) == 0.0


def test_mostly_solved_counts_problems():
    found = checks.mostly_solved(scope({}, pass_at_1={("set", LARGE): np.array([0.9] * 15 + [0.7] * 5)}), 0.8, 0.5)
    assert (found.estimate, found.margin) == (0.75, 0.5) and 0.5 < found.low < 0.75
    with pytest.raises(NotTested, match="difficulty of the problems of set for 668k was not counted"):
        checks.mostly_solved(scope({}), 0.8, 0.5)
    with pytest.raises(NotTested, match="6k is no large policy"):
        checks.mostly_solved(scope({}, policies=[SMALL], pass_at_1={("set", SMALL): np.ones(20)}), 0.8, 0.5)


def test_voting_is_a_slope_over_all_prms_of_how_far_they_move_between_two_rules():
    moved = {WEAK: (10, 2), FAIR: (10, 13), GOOD: (10, 10)}  # right answers under either rule: 40 points, 15 the other way, none
    values = {
        (SMALL, prm, "best_of_n", rule): ones(right) for prm, pair in moved.items() for rule, right in zip((LAST_VOTE, MIN_MAX), pair)
    }
    found = checks.voting(scope(values), LAST_VOTE._asdict(), MIN_MAX._asdict())
    assert found.estimate == pytest.approx(-slope(np.log(list(F1.values())), [0.4, 0.15, 0.0]), abs=1e-3) and found.df == 1
    assert "last+vote instead of min+max moves best-of-N so much less per unit of ln F1, 3 PRMs: shepherd-terse 0.39 +40.0%" in found.detail
    assert found.low < found.estimate < found.high


def test_the_gain_by_prm_is_a_slope_over_the_logarithm_of_f1():
    gains = dict(zip(F1, (-0.1, 0.2, 0.5)))
    values = {(SMALL, prm, "beam_search"): ones(10 + int(20 * gain)) for prm, gain in gains.items()}
    values |= {(SMALL, prm, "best_of_n"): ones(10) for prm in F1}
    found = checks.gain_by_prm(scope(values), "beam_search", "best_of_n")
    f1 = [checks.localisation_f1(prm) for prm in F1]
    assert f1 == pytest.approx(list(F1.values()), abs=1e-3)
    assert found.estimate == pytest.approx(slope(np.log(f1), list(gains.values()))) and found.df == 1
    assert "3 PRMs: shepherd-terse 0.39 -10.0%" in found.detail
    with pytest.raises(NotTested, match="how well imported PRMs locate errors is not in the data"):
        checks.gain_by_prm(scope(values, prms=["imported:x/prm"]), "beam_search")


def test_a_prm_without_a_card_is_judged_once_for_all_readings(monkeypatch):
    asked, weights = [], iter("aab")
    monkeypatch.setattr(checks, "weights_of", lambda prm: next(weights))
    monkeypatch.setattr(checks.labelled, "read", lambda split, name: [])
    monkeypatch.setattr(checks.pathologies, "judge", lambda prm, solutions, name: asked.append(prm) or SimpleNamespace(f1=0.5))
    assert [checks.localisation_f1("math-shepherd:own/folder") for _ in range(3)] == [0.5] * 3
    assert len(asked) == 2, "anew for the weights b alone"


def test_poor_prms_are_averaged_and_few():
    values = {(SMALL, None, "majority"): ones(10), (SMALL, WEAK, "beam_search"): ones(4), (SMALL, FAIR, "beam_search"): ones(8)}
    both = checks.poor_prms(scope(values, weak_prms=[WEAK, FAIR]), "majority", "beam_search")
    assert both.estimate == pytest.approx((0.3 + 0.1) / 2) and both.df == 1
    alone = checks.poor_prms(scope(values), "majority", "beam_search")
    assert alone.estimate == pytest.approx(0.3) and np.isinf(alone.df) and alone.detail.endswith("one PRM")


def test_a_reading_is_under_one_rule_or_under_the_best_on_other_problems():
    values = {(SMALL, GOOD, "dvts", MIN_MAX): ones(15), (SMALL, GOOD, "dvts", LAST_VOTE): ones(5)}
    here = scope(values)
    assert here.changed(rule=MIN_MAX).values(SMALL, "dvts", GOOD).mean() == 0.75
    assert here.values(SMALL, "dvts", GOOD).mean() == 0.75, "cross-fitted: min+max is best on all folds"
    told = here.changed(chosen={(SMALL, GOOD, "dvts"): LAST_VOTE})
    assert told.values(SMALL, "dvts", GOOD).mean() == 0.25, "chosen on development problems"
    assert told.changed(rule=MIN_MAX).values(SMALL, "dvts", GOOD).mean() == 0.75


def test_the_best_rules_are_those_of_development_problems():
    development = Typed({(SMALL, GOOD, "dvts", MIN_MAX): ones(15), (SMALL, GOOD, "dvts", LAST_VOTE): ones(16)})
    found = findings.best_rules([development], scope({}), 4)
    assert found[SMALL, GOOD, "dvts"] == LAST_VOTE
    assert set(found) == {(p, v, m) for p in (SMALL, MIDDLE, LARGE) for v in F1 for m in ("best_of_n", "beam_search", "dvts")}


def test_what_was_not_run_or_too_little_is_not_tested():
    with pytest.raises(NotTested, match="3 problems are too few for a verdict; give at least 10"):
        checks.advantage(scope({}, problems=3), "dvts", "best_of_n")
    with pytest.raises(NotTested, match="no run of dvts for 20k with implicit 216k at N = 4"):
        scope({}).values("policy-20k", "dvts", GOOD)
    with pytest.raises(NotTested, match="at N = 8"):
        scope({}, n=8).values(SMALL, "dvts", GOOD)

    class OfOneRule(Typed):
        def rules(self, *cell):
            return [MIN_MAX]

    alone = scope({}, evidence=[OfOneRule({})])
    with pytest.raises(NotTested, match=r"no run of 6k with implicit 216k at N = 4 under the rule last\+vote"):
        alone.changed(rule=LAST_VOTE).candidates(SMALL)
    with pytest.raises(NotTested, match=r"no outcomes for 6k with implicit 216k under the rule last\+vote"):
        alone.changed(rule=LAST_VOTE).values(SMALL, "dvts", GOOD)


def test_a_row_says_under_which_rules_its_verdict_would_be_another():
    """DVTS is ahead under every rule but min+max, by which best-of-N solves all: so with its own best rule best-of-N is ahead."""
    values = {(SMALL, GOOD, "dvts"): ones(16), (SMALL, GOOD, "best_of_n"): ones(4)}
    values |= {(SMALL, GOOD, "dvts", MIN_MAX): ones(0), (SMALL, GOOD, "best_of_n", MIN_MAX): ones(20)}
    claims = findings.read()
    check = findings.Check(check="advantage", method="dvts", over="best_of_n")
    claim = claims.claims["small-easy"].model_copy(update={"measured": check})
    only = claims.model_copy(update={"claims": {"x": claim}})
    rules = findings.by_rule(only, {"here": scope(values)})
    assert rules["rule"].tolist() == [wording.OWN_BEST, *map(str, RULES)]
    assert rules["estimate"].tolist() == pytest.approx([-0.2, -1.0, *[0.6] * 8])
    row = findings.judge(only, {"here": scope(values)}, rules).query("scope == 'here'").iloc[0]
    others = [str(rule) for rule in RULES if rule != MIN_MAX]
    assert (row["rules"], row["above"], row["below"]) == (9, 8, 1) and row["decided above"] == " ".join(others) and row["estimate"] < 0
    assert row["decided below"] == "min+max" and wording.over_rules(row).startswith(
        "of 9 rules 8 for it (8 decided), 1 against (1 decided): "
    )
    assert (row["least"], row["most"]) == (pytest.approx(-1.0), pytest.approx(0.6))


def test_small_policies_are_searched_with_dvts():
    values = {(SMALL, GOOD, "dvts"): ones(12), (SMALL, GOOD, "best_of_n"): ones(2)}
    check = findings.read().claims["small-search"].measured
    found = checks.CHECKS[check.check](scope(values, policies=[SMALL, LARGE]), **check.parameters)
    assert found.estimate == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("finding", "errors"),
    [
        ((2.0, 1.0, 5.0), 1.96 * 2),  # the side towards the margin is the lower one
        ((-1.0, -9.0, 0.0), -1.96),
        ((0.0, 0.0, 0.0), 0.0),
    ],
)
def test_certainty_goes_by_the_side_towards_the_margin(finding, errors):
    assert certainty(Finding(*finding, "points", "", "")) == pytest.approx(errors, abs=1e-3)


@pytest.mark.parametrize(("share", "size"), [(0.009, "small"), (0.097, "small"), (0.1, "middle"), (0.44, "middle"), (0.45, "large")])
def test_size_classes_are_the_studys(share, size):
    assert size_class(share) == size  # 7B and 32B of 72B are 0.0972 and 0.4444


class Rising(Typed):
    """Majority voting is right on half of the problems at N = 16, and on a tenth below; search is right on all."""

    def __init__(self, budgets):
        super().__init__({})
        self.grid = self.grid.model_copy(update={"samples": 16, "budgets": budgets})

    def accuracy(self, problem_set, policy, prm, method, n, rule=None):
        return np.array(ones(20 if prm else 10 if n >= 16 else 2))


def test_efficiency_needs_budgets_below_that_at_which_majority_voting_is_best():
    parts = {"n": 16, "pass_at_1": {("set", SMALL): np.full(20, 0.5)}}
    found = checks.efficiency(scope({}, **parts | {"evidence": [Rising([4, 16]), Rising([16])]}))
    assert (found.bound, found.estimate) == (">", 4.0), "16 samples of the majority's, 4 of the search's"
    with pytest.raises(NotTested, match="at its best with 16 samples; the fewest of a search are 16"):
        checks.efficiency(scope({}, **parts | {"evidence": [Rising([16])]}))


def test_an_efficiency_gain_beyond_its_number_says_so():
    """Where search is as accurate as majority voting's best at the smallest budget already, the gain is only known to be larger.

    Where that best is at this budget too, fewer samples were not tried, and the gain could not come out above 1.
    """
    good = {(SMALL, None, "majority"): ones(10), (SMALL, GOOD, "best_of_n"): ones(20), (SMALL, GOOD, "dvts"): ones(20)}
    with pytest.raises(NotTested, match="6k is at its best with . samples; the fewest of a search are 4"):
        checks.efficiency(scope(good | {(SMALL, GOOD, "beam_search"): ones(20)}, pass_at_1={("set", SMALL): np.full(20, 0.5)}))
    row = {"verdict": "undecided", "unit": "ratio", "bound": ">", "estimate": 1.0, "low": 1.0, "high": 1.0}
    assert wording.formatted(row) == ">1 times"
    assert wording.formatted(row | {"low": 0.5}) == ">1 times [0.5, …]"
    assert wording.formatted(row | {"bound": "<", "high": 2.0}) == "<1 times […, 2]"
    assert wording.formatted(row | {"bound": "="}) == "1 times"
