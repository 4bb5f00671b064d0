"""Pathologies of a PRM, by hand."""

from __future__ import annotations

import pytest

from tts.analysis import pathologies
from tts.analysis.pathologies import by_length, error_rates, shares, verdicts
from tts.generate.labelled import Labelled
from tts.models.hub import ModelError
from tts.reward_models import check_share

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


def test_prms_that_cannot_be_run_or_read_the_solutions_are_left_out_and_that_is_said(monkeypatch, capsys):
    def judge(prm, solutions, name, kept):
        if prm == "words-only":
            check_share(prm, 30, 40, "7,+8=?")
        return prm

    monkeypatch.setattr(pathologies, "judge", judge)
    judged, solutions = pathologies.judge_all(["good", "imported:x/p", "words-only"])
    left_out = capsys.readouterr().out.splitlines()
    assert len(solutions) == 800
    assert judged == {"good": "good"} and left_out[0].startswith("imported:x/p was imported")
    assert "the PRM words-only cannot read its input: its tokenizer does not know 75% of the tokens, as in '7,+8=?'" in left_out[1]
    monkeypatch.setattr(pathologies, "judge", lambda prm, solutions, name, kept: (_ for _ in ()).throw(ModelError("no model")))
    with pytest.raises(ModelError, match="no model"):
        pathologies.judge_all(["missing"])
