"""Grading: the convention, and the limits that hostile answers run into."""

from __future__ import annotations

import time

import pytest

from tts.grading import Grader, groups
from tts.prompts import boxed_answer, split_steps


@pytest.fixture(scope="module")
def grader():
    with Grader(seconds=4) as grader:
        yield grader


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("42", "42", True),
        ("42", "042", True),
        ("42", "43", False),
        ("\\frac{1}{2}", "0.5", True),
        ("\\frac{1}{2}", "1/2", True),
        ("(1,2)", "(1, 2)", True),
        ("\\sqrt{2}/2", "0.7071", False),
        ("x^2+2x+1", "(x+1)^2", True),
        ("5\\%", "5", True),
        ("31/2", "3 1/2", False),
        ("12", "1 2", False),
        ("\\left( 1, 2 \\right)", "(1,2)", True),
        ("3", "", False),
        ("3", None, False),
    ],
)
def test_convention(grader, gold, answer, right):
    assert grader.equal(gold, answer) is right


@pytest.mark.parametrize("hostile", ["9^{9^{9}}", "1000000000!", "7" * 100_000, "{" * 400, "__import__('os').system('true')", "\x00\u202e"])
def test_hostile_answers_are_wrong_and_bounded(grader, hostile):
    started = time.monotonic()
    assert grader.equal("42", hostile) is False
    assert time.monotonic() - started < 60
    assert grader.equal("\\frac{2}{4}", "\\frac{1}{2}") is True, "grading went on"


def test_each_distinct_pair_is_judged_once(grader, monkeypatch):
    grader.equal("\\frac{3}{4}", "0.75")
    monkeypatch.setattr(grader, "_judge", lambda *pair: pytest.fail(f"judged again: {pair}"))
    assert grader.equal("\\frac{3}{4}", " 0.75 ") is True


def test_equal_answers_share_a_group(grader):
    assert groups(["0.5", None, "\\frac{1}{2}", "2", " 2."], grader) == [0, -1, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed{5}", "5"),
        ("\\boxed{1} then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\sqrt{2}", None),
        ("\\boxed{3} and \\boxed{4", "3"),
        ("none", None),
    ],
)
def test_boxed_answers(text, answer):
    assert boxed_answer(text) == answer


def test_steps_are_split_at_blank_lines_without_phantoms():
    assert split_steps("a\n\nb\nc\n\n\n\nd\n\n") == ("a", "b\nc", "d")
