"""The ledger: checks with outcomes worked out by hand, the correction, and files that are wrong."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from statsmodels.stats.proportion import confint_proportions_2indep

from tts.analysis.evidence import Evidence
from tts.claims import checks, findings
from tts.claims.checks import Finding
from tts.claims.scope import NotTested, Scope, size_class
from tts.generate.grid import Grid

SMALL, LARGE = "policy-6k", "policy-668k"
GOOD, WEAK = "implicit:policy-216k", "prm-shepherd-terse"


class Typed(Evidence):
    """Evidence that was written down: accuracies per (policy, PRM, method), zero where nothing is said."""

    def __init__(self, values, problems=20):
        policies, prms = [SMALL, LARGE], [WEAK, GOOD]
        methods = ["majority", "best_of_n", "beam_search", "dvts"]
        self.grid = Grid(problems={"set": problems}, policies=policies, prms=prms, methods=methods, samples=4, budgets=[4])
        self.values, self.problems = values, problems

    def accuracy(self, problem_set, policy, prm, method, n, rule=None):
        return np.array(self.values.get((policy, prm, method), np.zeros(self.problems)), float)

    def policy_tokens(self, problem_set, policy, prm, method, n):
        return np.full(self.problems, 10.0 * n)

    prm_tokens = policy_tokens

    def prompt_tokens(self, problem_set, policy):
        return np.full(self.problems, 5.0)


def scope(values, problems=20, **changes):
    parts = {
        "problem_set": "set",
        "n": 4,
        "policies": [SMALL, LARGE],
        "searchers": [SMALL],
        "prms": [WEAK, GOOD],
        "good_prm": GOOD,
        "weak_prm": WEAK,
    }
    return Scope(evidence=[Typed(values, problems)], **(parts | changes))


def ones(count, of=20):
    return [1.0] * count + [0.0] * (of - count)


def test_advantage_counts_the_problems_of_its_bins_only():
    values = {(SMALL, GOOD, "dvts"): ones(12), (SMALL, GOOD, "best_of_n"): ones(2)}
    everywhere = checks.advantage(scope(values), "dvts", "best_of_n")
    assert everywhere.estimate == pytest.approx(0.5)
    # the first ten problems are easy, and DVTS is ahead on eight of them
    easy = scope(values, pass_at_1={SMALL: np.array([1.0] * 10 + [0.0] * 10)})
    assert checks.advantage(easy, "dvts", "best_of_n", bins=["easy"]).estimate == pytest.approx(0.8)
    assert checks.advantage(easy, "dvts", "best_of_n", bins=["hard"]).estimate == pytest.approx(0.2)


def test_advantage_averages_over_the_policies_of_a_size():
    values = {(SMALL, GOOD, "dvts"): ones(10), (LARGE, GOOD, "best_of_n"): ones(5)}
    assert checks.advantage(scope(values), "dvts", "best_of_n", size="small").estimate == pytest.approx(0.5)
    assert checks.advantage(scope(values), "best_of_n", "dvts", size="large").estimate == pytest.approx(0.25)
    with pytest.raises(NotTested, match="fewer than 10 problems in all for any policy"):
        checks.advantage(scope(values), "dvts", "best_of_n", size="middle")


def test_a_policy_alone_goes_by_the_studys_sizes_and_has_no_weak_prm():
    values = {(SMALL, GOOD, "dvts"): ones(10)}
    alone = scope(values, policies=[SMALL], prms=[GOOD], weak_prm="")
    assert checks.advantage(alone, "dvts", "best_of_n", size="small").estimate == pytest.approx(0.5)
    with pytest.raises(NotTested, match="fewer than 10 problems in all"):
        checks.advantage(alone, "dvts", "best_of_n", size="large")
    for check in (
        lambda: checks.advantage(alone, "majority", "beam_search", prm="weak"),
        lambda: checks.relative_gain(alone),
        lambda: checks.prm_quality(alone, "best_of_n"),
        lambda: checks.voting(alone.model_copy(update={"other_rule": alone.evidence}), {"aggregate": "min", "vote": "max"}),
    ):
        with pytest.raises(NotTested, match="no weak PRM|there is one policy|there are 1|plays the weak one"):
            check()


def test_interaction_is_a_difference_of_differences():
    values = {(SMALL, GOOD, "beam_search"): ones(15), (SMALL, GOOD, "best_of_n"): ones(5), (SMALL, WEAK, "best_of_n"): ones(4)}
    found = checks.interaction(scope(values), "beam_search", "best_of_n", {"prm": "good"}, {"prm": "weak"})
    assert found.estimate == pytest.approx(0.5 + 0.2)
    assert found.low < found.estimate < found.high
    assert "+50.0% (6k with implicit 216k) less -20.0%" in found.detail


def test_small_over_large_takes_the_largest_policy_that_is_small_enough():
    values = {(SMALL, GOOD, "dvts"): ones(20), (LARGE, None, "cot"): ones(15)}
    found = checks.small_over_large(scope(values), 100)
    assert found.estimate == pytest.approx(0.25) and "6k with TTS 100.0% less 668k with CoT, 106 times" in found.detail
    with pytest.raises(NotTested, match="no policy has 500 times fewer parameters than 668k; the most is 106"):
        checks.small_over_large(scope(values), 500)


def test_over_majority_reports_the_policy_that_is_least_certain():
    values = {(SMALL, GOOD, "dvts"): ones(20), (LARGE, None, "majority"): ones(20), (LARGE, GOOD, "dvts"): ones(20)}
    found = checks.compute_optimal_over_majority(scope(values))
    assert found.estimate == pytest.approx(0.0) and found.detail.endswith("668k")
    assert checks.certainty(found) == 0.0


def test_mostly_solved_counts_problems():
    found = checks.mostly_solved(scope({}, pass_at_1={LARGE: np.array([0.9] * 15 + [0.7] * 5)}), 0.8, 0.5)
    assert (found.estimate, found.margin) == (0.75, 0.5) and 0.5 < found.low < 0.75
    with pytest.raises(NotTested, match="difficulty of the problems for 668k was not counted"):
        checks.mostly_solved(scope({}), 0.8, 0.5)


def test_voting_compares_how_far_two_prms_move():
    here = {(SMALL, WEAK, "best_of_n"): ones(10), (SMALL, GOOD, "best_of_n"): ones(10)}
    there = Typed({(SMALL, WEAK, "best_of_n"): ones(2), (SMALL, GOOD, "best_of_n"): ones(13)})
    against = {"aggregate": "min", "vote": "max"}
    found = checks.voting(scope(here, other_rule=[there]), against)
    assert found.estimate == pytest.approx(abs(0.4) - abs(-0.15))
    with pytest.raises(NotTested, match="no outcomes under the rule min"):
        checks.voting(scope(here), against)


def test_what_was_not_run_or_too_little_is_not_tested():
    with pytest.raises(NotTested, match="3 problems are too few for a verdict; give at least 10"):
        checks.advantage(scope({}, problems=3), "dvts", "best_of_n")
    with pytest.raises(NotTested, match="no run of dvts for 20k with implicit 216k at N = 4"):
        scope({}).values("policy-20k", "dvts", GOOD)
    with pytest.raises(NotTested, match="at N = 8"):
        scope({}, n=8).values(SMALL, "dvts", GOOD)


@pytest.mark.parametrize(
    ("finding", "errors"),
    [
        ((2.0, 1.0, 5.0), 1.96 * 2),  # the side towards the margin is the lower one
        ((-1.0, -9.0, 0.0), -1.96),
        ((0.0, 0.0, 0.0), 0.0),
    ],
)
def test_certainty_goes_by_the_side_towards_the_margin(finding, errors):
    assert checks.certainty(Finding(*finding, "points", "", "")) == pytest.approx(errors, abs=1e-3)


@pytest.mark.parametrize(("share", "size"), [(0.009, "small"), (0.097, "small"), (0.1, "middle"), (0.44, "middle"), (0.45, "large")])
def test_size_classes_are_the_studys(share, size):
    assert size_class(share) == size  # 7B and 32B of 72B are 0.0972 and 0.4444


@pytest.fixture(scope="module")
def published_rows():
    return findings.judge(findings.read(), {}).query("scope == 'published'").set_index("claim")


def test_the_title_is_undecided(published_rows):
    assert published_rows.loc["title", "verdict"] == "undecided"
    assert published_rows.loc["depends-on-prm", "verdict"] == "not tested"


def test_a_claim_of_two_halves_is_as_certain_as_the_less_certain_one(published_rows):
    """Table 4: 3.65e25 / 1.62e23 = 225 and 5.96e25 / 7.56e23 = 78.8; Table 3 on MATH-500: 75.6 against 71.4 and 95.2 against 97.3."""
    found = published_rows.loc["flops"]
    low, high = confint_proportions_2indep(378, 500, 357, 500, method="newcomb")  # 75.6 % and 71.4 % of 500
    assert found["verdict"] == "undecided" and found["unit"] == "points"
    assert found[["estimate", "low", "high"]].tolist() == pytest.approx([0.042, low, high], abs=1e-6)
    assert "75.6 less Llama-3.1-405B-Instruct 71.4" in found["detail"] and "FLOPs, 225 times" in found["detail"]
    r1 = published_rows.loc["flops-r1"]
    assert r1[["verdict", "unit", "estimate"]].tolist() == ["contradicted", "ratio", pytest.approx(78.84, abs=0.01)]
    assert "95.2 less DeepSeek-R1 97.3" in r1["detail"] and "say the opposite" in r1["detail"] and "78.8 times" in r1["detail"]
    assert published_rows.loc["flops-1000", ["verdict", "estimate"]].tolist() == ["contradicted", pytest.approx(225.31, abs=0.01)]


@pytest.mark.parametrize(("column", "difference"), [("MATH-500", 0.952 - 0.973), ("AIME24", 0.833 - 0.798)])
def test_where_the_flops_are_few_enough_the_accuracy_decides(column, difference):
    found = checks.published_flops("DeepSeek-R1-Distill-Qwen-7B", "DeepSeek-R1", 50, column)
    assert (found.unit, found.margin, found.estimate) == ("points", 0.0, pytest.approx(difference))


def test_a_claim_against_the_printed_numbers_says_so_though_undecided(published_rows):
    press = published_rows.loc["fig1-distill-mini-aime"]
    assert press[["verdict", "estimate"]].tolist() == ["undecided", pytest.approx(0.633 - 0.636)]
    assert press["detail"].endswith("63.3 less o1-mini 63.6, 30 problems of AIME24; the printed numbers themselves say the opposite")
    assert "opposite" in published_rows.loc["title-aime", "detail"] and "opposite" not in published_rows.loc["title", "detail"]


def test_claims_that_nothing_tests_yet_say_why():
    claims = findings.read().claims
    assert claims["other-domains"].published.missing == "announced, no numbers"
    assert all(kind.missing for kind in (claims["other-domains"].released, claims["other-domains"].measured))
    assert "size is not known" in claims["fig1-half-b"].measured.missing


def test_a_claim_that_was_added_is_dated_so(published_rows):
    fixed = published_rows["fixed"].to_dict()
    added = {name for name, date in fixed.items() if date == "2026-11-29"}
    assert added == {"small-search", "fig1-distill-mini-aime", "large-every-bin", "flops-1000", "other-domains"}
    assert {fixed[name] for name in fixed if name not in added} == {"2026-11-24"}


def test_small_policies_are_searched_with_dvts():
    values = {(SMALL, GOOD, "dvts"): ones(12), (SMALL, GOOD, "best_of_n"): ones(2)}
    check = findings.read().claims["small-search"].measured
    assert checks.CHECKS[check.check](scope(values), **check.parameters).estimate == pytest.approx(0.5)


def test_tables_begin_with_the_statement_and_end_with_the_identifier():
    ledger = findings.read()
    described, wide = findings.described(ledger), findings.wide(findings.judge(ledger, {}))
    statements = [claim.statement for claim in ledger.claims.values()]
    assert len(set(statements)) == len(statements), "each is to be understood without the others"
    for table in (described, wide):
        assert list(table.index) == statements and list(table["claim"]) == list(ledger.claims) and table.columns[-1] == "claim"
    title = described.loc[statements[0]]
    assert (title["added"], title["released"]) == ("", "not tested: the largest ratio of sizes is 29")
    assert wide.loc[statements[0], "published"] == "undecided +0.8 [-4.8, +6.4]"


def ledger_of(tmp_path, count):
    """A ledger of claims that share one check on published numbers, o1-preview against a 1.5B policy: z is about 3."""
    content = yaml.safe_load(findings.CLAIMS.read_text())
    claim = content["claims"]["fig1-distill-preview"]
    content["claims"] = {f"claim-{i}": claim for i in range(count)}
    path = tmp_path / f"{count}.yaml"
    path.write_text(yaml.safe_dump(content))
    return findings.judge(findings.read(path), {}).query("scope == 'published'")


@pytest.mark.slow
def test_holm_multiplies_the_smallest_p_by_the_number_of_claims(tmp_path):
    alone, ten = (ledger_of(tmp_path, count) for count in (1, 10))
    assert ten["p"].tolist() == pytest.approx([10 * alone["p"].iloc[0]] * 10)
    assert set(ten["verdict"]) == {"supported"}
    many = ledger_of(tmp_path, 40)
    assert set(many["verdict"]) == {"undecided"} and many["estimate"].tolist() == pytest.approx([alone["estimate"].iloc[0]] * 40)


@pytest.mark.slow
def test_the_committed_ledger_has_every_claim_in_every_scope():
    claims = findings.read()
    grid = Grid(problems={"pocket-main": 1}, policies=[SMALL], prms=[GOOD], samples=4, budgets=[4], aggregate="product", vote="vote")
    scopes = findings.committed_scopes(claims, grid)
    assert scopes["pocket"].count == 300 and scopes["laptop"].count == 100
    ledger = findings.judge(claims, {"pocket": scopes["pocket"]})
    assert len(ledger) == 3 * len(claims.claims) and set(ledger["verdict"]) <= set(findings.VERDICTS)
    tested = ledger[ledger["verdict"] != "not tested"]
    assert (tested["low"] <= tested["estimate"]).all() and (tested["estimate"] <= tested["high"]).all()
    assert ((tested["verdict"] == "undecided") == (tested["p"] >= 0.05)).all()


@pytest.mark.slow
def test_export_holds_every_row(tmp_path):
    ledger = findings.judge(findings.read(), {})
    as_json, as_csv = findings.export(ledger, tmp_path)
    assert [row["claim"] for row in json.loads(as_json.read_text())] == ledger["claim"].tolist()
    again = pd.read_csv(as_csv)
    assert findings.wide(again).equals(findings.wide(ledger))


def claims_with(published, released={"missing": "m"}):  # noqa: B006
    checked = {"published": published, "released": released, "measured": {"missing": "m"}}
    return {"claims": {"x": {"statement": "s", "reference": "r"} | checked}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fixed": "soon"}, "fixed: Input should be a valid date"),
        (claims_with({"check": "table9"}), "no check 'table9'"),
        (claims_with({}), "give either check"),
        (claims_with({"missing": "m"}, {"check": "table3"}), "claim 'x', released: no check 'table3'; known: efficiency, gsm8k"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_claims_file_says_where(tmp_path, change, message):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(findings.CLAIMS.read_text()) | change))
    with pytest.raises(findings.ClaimsError, match=re.escape(message)):
        findings.read(path)


def test_a_missing_or_broken_claims_file_is_named(tmp_path):
    with pytest.raises(findings.ClaimsError, match="no claims file"):
        findings.read(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("claims: [")
    with pytest.raises(findings.ClaimsError, match="broken.yaml is not a claims file"):
        findings.read(tmp_path / "broken.yaml")


def test_an_efficiency_gain_beyond_its_number_says_so():
    """Where search is as accurate as majority voting's best at the smallest budget already, the gain is only known to be larger."""
    good = {(SMALL, None, "majority"): ones(10), (SMALL, GOOD, "best_of_n"): ones(20), (SMALL, GOOD, "dvts"): ones(20)}
    found = checks.efficiency(scope(good | {(SMALL, GOOD, "beam_search"): ones(20)}, pass_at_1={SMALL: np.full(20, 0.5)}))
    assert (found.bound, found.estimate) == (">", 1.0)
    row = {"verdict": "undecided"} | {name: getattr(found, name) for name in ("estimate", "low", "high", "unit", "bound")}
    assert findings.formatted(row) == ">1 times"
    assert findings.formatted(row | {"low": 0.5}) == ">1 times [0.5, …]"
    assert findings.formatted(row | {"bound": "<", "high": 2.0}) == "<1 times […, 2]"
    assert findings.formatted(row | {"bound": "="}) == "1 times"
