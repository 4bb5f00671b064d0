"""Sentences say no more than the data: accuracies written down per problem, and what may be said of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tts.analysis.evidence import Evidence
from tts.generate.grid import Grid
from tts.report import summaries, tables
from tts.strategy import choices

CONTRASTS = pd.DataFrame({"verdict": ["undecided"]})


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
    return summaries.methods(Typed(right, **changes), CONTRASTS, 4)[0].removeprefix("set, 6k with a, N = 4: ")


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
    [line, _] = summaries.methods(Typed({"majority": 16, "cot": 4}, prms=(), methods=("majority",)), CONTRASTS, 4)
    assert line == "set, 6k, N = 4: Majority is best with 80.0% [58%, 92%], ahead of CoT 20.0%"


def test_the_best_prm_is_compared_with_the_others_and_with_majority():
    rows = pd.DataFrame({"prm": ["prm-a", "prm-b"], "f1": [0.3, 0.7]})
    evidence = Typed({("prm-a", "best_of_n"): 4, ("prm-b", "best_of_n"): 5, "majority": 16, "cot": 1}, ("prm-a", "prm-b"))
    [line, fit] = summaries.quality(evidence, rows, (np.nan,) * 3, "policy-6k", 4)
    assert line == "6k, best-of-4: majority voting is best with 80.0% [58%, 92%], ahead of b (F1 0.70) 25.0%, a (F1 0.30) 20.0%"
    assert fit == "too few PRMs for a fit of accuracy over F1"


def gains(*relative, width=0.1):
    columns = {"policy": [f"policy-{i}k" for i, _ in enumerate(relative, 1)], "cot": 0.5}
    for name in ("relative gain", "error reduction"):
        columns |= {name: relative, f"{name} low": np.array(relative) - width, f"{name} high": np.array(relative) + width}
    return pd.DataFrame(columns)


def test_one_policy_or_two_show_no_trend():
    one, two = (summaries.scaling(gains(*relative)) for relative in ((0.5,), (0.5, 0.05)))
    assert one[0] == "relative gain of compute-optimal TTS over CoT: +50% [+40%, +60%] at 1k"
    assert one[-1] == "no trend with size: it takes 3 policies, and there is 1"
    assert two[0].endswith("+50% [+40%, +60%] at 1k, +5% [-5%, +15%] (undecided) at 2k") and two[-1].endswith("there are 2")
    assert not any("falls" in line or "steadily" in line for line in one + two)


def test_a_trend_of_three_policies_is_said_with_how_far_the_ends_lie_apart():
    falling, level, rising = (summaries.scaling(gains(*relative))[-1] for relative in ((0.9, 0.5, 0.1), (0.2, 0.15, 0.1), (0.1, 0.5, 0.2)))
    assert falling.startswith("the relative gain falls from each policy to the next larger one of 3 policies; the intervals of")
    assert falling.endswith("of the smallest and the largest lie apart")
    assert "falls from each" in level and level.endswith("overlap")
    assert rising.startswith("the relative gain does not fall at each step of 3 policies")


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
