"""Sentences say no more than the data: accuracies written down per problem, and what may be said of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tts.analysis.evidence import Evidence
from tts.analysis.stats import Interval
from tts.claims import comparisons
from tts.claims.finding import Finding
from tts.generate.grid import Grid
from tts.report import summaries, tables
from tts.strategy import choices


class Typed(Evidence):
    """Of 20 problems each way solves the first so many; ``right``: method, or (PRM, method) -> how many."""

    def __init__(self, right, prms=("prm-a",), methods=("majority", "best_of_n", "dvts"), problems=20):
        names = {"policies": ["policy-6k"], "prms": list(prms), "methods": list(methods)}
        self.grid = Grid(problems={"set": problems}, **names, samples=4, budgets=[4])
        self.right = {"pass": 0} | right

    def accuracy(self, problem_set, policy, prm, method, n, rule=None):
        [count] = self.grid.problems.values()
        return (np.arange(count) < self.right.get((prm, method), self.right.get(method))).astype(float)

    def policy_tokens(self, problem_set, policy, prm, method, n):
        return np.full(sum(self.grid.problems.values()), 10.0 * n)

    prm_tokens = policy_tokens

    def prompt_tokens(self, problem_set, policy):
        return np.full(sum(self.grid.problems.values()), 5.0)


def told(right, **changes):
    return summaries.methods(Typed(right, **changes), 4)[0].removeprefix("set, 6k with a, N = 4: ")


@pytest.mark.parametrize(
    ("right", "sentence"),
    [
        # of 20 problems: DVTS, best-of-N, majority, CoT; 12 more are decided, one more is not
        ((16, 4, 4, 2), "DVTS is best with 80.0% [58%, 92%], ahead of Majority 20.0%, Best-of-N 20.0%, CoT 10.0%"),
        ((16, 15, 16, 4), "Majority 80.0% [58%, 92%], level with DVTS 80.0%, not decidedly ahead of Best-of-N 75.0%, ahead of CoT 20.0%"),
        ((9, 9, 9, 9), "Majority 45.0% [25%, 65%], level with Best-of-N 45.0%, DVTS 45.0%, CoT 45.0%"),
        ((0, 0, 0, 0), "no problem is solved by Majority, Best-of-N, DVTS, CoT"),
    ],
)  # fmt: skip
def test_the_best_of_all_methods_is_the_best_and_ties_are_said(right, sentence):
    assert told(dict(zip(("dvts", "best_of_n", "majority", "cot"), right))) == sentence


def test_what_is_behind_majority_voting_is_said():
    found = told({"dvts": 15, "best_of_n": 4, "majority": 16, "cot": 18})
    assert found.startswith("CoT 90.0% [70%, 97%], not decidedly ahead of Majority 80.0%, DVTS 75.0%, ahead of Best-of-N 20.0%")
    assert found.endswith("; behind majority voting: Best-of-N") and "best" not in found.replace("Best-of-N", "")


def test_few_problems_decide_nothing_and_no_prm_is_needed():
    assert told({"dvts": 9, "best_of_n": 0, "majority": 0, "cot": 0}, problems=9).startswith(
        "DVTS 100.0% [70%, 100%], not decidedly ahead of"
    )
    [line] = summaries.methods(Typed({"majority": 16, "cot": 4}, prms=(), methods=("majority",)), 4)
    assert line == "set, 6k, N = 4: Majority is best with 80.0% [58%, 92%], ahead of CoT 20.0%"


def test_claims_of_methods_are_paired_differences_over_all_policies():
    right = {("prm-a", "dvts"): 8, ("prm-b", "dvts"): 16, ("prm-a", "best_of_n"): 10, ("prm-b", "best_of_n"): 10, "majority": 4}
    evidence = Typed(right, ("prm-a", "prm-b"))
    over = summaries.method_claims(evidence, 4, "best_of_n")
    assert {claim: 20 * gain.mean() for claim, gain in over.items()} == pytest.approx(
        {
            "DVTS beats Best-of-N with a (set)": -2,
            "DVTS beats Best-of-N with b (set)": 6,
            "DVTS gains more over Best-of-N with b than with a (set)": 8,
        }
    )
    majority = summaries.method_claims(Typed(right), 4, "majority")
    assert {claim: 20 * gain.mean() for claim, gain in majority.items()} == pytest.approx(
        {"Best-of-N beats Majority with a (set)": 6, "DVTS beats Majority with a (set)": 4}
    )
    assert summaries.method_claims(Typed({"majority": 4}, (), ("majority",)), 4, "best_of_n") == {}


def test_a_check_and_a_table_have_one_interval_and_what_is_unknown_is_not_tested():
    gain = np.repeat([1.0, 0.0], [5, 95])  # so few problems differ that resamples alone would cover too little
    told = summaries.checked({"a beats b": gain, "c beats d": np.full(20, np.nan)}).set_index("claim")
    assert told.loc["a beats b", "this run shows it"] == comparisons.contrast(gain, np.zeros(100))["verdict"] == "undecided"
    assert told.loc["a beats b", "by"].removesuffix(" points") == comparisons.contrast(gain, np.zeros(100))["difference (points)"]
    assert told.loc["c beats d"].tolist() == ["not tested", "it is unknown"]


def test_a_claim_is_shown_where_its_interval_lies_above_its_margin():
    """Differences of 20 problems: all the same, so that the interval is the estimate; half, so that it holds 0; too few."""
    same, half = np.full(20, 0.05), np.repeat([0.5, -0.5], 10)
    ratio = {name: Finding(2.0, low, 3.0, "bootstrap", "ratio", "", 1.0) for name, low in (("above", 1.5), ("around", 0.5))}
    given = {"more": same, "less": -same, "either": half, "few": same[:9], "why": "no PRM"} | ratio
    given["an interval"] = Interval(0.1, 0.05, 0.2, "bootstrap")
    rows = summaries.checked(given)
    assert rows.columns.tolist() == ["claim", "this run shows it", "by"]
    found = {row[0]: row[1:] for row in rows.itertuples(index=False)}
    assert found["more"] == ("yes", "+5.0 points") and found["less"] == ("no", "-5.0 points") and found["either"][0] == "undecided"
    assert found["few"] == ("not tested", "9 problems are too few") and found["why"] == ("not tested", "no PRM")
    assert found["above"] == ("yes", "2 times [1.5, 3]") and found["around"] == ("undecided", "2 times [0.5, 3]")
    assert found["an interval"] == ("yes", "+10.0 [+5.0, +20.0] points")
    assert summaries.checked({}).empty


def test_claims_on_a_tables_rows():
    rows = pd.DataFrame({"small one": ["a", "b"], "difference": [0.04, 0.6], "low": [0.01, 0.4], "high": [0.07, 0.8]})
    found = summaries.checked(summaries.claims_of(rows, "{small one} beats c", 10))
    assert found.values.tolist() == [["a beats c", "yes", "+4.0 [+1.0, +7.0] points"], ["b beats c", "yes", "+60.0 [+40.0, +80.0] points"]]
    most = summaries.checked(summaries.claims_of(rows, "most of {small one}", unit="share", margin=0.5))
    assert most.values.tolist() == [["most of a", "no", "4 % [1 %, 7 %]"], ["most of b", "undecided", "60 % [40 %, 80 %]"]]
    assert set(summaries.claims_of(rows, "{small one} beats c", 9).values()) == {"9 problems are too few"}


def test_sizes_are_compared_with_the_next_larger_and_with_the_prms_base_model():
    """Of three sizes two pairs, not the one of the ends; of two policies below the base model the larger; the base model itself is not."""
    ends = {"difference": 0.1, "low": 0.05, "high": 0.2}
    sizes = [("policy-6k", "policy-10k", 1.6), ("policy-6k", "policy-20k", 3.3), ("policy-10k", "policy-20k", 2.0)]
    pairs = pd.DataFrame([{"small": a, "large": b, "times larger": ratio} | ends for a, b, ratio in sizes])
    solver = {"prm": "prm-a", "solver": "policy-20k", "verdict": "supported"} | ends
    solvers = pd.DataFrame([solver | {"policy": name} for name in ("policy-10k", "policy-6k", "policy-20k")])
    unknown = solver | {"policy": "policy-6k", "prm": "prm-b", "solver": "unknown", "verdict": "not tested"}
    solvers = pd.concat([solvers, pd.DataFrame([unknown])])
    assert list(summaries.size_claims(pairs, solvers, 20)) == [
        "policy-6k with TTS beats policy-10k, the next larger, with CoT",
        "policy-10k with TTS beats policy-20k, the next larger, with CoT",
        "policy-10k with prm-a beats policy-20k, the PRM's base model, with CoT",
    ]
    assert summaries.size_claims(pairs[:0], solvers[:0], 20) == {}, "one policy makes no pair"


def test_costs_of_one_pair_are_ratios_above_1_or_not():
    row = {"small with TTS": "a", "large with CoT": "b", "counted": "full"} | dict.fromkeys(comparisons.CLAIMS, 2.0)
    found = pd.DataFrame([row | {"times fewer inference FLOPs": 0.5}, row | {"small with TTS": "c"}])
    rows = summaries.checked(summaries.cost_claims(found, ("a", "b")))
    assert rows["claim"].tolist()[0] == "a with TTS: fewer total FLOPs than b with CoT (full count)"
    assert rows["this run shows it"].tolist() == ["yes", "no", "yes"] and rows["by"].tolist() == ["2 times", "0.5 times", "2 times"]
    assert summaries.cost_claims(found, None) == {}


def test_checks_catch_most_errors_or_not():
    contrasts = pd.DataFrame([{"size": "policy-51k", "contrast": "external - internal", "difference": 0.4, "low": 0.3, "high": 0.5}])
    what = ["operations that are wrong", "wrong ones that their check calls wrong"]
    catches = pd.DataFrame({"policy": ["a", "a"], "what": what, "share": [0.1, 0.33], "low": [0.1, 0.27], "high": [0.2, 0.38]})
    rows = summaries.checked(summaries.thinking_claims(contrasts, catches, 100))
    assert rows.values.tolist() == [
        ["policy-51k: external beats internal", "yes", "+40.0 [+30.0, +50.0] points"],
        ["a: its checks call most of its wrong operations wrong", "no", "33 % [27 %, 38 %]"],
    ]


def test_where_neither_solves_a_problem_nothing_is_gained():
    nothing, all_by_tts = (Typed({"dvts": right, "majority": 0, "cot": 0}, methods=("dvts",)) for right in (0, 20))
    one, other = (tables.gains(e, "set", "prm-a", 4, choices.choices(["dvts"], [e.grid.rule])).iloc[0] for e in (nothing, all_by_tts))
    assert one["relative gain"] == one["relative gain low"] == one["relative gain high"] == 0
    assert other["relative gain"] == pytest.approx(39), "20 problems over half a one"
