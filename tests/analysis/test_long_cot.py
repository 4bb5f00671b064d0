"""Self-checking traces: which checks there are, what they catch, and contrasts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tts.analysis import long_cot
from tts.analysis.evidence import Evidence
from tts.claims import published
from tts.generate.grid import Grid

MENDED = ["47+38=95", "38+47=85 no", "47+38=85", "38+47=85 ok", "\\boxed{85}"]
PASSED = ["47+38=95", "38+47=95 ok", "\\boxed{95}"]
CLEAN = ["47+38=85", "38+47=85 ok", "\\boxed{85}"]
ALARM = ["47+38=85", "38+47=95 no", "47+38=85", "38+47=85 ok", "\\boxed{85}"]


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        (MENDED, [(False, False, True), (True, True, False)]),
        (PASSED, [(False, True, False)]),
        (CLEAN, [(True, True, False)]),
        (ALARM, [(True, False, True), (True, True, False)]),
        (["47+38=85", "\\boxed{85}"], []),  # a plain solution has no checks
        (["so 47+38", "38+47=85 ok"], []),  # what is no equation is passed over
    ],
)
def test_each_operation_with_its_check(steps, found):
    assert list(long_cot.checks(steps)) == found


def test_what_the_checks_catch(monkeypatch):
    samples = [[({"steps": MENDED}, True), ({"steps": PASSED}, False)], [({"steps": CLEAN}, True), ({"steps": ALARM}, True)]]
    monkeypatch.setattr(long_cot, "_samples", lambda *_: iter(samples))
    table = long_cot.catches(None, "set", "policy").set_index("what")
    assert table.loc["operations that are wrong", ["share", "of"]].tolist() == [pytest.approx(2 / 6), 6]
    assert table.loc["wrong ones that their check calls wrong", ["share", "of"]].tolist() == [pytest.approx(0.5), 2]
    assert table.loc["right ones that their check calls wrong", ["share", "of"]].tolist() == [pytest.approx(0.25), 4]
    assert table.loc["operations done right after a no", ["share", "of"]].tolist() == [pytest.approx(1.0), 2]
    right = table[table.index.str.startswith("solutions")]
    assert right["share"].tolist() == [1.0, 1.0, 0.0] and right["of"].tolist() == [2, 1, 1]


def test_traces_without_checks_have_no_shares(monkeypatch):
    monkeypatch.setattr(long_cot, "_samples", lambda *_: iter([[({"steps": ["x"]}, True)], [({"steps": ["y"]}, False)]]))
    table = long_cot.catches(None, "set", "policy").set_index("what")
    assert table["of"].tolist() == [0, 0, 0, 0, 2, 0, 0] and np.isnan(table["share"].iloc[:4]).all()


class Typed(Evidence):
    """Accuracies and tokens that are the same for every problem but the first half."""

    def __init__(self, policy, of):
        self.grid = Grid(problems={"set": 100}, policies=[policy], prms=["prm"], methods=["majority", "best_of_n"], samples=4, budgets=[4])
        self.of = of

    def accuracy(self, problem_set, policy, prm, method, n, rule=None):
        return np.repeat([self.of[method], 0.0], 50)

    def policy_tokens(self, problem_set, policy, prm, method, n):
        return np.full(100, 10.0 * n)

    prm_tokens = policy_tokens

    def prompt_tokens(self, problem_set, policy):
        return np.full(100, 5.0)


def test_contrasts_and_their_price():
    plain = Typed("small", {"cot": 0.4, "pass": 1.0, "majority": 0.5, "best_of_n": 1.0})
    long = Typed("small-long", {"cot": 0.6, "pass": 1.0, "majority": 0.6, "best_of_n": 0.8})
    table = long_cot.contrasts(plain, long, "set", {"small": "small-long"}, "prm", "best_of_n", 4).set_index("contrast")
    assert table["difference"].tolist() == pytest.approx([0.1, 0.2, 0.1, -0.1])
    assert table["times the tokens"].tolist() == [1.0, 4.0, 4.0, 1.0]
    assert table.loc["external - internal", "verdict"] == "supported" and table.loc["both - external", "verdict"] == "contradicted"


def test_table_6_against_the_ledgers_claims():
    table = published.table6()
    assert len(table) == 2 * 6 * 2  # two external rows, six long-CoT policies, two problem sets
    row = table[table["external"].str.contains("72B") & (table["internal"] == "Satori-Qwen-7B") & (table["problems"] == "MATH-500")].iloc[0]
    assert row["difference"] == pytest.approx(0.074) and row["verdict"] == "supported"
