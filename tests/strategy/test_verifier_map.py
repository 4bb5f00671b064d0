"""The verifier map: winners, prediction between its points and regret, on maps worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tts.analysis.evidence import Evidence
from tts.generate.grid import Grid
from tts.strategy import verifier_map

METHODS = ["majority", "best_of_n", "beam_search", "dvts"]


class Typed(Evidence):
    """Evidence in which an accuracy is a function of policy, PRM and method, the same for every problem."""

    def __init__(self, policies, prms, of, problems=100):
        self.grid = Grid(problems={"set": problems}, policies=policies, prms=prms, methods=METHODS, samples=4, budgets=[4])
        self.of, self.problems = of, problems

    def accuracy(self, problem_set, policy, prm, method, n, rule=None):
        return np.full(self.problems, self.of(policy, prm, method), float)

    def policy_tokens(self, *cell):
        raise NotImplementedError

    prm_tokens = prompt_tokens = policy_tokens


SKILL = {"policy-10k": 0.2, "policy-94k": 0.8}


def dialled(policy, prm, method):
    """Best-of-N falls with false positives, DVTS with false negatives too; majority is the policy's skill."""
    if method in ("cot", "majority"):
        return SKILL[policy]
    fp, fn = verifier_map.rates(prm)
    return SKILL[policy] + {"best_of_n": 0.1 - 0.2 * fp, "dvts": 0.2 - 0.2 * fp - fn, "beam_search": -0.1}[method]


@pytest.fixture(scope="module")
def evidence():
    return Typed(list(SKILL), [f"dial:{fp},{fn}" for fp in (0, 0.5) for fn in (0, 0.2)], dialled)


def test_winners_at_each_point(evidence):
    table = verifier_map.winners(evidence, "set", 4).set_index(["policy", "false positive", "false negative"])
    assert table.loc[("policy-10k", 0.0, 0.0), ["best", "decided"]].tolist() == ["dvts", True]
    assert table.loc[("policy-10k", 0.0, 0.2), "best"] == "best_of_n"
    assert table.loc[("policy-94k", 0.0, 0.0), "lead"] == pytest.approx(0.1)
    # at 50 % and 0 % best-of-N and majority are level: whoever is named, the lead is nothing and undecided
    assert table.loc[("policy-94k", 0.5, 0.0), "best"] == "dvts"
    level = table.loc[("policy-94k", 0.5, 0.2)]
    assert level["lead"] == pytest.approx(0.0) and not level["decided"]


def test_prediction_is_linear_between_points_and_flat_beyond(evidence):
    prediction = verifier_map.Prediction(evidence, "set", 4)
    assert prediction.accuracies(0.5, 0.25, 0.1)["dvts"] == pytest.approx(0.5 + 0.2 - 0.05 - 0.1)
    assert prediction.accuracies(0.5, 0.0, 0.0)["majority"] == pytest.approx(0.5)
    assert prediction.accuracies(0.99, 0.9, 0.9) == prediction.accuracies(0.8, 0.5, 0.2)


def test_regret_is_what_a_choice_leaves_on_the_table(evidence):
    real = {"majority": 0.30, "best_of_n": 0.35, "beam_search": 0.20, "dvts": 0.45, "cot": 0.3}
    held = Typed(["policy-10k"], ["prm-qwen-54k"], lambda policy, prm, method: real[method])
    prediction = verifier_map.Prediction(evidence, "set", 4)
    # at no false negatives the map says DVTS, which is right; the study's rule for a small policy is beam search
    table, lost = verifier_map.regrets([held, held], "set", 4, prediction, {"prm-qwen-54k": (0.0, 0.0)})
    assert table[["predicted", "rule", "best"]].to_numpy().tolist() == [["dvts", "beam_search", "dvts"]]
    assert [lost[name].mean() for name in ("map", "rule", "always DVTS")] == pytest.approx([0.0, 0.25, 0.0])
    # with many false negatives it says best-of-N, and loses ten points
    _, lost = verifier_map.regrets([held], "set", 4, prediction, {"prm-qwen-54k": (0.0, 0.2)})
    assert lost["map"].mean() == pytest.approx(0.10)
    assert (lost["rule"] - lost["map"]).mean() == pytest.approx(0.15)


def test_prms_without_a_place_are_left_out(evidence):
    table, lost = verifier_map.regrets([evidence], "set", 4, verifier_map.Prediction(evidence, "set", 4), {})
    assert table.empty and lost == {}


def test_the_committed_map_is_complete():
    grid = Grid(
        problems={"pocket-main": 1}, policies=["policy-6k"], methods=["majority"], samples=4, budgets=[4], aggregate="product", vote="vote"
    )
    held = verifier_map.committed_map(grid)
    assert len(held.grid.prms) == 25 and held.grid.policies == list(verifier_map.POLICIES) and held.grid.problems == {"pocket-main": 200}
    table = verifier_map.winners(held, "pocket-main", 16)
    assert len(table) == 75
    # a checker that never errs is better than one that errs often, whatever the policy
    best = table.assign(top=table[METHODS].max(axis=1)).set_index(["policy", "false positive", "false negative"])["top"]
    assert all(best[p, 0.0, 0.0] > best[p, 0.7, 0.4] for p in verifier_map.POLICIES)
