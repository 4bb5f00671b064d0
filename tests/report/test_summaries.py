"""Sentences say no more than the data: accuracies written down per problem, and what may be said of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tts.analysis.evidence import Evidence
from tts.analysis.stats import Interval
from tts.claims.findings import Finding
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
        {"DVTS beats Best-of-N with a": -2, "DVTS beats Best-of-N with b": 6, "DVTS gains more over Best-of-N with b than with a": 8}
    )
    majority = summaries.method_claims(Typed(right), 4, "majority")
    assert {claim: 20 * gain.mean() for claim, gain in majority.items()} == pytest.approx(
        {"Best-of-N beats Majority with a": 6, "DVTS beats Majority with a": 4}
    )
    assert summaries.method_claims(Typed({"majority": 4}, (), ("majority",)), 4, "best_of_n") == {}


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


def test_one_policy_makes_no_pair():
    pairs = pd.DataFrame(columns=["small", "how", "large", "times larger", "TTS", "CoT", "difference", "low", "high", "verdict"])
    solver = {
        "policy": "policy-6k",
        "prm": "prm-a",
        "solver": "policy-20k",
        "difference": 0.01,
        "low": -0.1,
        "high": 0.1,
        "verdict": "undecided",
    }
    [none, alone] = summaries.small_against_large(pairs, pd.DataFrame([solver]))
    assert none == summaries.NO_PAIR
    assert alone.endswith(
        "1 policy: 0 supported, 1 undecided, 0 contradicted; largest difference +1.0 [-10.0, +10.0] points for 6k (undecided)"
    )
    assert summaries.flops(pd.DataFrame(), pd.DataFrame(), ["policy-6k"]) == [summaries.NO_PAIR]
    assert "no smaller policy" in summaries.flops(pd.DataFrame(), pd.DataFrame(), ["policy-6k", "policy-20k"])[0]


def test_where_neither_solves_a_problem_nothing_is_gained():
    nothing, all_by_tts = (Typed({"dvts": right, "majority": 0, "cot": 0}, methods=("dvts",)) for right in (0, 20))
    one, other = (tables.gains(e, "set", "prm-a", 4, choices.choices(["dvts"], [e.grid.rule])).iloc[0] for e in (nothing, all_by_tts))
    assert one["relative gain"] == one["relative gain low"] == one["relative gain high"] == 0
    assert other["relative gain"] == pytest.approx(39), "20 problems over half a one"
