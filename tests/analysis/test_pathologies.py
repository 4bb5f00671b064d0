"""Pathologies of a PRM, by hand."""

from __future__ import annotations

import pytest

from tts.analysis.pathologies import by_length, error_rates, shares, verdicts
from tts.generate.labelled import Labelled

SOLUTIONS = [
    Labelled("p", ("aa", "bbbb"), -1, "x"),
    Labelled("p", ("aa", "bbbb"), -1, "x"),
    Labelled("p", ("aa", "bbbb", "c"), 1, "x"),
    Labelled("p", ("aa", "bbbb", "c"), 1, "x"),
    Labelled("p", ("aa", "bbbb", "c"), 1, "x"),
    Labelled("p", ("aa", "bbbb", "c"), 1, "x"),
]
SCORES = [(0.9, 0.8), (0.9, 0.2), (0.9, 0.1, 0.9), (0.9, 0.9, 0.9), (0.3, 0.9, 0.9), (0.9, 0.9, 0.3)]


def test_each_kind_by_hand():
    expected = ["right", "over-criticism", "right", "error neglect", "called too early", "called too late"]
    assert verdicts(SCORES, SOLUTIONS, 0.5) == expected
    table = shares(SCORES, SOLUTIONS, 0.5).set_index("pathology")
    assert table["share"].to_dict() == {"over-criticism": 0.5, "error neglect": 0.25, "called too early": 0.25, "called too late": 0.25}
    assert table["of"].to_dict() == {"over-criticism": 2, "error neglect": 4, "called too early": 4, "called too late": 4}
    assert ((table["low"] < table["share"]) & (table["share"] < table["high"])).all()


def test_error_rates_by_hand():
    # First wrong steps: 0.1, 0.9, 0.9, 0.9, three accepted. Right ones: 4 + 4, rejected: 0.2 and 0.3.
    assert error_rates(SCORES, SOLUTIONS, 0.5) == pytest.approx((3 / 4, 2 / 8))


def test_scores_of_right_steps_by_length():
    table = by_length(SCORES, SOLUTIONS, [0, 3]).set_index("length")
    assert table["steps"].to_dict() == {0: 6, 3: 2}
    assert table["score"].to_dict() == pytest.approx({0: (5 * 0.9 + 0.3) / 6, 3: 0.5})
