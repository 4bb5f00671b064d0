"""Methods at equal tokens, from typed accuracies and tokens: against which number of plain samples, and what to use when."""

from __future__ import annotations

import numpy as np
import pytest

from tts.analysis import costs, flops
from tts.analysis.evidence import Evidence
from tts.claims import equal_cost
from tts.generate.grid import grid_of

METHODS = ["majority", "adaptive_consistency", "best_of_n", "rebase", "mcts"]
ASKED = ("pocket-main", "policy-6k", "prm-qwen-28k")
TOKENS = {"rebase": 25, "mcts": 10, "adaptive_consistency": 5}  # of each sample of N, where the pool's has 10
RIGHT = {"majority": 30, "adaptive_consistency": 30, "best_of_n": 40, "rebase": 70, "mcts": 42}  # of 100 at N = 16


class Typed(Evidence):
    """Accuracy of the first problems, more at a larger N; the policy spends the same on each problem."""

    def __init__(self, **changes):
        given = {"problems": {"pocket-main": 100}, "policies": ["policy-6k"], "prms": ["prm-qwen-28k"], "methods": METHODS}
        self.grid, self.tokens = grid_of(**given | {"samples": 16, "budgets": [4, 16]}), TOKENS | changes

    def accuracy(self, problem_set, policy, prm, method, n, rule=None):
        return (np.arange(100) < RIGHT.get(method, 20) - (16 - n)).astype(float)

    def policy_tokens(self, problem_set, policy, prm, method, n):
        return np.full(100, float(n * self.tokens.get(method, 10)))

    def prm_tokens(self, problem_set, policy, prm, method, n):
        return np.zeros(100)

    def prompt_tokens(self, problem_set, policy):
        return np.full(100, 5.0)


def test_each_method_is_compared_with_as_many_plain_samples_as_cost_the_same():
    found = {one.method: one for one in equal_cost.contrasts(Typed(), *ASKED, 16)}
    assert list(found) == ["adaptive_consistency", "rebase", "mcts"], "plain methods are not compared with themselves"
    stopped, rebase, mcts = found.values()
    assert (stopped.plain, stopped.count, stopped.cost, stopped.plain_cost) == ("majority", 8, 80, 80)
    assert (rebase.plain, rebase.count, rebase.cost, rebase.plain_cost) == ("best_of_n", 16, 400, 160), "there are no more samples"
    assert stopped.difference.mean() == pytest.approx(0.30 - 0.22) and rebase.difference.mean() == pytest.approx(0.30)
    table = equal_cost.against_plain(Typed(), *ASKED, 16).set_index("method")
    assert table.loc["rebase", "difference"] == pytest.approx(0.30) and table.loc["rebase", "low"] > 0 and table.loc["rebase", "p"] < 0.05
    assert table.loc["mcts", "low"] <= 0.02 <= table.loc["mcts", "high"]


def test_without_best_of_n_all_are_compared_with_majority():
    typed = Typed()
    typed.grid = typed.grid.model_copy(update={"methods": ["majority", "rebase"]})
    [found] = equal_cost.contrasts(typed, *ASKED, 16)
    assert (found.method, found.plain) == ("rebase", "majority")


def test_unknown_tokens_compare_nothing():
    assert list(equal_cost.contrasts(Typed(majority=np.nan, adaptive_consistency=np.nan), *ASKED, 16))[0].method == "rebase"
    unknown = Typed(**dict.fromkeys(METHODS, np.nan))
    assert equal_cost.against_plain(unknown, *ASKED, 16).empty and equal_cost.summary(unknown, *ASKED, 16)[1] == {}
    assert equal_cost.summary(unknown, *ASKED, 16)[0] == ["policy tokens are not known of these runs, so that nothing is compared"]


def test_what_an_import_lacks_is_left_out(monkeypatch):
    typed = Typed()
    monkeypatch.setattr(type(typed.grid), "holds", lambda self, policy, prm, method, n: (method, n) != ("rebase", 4))
    assert "rebase" not in [found.method for found in equal_cost.contrasts(typed, *ASKED, 4)]
    assert equal_cost.when(typed, *ASKED).loc[4, "with the PRM"].startswith("MCTS, N = 4")


def test_a_budget_buys_what_its_tokens_pay_for():
    table = equal_cost.when(Typed(), *ASKED)
    assert table["tokens"].tolist() == [40, 160]
    # 160 tokens: adaptive at N = 16 costs 80; REBASE costs 100 at N = 4 and 400 at N = 16, so that it is 58 % there.
    assert table.loc[16, "without a PRM"] == "Majority, N = 16: 30.0 %; not decidedly behind: Adaptive consistency"
    assert table.loc[16, "with the PRM"] == "REBASE, N = 4: 58.0 %"
    assert table.loc[4, "with the PRM"].startswith("MCTS, N = 4: 30.0 %; not decidedly behind: Best-of-N")


def test_what_is_told_of_stopping_is_what_it_saves():
    lines, differences = equal_cost.summary(Typed(), *ASKED, 16)
    assert lines == ["policy tokens saved against majority of N = 16: Adaptive consistency 50%"]
    told = "REBASE, N = 16, is more accurate than Best-of-N, N = 16, which costs 0.40 of its policy tokens"
    assert told in differences, "there are no more samples"
    assert "MCTS, N = 16, is more accurate than Best-of-N, N = 16, at equal policy tokens" in differences


class Timed(Typed):
    """As :class:`Typed`; a sample takes a second, one of a search three."""

    def seconds(self, problem_set, policy, prm, method, n):
        return np.full(100, float(n * (3 if method in ("rebase", "mcts") else 1)))


def test_equal_seconds_are_not_equal_tokens():
    found = {one.method: one for one in equal_cost.contrasts(Timed(), *ASKED, 4, "seconds")}
    assert (found["mcts"].cost, found["mcts"].count, found["mcts"].plain_cost) == (12, 12, 12)
    assert next(one.count for one in equal_cost.contrasts(Timed(), *ASKED, 4) if one.method == "mcts") == 4
    assert equal_cost.when(Timed(), *ASKED, "seconds").loc[4, "with the PRM"] == "Best-of-N, N = 4: 28.0 %"
    assert list(equal_cost.contrasts(Typed(), *ASKED, 4, "seconds")) == [], "no times were kept"


def test_flops_are_those_of_the_tokens():
    rows = equal_cost.by_cost(Timed(), *ASKED)
    at = rows[(rows["strategy"] == "majority") & (rows["n"] == 16)].iloc[0]
    assert at["seconds"] == 16 and at["tokens"] == 160 and at["FLOPs"] > 2 * costs.shape_of("policy-6k").parameters * 165
    alone = {n: equal_cost.spent(Timed(), *ASKED, "majority", n, "FLOPs") for n in range(1, 17)}
    for found in equal_cost.contrasts(Timed(), *ASKED, 4, "FLOPs"):
        if found.plain == "majority":
            assert found.count == min(alone, key=lambda n: abs(alone[n] - found.cost)), "the prompt is read once"
            assert found.plain_cost == pytest.approx(alone[found.count], rel=0.01)
    halves = rows[rows["strategy"] == "best_of_n"].set_index("n")["FLOPs"]
    prefill = flops.answering(costs.shape_of("policy-6k"), [5.0], 0.0, 0.0).inference
    assert halves[4] - prefill == pytest.approx((halves[16] - prefill) / 4, rel=0.01)
