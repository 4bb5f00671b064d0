"""When small beats large: each verifier's furthest decided pair, and how well it tells."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
from typed_evidence import GOOD, LARGE, MIDDLE, SMALL, WEAK, Typed, scope

from tts.analysis import costs
from tts.claims import checks, domains, released
from tts.claims.finding import Finding
from tts.generate import labelled
from tts.generate.labelled import Labelled
from tts.models.files import POCKET_FOLDER
from tts.tasks.pocket_code import POCKET_CODE

OWN = "implicit:policy-code-7k"


def right(first, count=100):
    return np.arange(count) < first


def values(small, large, prm=GOOD):
    """The smallest policy with best-of-N solves the first ``small`` of 100 problems, the largest with CoT the first ``large``.

    The middle one solves one fewer.
    """
    return {(SMALL, prm, "best_of_n"): right(small), (LARGE, None, "cot"): right(large), (MIDDLE, None, "cot"): right(large - 1)}


def test_a_verifier_tells_by_the_product_of_its_scores(monkeypatch):
    solutions = [Labelled("p", ("a", "b"), error, "policy-6k") for error in (-1, -1, 1, 0)]
    scores = [(0.9, 0.9), (0.8, 0.5), (0.9, 0.5), (0.4, 1.0)]  # products 0.81 and 0.4 of right ones, 0.45 and 0.4 of wrong ones
    monkeypatch.setattr(labelled, "read", lambda split, name: solutions)
    monkeypatch.setattr(labelled, "step_scores", lambda prm, *sets, kept=None: [scores])
    monkeypatch.setattr(checks, "on_card", lambda prm, name: {"AUC": 0.7} if prm == "measured" else {})
    told = domains.telling("prm", labelled.POCKET)
    assert told == pytest.approx((1 + 1 + 0 + 0.5) / 4) and domains.telling("measured", labelled.POCKET) == 0.7


@pytest.mark.parametrize("prm", ["prm-qwen-28k", "implicit:policy-puzzles-10k"])
def test_a_card_says_what_is_measured_with_its_weights_on_its_set(prm, monkeypatch, tmp_path):
    of_card = domains.telling(prm, name := "pocket-puzzles" if "puzzles" in prm else labelled.POCKET)
    assert checks.on_card(prm, name)["AUC"] == of_card and checks.on_card(prm, "pocket-code") == {}
    shutil.copytree(POCKET_FOLDER / prm.rpartition(":")[2], tmp_path / "copy")
    copied = prm.replace(prm.rpartition(":")[2], str(tmp_path / "copy"))
    assert checks.on_card(copied, name)["AUC"] == of_card
    weights = tmp_path / "copy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + bytes(4))
    assert checks.on_card(copied, name) == {}, "of other weights"
    monkeypatch.setattr(checks, "on_card", lambda prm, name: {})
    assert domains.telling(prm, name) == pytest.approx(of_card, abs=1e-4)


def test_the_reach_is_the_largest_ratio_that_is_decided():
    sizes = {policy: costs.shape_of(policy).parameters for policy in (SMALL, LARGE)}
    here = scope(values(60, 20), 100)
    table = domains.pairs(here).set_index(["small", "large"])
    pair = table.loc[SMALL, LARGE]
    assert len(table) == 3 and pair["difference"] == pytest.approx(0.4) and pair["times"] == sizes[LARGE] / sizes[SMALL]
    alone = Finding(*(pair[name] for name in ("difference", "low", "high")), "bootstrap", "points", "").p
    assert pair["p"] <= 3 * alone and pair["p"] < 1e-6, "Holm over three pairs"
    found = domains.reach(here)
    assert (found["small"], found["large"], found["decided"], found["pairs"]) == (SMALL, LARGE, 2, 3)
    # Best-of-4 writes 40 tokens a problem and CoT 10, by policies whose sizes differ more; the PRM is deployed too.
    assert found["times fewer deployed parameters"] == pytest.approx(sizes[LARGE] / (sizes[SMALL] + costs.shape_of(GOOD).parameters))


@pytest.mark.parametrize("small, large", [(20, 60), (22, 20)])
def test_nothing_is_passed_where_no_pair_is_decided_for_the_smaller(small, large):
    assert domains.reach(scope(values(small, large), 100)) == {"pairs": 3, "decided": 0}


def test_a_larger_policy_that_a_smaller_one_equals_alone_is_no_measure_of_size():
    equal = values(60, 20) | {(MIDDLE, None, "cot"): right(20)}
    assert domains.pairs(scope(equal, 100))["large"].tolist() == [MIDDLE]
    assert domains.pairs(scope(values(60, 0), 100)).empty and domains.reach(scope(values(60, 0), 100)) == {"pairs": 0, "decided": 0}


def test_majority_voting_reaches_without_a_verifier():
    here = scope(values(0, 20) | {(SMALL, None, "majority"): right(60)}, 100)
    found = domains.reach(here, "majority")
    sizes = {policy: costs.shape_of(policy).parameters for policy in (SMALL, LARGE)}
    assert found["large"] == LARGE and found["times fewer deployed parameters"] == pytest.approx(sizes[LARGE] / sizes[SMALL])


def test_domains_are_scopes_with_labelled_solutions(monkeypatch):
    monkeypatch.setattr(domains, "telling", lambda prm, name, kept: {WEAK: 0.6, GOOD: 0.9}[prm])
    evidence = [Typed(values(60, 20) | values(10, 20, WEAK), 100, "pocket-main")]
    here = scope({}, 100, problem_sets=["pocket-main"], prms=[WEAK, GOOD], evidence=evidence)
    table = domains.by_verifier({"arithmetic": here, "missing": None, "other": scope({}, 100)}).set_index("verifier")
    assert list(table.index) == [domains.NONE, WEAK, GOOD] and set(table["count"]) == {100} and set(table["domain"]) == {"arithmetic"}
    assert table["decided"].tolist() == [0, 0, 2] and np.isnan(table.loc[WEAK, "times"]) and table.loc[GOOD, "large"] == LARGE
    assert table["made from"].isna().all(), "neither base model is a policy of this scope"
    base = scope({("policy-216k", None, "cot"): right(50)}, 100, policies=["policy-216k"], prms=[GOOD], problem_sets=["pocket-main"])
    base = base.changed(evidence=[OneMore({("policy-216k", None, "cot"): right(50)}, 100, "pocket-main")])
    row = domains.by_verifier({"arithmetic": base}).iloc[1]
    assert row["alone"] == 0.5 and row["gap"] == pytest.approx(0.9 / 0.5) and row["pairs"] == 0


def test_a_rule_has_a_row_of_its_own_by_best_of_n():
    """Every right program passes the examples of its problem; of wrong ones those that pass tell nothing."""
    solutions = labelled.read("test", "pocket-code")
    wrong = [s for s in solutions if s.first_error >= 0]
    passed = sum(POCKET_CODE.rule("tests:public", s.problem, POCKET_CODE.join(s.steps)) for s in wrong)
    by_rule = {(SMALL, "tests:public", "best_of_n"): right(60), (LARGE, None, "cot"): right(20), (MIDDLE, None, "cot"): right(19)}
    parts = {"problem_sets": ["pocket-code"], "prms": [OWN], "good_prm": OWN, "rules": ["tests:public"]}
    here = scope({}, 100, evidence=[ByRule(by_rule, 100, "pocket-code")], **parts)
    row = domains.by_verifier({"code": here}).set_index("verifier").loc["tests:public"]
    assert 0 < passed < len(wrong) and row["AUC"] == pytest.approx(1 - passed / len(wrong) / 2, abs=1e-4)
    assert (row["small"], row["large"], row["parameters"], row["TTS"]) == (SMALL, LARGE, 0, 0.6)


class ByRule(Typed):
    """Evidence of best-of-N by a rule, and by a PRM that can read list programs."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.grid = self.grid.model_copy(update={"prms": [OWN, "tests:public"]})


class OneMore(Typed):
    """Evidence of the policy that the good PRM is made from."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.grid = self.grid.model_copy(update={"policies": ["policy-216k"]})


def test_released_pairs_have_a_ratio_where_sizes_are_known_and_no_costs():
    maths, programs = domains.real().to_dict("records")
    assert maths["times"] == pytest.approx(175 / 6) and (maths["count"], maths["decided"]) == (1319, 1) and maths["low"] > 0
    assert np.isnan([maths["AUC"], programs["AUC"], programs["times"], programs["times fewer total FLOPs"]]).all()
    assert (programs["count"], programs["decided"]) == (164, 0) and programs["high"] < 0
    assert programs["TTS"] - programs["CoT"] == pytest.approx(programs["difference"])


def test_best_of_n_of_counted_programs_is_that_of_every_choice():
    """Four programs, two of which pass the public tests and one of these the hidden ones, as does one more: all pairs by hand."""
    row = {"model": "m", "task": "t", "programs": 4, "right": 2, "public": 2, "public_right": 1}
    found = released.of_programs(pd.DataFrame([row]), 2).iloc[0]
    right, public = [1, 0, 1, 0], [1, 1, 0, 0]
    pairs = list(itertools.combinations(range(4), 2))
    best = [np.mean([right[i] for i in pair if public[i] == max(public[j] for j in pair)]) for pair in pairs]
    assert found["best"] == pytest.approx(np.mean(best))
    assert found["passed"] == pytest.approx(np.mean([max(right[i] for i in pair) for pair in pairs]))


def test_claims_stand_side_by_side_where_two_domains_test_them():
    names = ["claim", "statement", "scope", "verdict", "estimate", "low", "high", "unit", "bound"]
    ledger = [("a", "A", "x", "supported", 0.1, 0.05, 0.15, "points", "="), ("a", "A", "y", "undecided", 0.0, -0.1, 0.1, "points", "=")]
    ledger += [("b", "B", "x", "supported", 0.1, 0.05, 0.15, "points", "="), ("b", "B", "y", "not tested", *[np.nan] * 3, "", "")]
    table = domains.side_by_side(pd.DataFrame(ledger, columns=names), ["x", "y"])
    assert table.to_dict("index") == {"A": {"x": "supported +10.0 [+5.0, +15.0]", "y": "undecided +0.0 [-10.0, +10.0]"}}


def test_the_measures_are_held_against_the_reach():
    rows = pd.DataFrame({"AUC": [0.6, 0.7, 0.9, 0.95], "gap": [3.0, 2.0, 1.0, np.nan], "times": [np.nan, 2.0, 20.0, 5.0]})
    table = domains.ordered(rows)
    assert table.loc["AUC"].tolist() == [1.0, 3.0] and table.loc["gap"].tolist() == [-1.0, 3.0], "the fourth has no gap"
