"""Grading: the convention, and the limits that hostile answers run into."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from tts.tasks.answer_text import normal_form
from tts.tasks.base import changed
from tts.tasks.extraction import boxed_answer
from tts.tasks.grading import Grader, groups
from tts.tasks.judge import Judge
from tts.tasks.maths import MATHS


@pytest.fixture(scope="module")
def grader():
    with Grader(judge=Judge(4)) as grader:
        yield grader


def rows(title: str) -> list[list[str]]:
    """The rows of the table below a heading of the convention's page, code marks and escapes removed."""
    section = CONVENTION.split(f"## {title}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[_text(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


def _text(cell: str) -> str:
    return cell.strip().strip("`").replace("\\|", "|").replace("⏎", "\n")


CONVENTION = (Path(__file__).resolve().parents[2] / "docs" / "grading.md").read_text(encoding="utf-8")
FIRST, SECOND, _, *PAIRED, LAST = re.findall(r"^## (.+)$", CONVENTION, re.MULTILINE)


@pytest.mark.parametrize("title", PAIRED)
def test_the_convention_both_ways_round(grader, title):
    table = rows(title)
    found = {(a, b): (grader.right(a, b), grader.right(b, a)) for a, _, b in table}
    assert found == {(a, b): (sign == "=",) * 2 for a, sign, b in table} and {sign for _, sign, _ in table} <= {"=", "≠"}
    assert len(table) >= 5


def test_references_of_competitions_can_be_read(grader):
    for reference, _, _ in rows("Answers of competitions"):
        assert grader.judge.verdict(normal_form(reference), normal_form(reference)), reference


def test_where_the_reference_decides(grader):
    assert {(a, b): grader.right(a, b) for a, _, b in rows(LAST)} == {(a, b): sign == "=" for a, sign, b in rows(LAST)}


@pytest.mark.parametrize(("text", "answer"), rows(FIRST))
def test_an_answer_is_found_in_a_solution(text, answer):
    assert boxed_answer(text) == (None if answer == "none" else answer)


@pytest.mark.parametrize(("way", "text", "answer"), rows(SECOND))
def test_an_answer_is_found_in_other_ways(way, text, answer):
    assert changed(MATHS, None, (way,)).found(text) == ((None, "") if answer == "none" else (answer, way))


def test_the_first_way_that_finds_an_answer_counts():
    both = changed(MATHS, None, ("box", "hashes"))
    assert both.found("\\boxed{1}\n#### 2") == ("1", "box")
    assert both.found("#### 2") == ("2", "hashes") and MATHS.found("#### 2") == (None, "")


def test_nothing_wrong_with_what_the_page_cannot_show(grader):
    assert grader.right("5", "`5`") and not grader.right("3", None) and not grader.right("3", "")
    assert boxed_answer("none") is None and boxed_answer("$\\boxed{3}$\n\n$\\boxed{4}$") == "4"


@pytest.mark.parametrize("hostile", ["\\boxed{" * 20_000, "{" * 100_000, "\\boxed{1} and " * 5_000, "\\boxed 1" * 10_000])
def test_a_hostile_solution_is_read_in_one_pass(hostile):
    started = time.process_time()
    boxed_answer(hostile)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
        ("2 \\pi  r", "2\\pi r"),
        ("\\$3,\\!000.", "3000"),
        ("5\\;\\text{ cm }", "5"),
    ],
)
def test_normalising_keeps_what_has_a_meaning(answer, normal):
    assert normal_form(answer) == normal


@pytest.mark.parametrize(
    "hostile",
    [
        "9^{9^{9}}",
        pytest.param("1000000000!", marks=pytest.mark.torture),
        "7" * 100_000,
        "{" * 400,
        "__import__('os').system('true')",
        "\x00\u202e",
    ],
)
@pytest.mark.slow
def test_hostile_answers_are_wrong_and_bounded(grader, hostile):
    started = time.monotonic()
    assert grader.right("42", hostile) is False
    assert time.monotonic() - started < 60
    assert grader.right("\\frac{2}{4}", "\\frac{1}{2}") is True, "grading went on"


@pytest.mark.slow
def test_a_pair_at_its_limit_takes_a_fork_and_not_the_process_that_has_loaded_math_verify():
    judge = Judge(0.5)
    try:
        assert judge.verdict("1", "1+0")
        process = judge.process
        assert judge.verdict("1", "1000000000!") is False and judge.hopeless == {"1000000000!": False} and judge.deaths == 1
        assert judge.verdict("1", "1+0+0") and judge.process is process
    finally:
        judge.close()


@pytest.mark.slow
def test_the_limit_holds_where_the_parent_blocks_its_signal():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})
    judge = Judge(0.5)
    try:
        assert judge.verdict("1", "1000000000!") is False and judge.hopeless == {"1000000000!": False}
    finally:
        judge.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})


def test_a_judge_that_is_lost_while_it_starts_has_another_try(monkeypatch):
    judge, tries = Judge(), []

    def receive(deadline):
        tries.append(judge.process.pid)
        raise EOFError

    monkeypatch.setattr(judge, "_receive", receive)
    with pytest.raises(RuntimeError, match="the grading process did not start"):
        judge.verdict("1", "2")
    assert len(set(tries)) == 2 and judge.process is None


def test_each_distinct_pair_is_judged_once(grader, monkeypatch):
    grader.right("\\frac{3}{4}", "0.75")
    monkeypatch.setattr(grader.judge, "verdict", lambda *pair: pytest.fail(f"judged again: {pair}"))
    assert grader.right("\\frac{3}{4}", " 0.75 ") is True


def test_an_answer_that_cannot_be_read_is_wrong_and_never_votes(grader):
    unreadable = ["", " ", "\\text{}", "\\foo{3}", "4+", "(1, 2", "3 4", "7" * 600, "\\frac{1}{", "\\unknown 2"]
    assert groups([None, *unreadable, "4"], grader) == [-1] * (len(unreadable) + 1) + [0]
    assert not any(grader.readable(answer) or grader.right("4", answer) or grader.right(answer, answer + "+") for answer in unreadable)
    assert all(map(grader.readable, ["4", "\\text{even}", "x=\\frac{1}{2}", "3:30", "1375_8", "(1, 2)", "a, b", "\\sqrt{2}"]))


def test_equal_answers_share_a_group(grader):
    assert groups(["0.5", None, "\\frac{1}{2}", "2", " 2."], grader) == [0, -1, 0, 1, 1]


def test_steps_are_split_at_blank_lines_without_phantoms():
    assert MATHS.split("a\n\nb\nc\n\n\n\nd\n\n") == ("a", "b\nc", "d")
