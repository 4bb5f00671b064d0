"""Numbers with units: what is read, what is right, what is one vote, and SciBench's columns."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tts.analysis.grades import of_row
from tts.tasks.grading import Grader, groups
from tts.tasks.problems import ProblemError, problem_rows
from tts.tasks.published import absent
from tts.tasks.quantity import QUANTITY, SETS

ENERGY = "12.5 kJ/mol within 5 %"


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        (ENERGY, "12.5", True),
        (ENERGY, "12.5 kJ mol^{-1}", True),
        (ENERGY, "12500\\ \\mathrm{J} \\cdot \\mathrm{mol}^{-1}", True),
        (ENERGY, "1.25 \\times 10^{4} \\text{ J/mol}", True),
        (ENERGY, "2.99 kcal/mol", True),  # 12.51 kJ/mol
        (ENERGY, "E = 12.5 \\pm 0.2 kJ mol⁻¹", True),
        (ENERGY, "12,500 J per mol", True),
        (ENERGY, "12.5 KJ/mol", True),
        (ENERGY, "13.125", True),  # 5 % of 12.5 are 0.625
        (ENERGY, "11.875", True),
        (ENERGY, "13.13", False),  # within 5 % of itself, not of 12.5
        (ENERGY, "11.87", False),
        ("-100 J within 5 %", "-105", True),
        ("-100 J within 5 %", "-105.2", False),
        ("1 within 5 %", "1.05", True),  # whose difference is more than 0.05 in floating point
        (ENERGY, "-12.5", False),
        (ENERGY, "12.5 kJ", False),
        (ENERGY, "12.5 J/mol", False),
        (ENERGY, "12.5 grams of water", False),
        (ENERGY, "x", False),
        ("12.5 kJ/mol within 0 %", "12500 J/mol", True),
        ("12.5 kJ/mol within 0 %", "12501 J/mol", False),
        ("8.314 J/mol K within 1 %", "8.314 J/(mol K)", True),
        ("8.314 J/mol K within 1 %", "\\frac{8.314 J}{mol K}", True),
        ("8.314 J/mol K within 1 %", "8.314 JK^{-1} mol^{-1}", True),
        ("25 degC within 1 %", "298.15 K", True),  # a share of 25, not of 298
        ("25 degC within 1 %", "299.15 K", False),
        ("25 degC within 1 %", "25 °C", True),
        ("25 degC within 1 %", "25 ℃", True),
        ("4.18 J/K within 1 %", "4.18 J/°C", True),
        ("0.88 within 5 %", "88 \\%", True),
        ("0.88 within 5 %", "88", False),
        ("88 within 5 %", "88 \\%", True),
        ("88 within 5 %", "0.88", False),
        ("88 % within 5 %", "0.88", True),
        ("88 % within 5 %", "88", True),
        ("88 % within 5 %", "88 per cent", True),
        ("88 % within 5 %", "8.8", False),
        ("90 within 5 %", "90^{\\circ}", True),
        ("65.49 within 5 %", "65.49 kJ/mol", True),
        ("65.49 within 5 %", "65490 J/mol", False),  # the reference does not say of what it is a number
        ("12.5 m/s within 1 %", "12.5\\,\\frac{\\mathrm{m}}{\\mathrm{s}}", True),
        ("12.5 m/s within 1 %", "12.5 \\dfrac{\\text{ m }}{\\text{ s }}", True),
        ("12.5 m/s within 1 %", "\\frac{12.5\\,\\mathrm{m}}{\\mathrm{s}}", True),
        ("12.5 m/s within 1 %", "\\(12.5\\) \\operatorname{m/s}", True),
        ("12.5 m/s within 1 %", "1.25 \\times 10^{ 1 } \\mathsf{m} \\cdot \\mathrm{s}^{-1}", True),
        ("12.5 m/s within 1 %", "\\SI{12.5}{m/s}", True),
        ("12.5 m/s within 1 %", "12.5 [m/s]", True),
        ("9.8 m/s^2 within 1 %", "9.8 \\tfrac{\\mathrm{m}}{\\mathrm{s}^{2}}", True),
        ("9.8 m/s^2 within 1 %", "9.8 \\frac{\\mathrm{m}}{\\mathrm{s}}", False),
        ("8.314 J/mol K within 1 %", "8.314\\times10^{-3} \\frac{\\mathrm{kJ}}{\\mathrm{mol\\,K}}", True),
        ("8.314 J/mol K within 1 %", "8.314 \\frac{\\text{J}}{\\text{mol}} \\text{K}^{-1}", True),
        ("8.314 J/mol K within 1 %", "8.314 \\frac{\\text{J}}{\\text{mol}} \\text{K}", False),  # J K/mol
        ("5 kg m^2/s within 1 %", "5 \\frac{\\mathrm{kg}}{\\mathrm{s}} \\mathrm{m}^2", True),
        ("12500 J within 1 %", "12\\,500 J", True),
        ("0.3333 within 5 %", "\\frac{1}{3}", True),
        ("0 within 5 %", "-0.0", True),
        ("0 within 5 %", "0.001", False),
        ("3.52*10^-19 J within 5 %", "2.2 eV", True),  # 3.525e-19 J
        ("3.2*10^-19 J within 5 %", "3.2\\cdot10^{-19}\\,\\mathrm{J}", True),
        ("90 deg within 5 %", "1.57 rad", True),
        ("479 N m^-1 within 5 %", "479 Nm^{-1}", True),
        ("0.5 mol/L within 5 %", "0.5 M", True),
        ("5 kJ within 5 %", "5 m^99", False),
        ("5 kJ within 5 %", "1e999 kJ", False),
        ("5 kJ", "5.2 kJ", True),  # as of an import
    ],
)
def test_what_is_right_by_hand(reference, answer, right):
    with Grader(QUANTITY) as grader:
        assert grader.right(reference, answer) is right


UNITS = st.sampled_from(
    ["kJ", "J", "mol", "m", "s", "K", "°C", "%", "eV", "/", "^", "{", "}", "-1", "(", ")", "10", ".", "e", " ", "\\mathrm{", "9" * 40]
)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(UNITS, max_size=20).map(lambda parts: "5" + "".join(parts))))
def test_no_answer_raises_and_all_that_is_read_is_equal_to_itself(text):
    with Grader(QUANTITY) as grader:
        assert grader.right(ENERGY, text) in (True, False)
        assert grader.same(text, text) or len(text) > QUANTITY.longest
        grader.readable(text)


def test_votes_agree_to_three_digits_in_base_units():
    with Grader(QUANTITY) as grader:
        answers = ["1.234 kJ", "1230 J", "1.2351 kJ", "1.234", "0.294 kcal", "1234 m", "water", None, "123.4 %"]
        assert groups(answers, grader) == [0, 0, 1, 2, 0, 3, -1, -1, 2]


def row(reference, *answers, problem="How much?\nThe unit of the answer is ..."):
    finished = [{"steps": [f"\\boxed{{{answer}}}"], "status": "finished"} for answer in answers]
    return {"problem": problem, "answer": reference, "trajectories": finished}


def test_right_answers_vote_apart_as_wrong_ones_do_and_a_missing_unit_is_the_references():
    with Grader(QUANTITY) as grader:
        grades = of_row(row(ENERGY, "12.5", "12.6 kJ/mol", "12500 J/mol", "15", "15 kJ/mol", "15.4", "12.5 kJ"), grader)
    assert grades.group == [0, 1, 0, 2, 2, 3, 4] and grades.correct == [True, True, True, False, False, False, False]


def test_a_vote_takes_no_unit_that_the_problem_does_not_tell():
    with Grader(QUANTITY) as grader:
        grades = of_row(row(ENERGY, "12.5", "12.5 kJ/mol", "12500 J/mol", "12.5", problem="How many kJ/mol?"), grader)
    assert grades.group == [0, 1, 1, 0] and grades.correct == [True] * 4


def test_a_right_and_a_wrong_answer_of_three_equal_digits_are_one_vote():
    """Which of them is right is known to the reference alone; the vote then counts by its share of right ones."""
    with Grader(QUANTITY) as grader:
        grades = of_row(row("100 J within 4.2 %", "104.1", "104.3"), grader)
    assert grades.group == [0, 0] and grades.correct == [True, False]


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_of_ones_own(tmp_path):
    rows = [{"problem": "a", "answer": "12.5 kJ/mol"}, {"problem": "b", "answer": 12.5, "unit": "\\mathrm{kJ} / mol", "tolerance": 0.015}]
    first, second = problem_rows(f"quantity:{write(tmp_path / 'own.jsonl', *rows)}")
    assert (first["problem"], first["answer"]) == ("a", ENERGY) and first["tolerance"] == 0.05
    assert (second["problem"], second["answer"]) == ("b\nThe unit of the answer is kJ / mol.", "12.5 kJ / mol within 1.5 %")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "foo"}, "line 1: pint does not know the unit 'foo' of the answer; write it as in kJ/mol or J K.-1, or leave it out"),
        ({"answer": "5 bananas"}, "line 1: pint does not know the unit 'bananas' of the answer"),
        ({"answer": "five"}, "line 1: the answer 'five' must be a number$"),
        ({"answer": "5 J", "unit": "J"}, "line 1: the answer '5 J' must be a number, as the unit is given apart"),
        ({"tolerance": 5}, "line 1: 'tolerance' must be a share of the answer, from 0 to below 1, as 0.05; given 5"),
        ({"tolerance": "5 %"}, "line 1: 'tolerance' must be a share of the answer"),
    ],
)
def test_malformed_records_are_refused_in_a_line(tmp_path, change, message):
    with pytest.raises(ProblemError, match=message):
        problem_rows(f"quantity:{write(tmp_path / 'own.jsonl', {'problem': 'a', 'answer': 5} | change)}")


def test_scibenchs_columns(tmp_path):
    def of(number, unit, source="matter", text=None):
        return {"problem_text": text or f"{unit}?", "answer_number": number, "unit": unit, "source": source, "problemid": " 1.1(a)"}

    rows = [
        of(" +65.49", "$\\mathrm{kJ} \\mathrm{mol}^{-1}$", "atkins"),
        of("2.1", " ", "quan"),
        of("1.6", "$10^{-19} \\mathrm{~J}$ ", "chemmc"),
    ]
    rows += [of("7", " $\\mu \\mathrm{m}$"), of("3", "$10^{16}$ photons"), of("22", "$\\text{kPA}$"), of("4", "m", "fund"), rows[0]]
    rows += [of("1", " ", text="twice"), of("2", " ", text="twice")]
    file = tmp_path / "scibench.json"
    file.write_text(json.dumps(rows))
    found = problem_rows(f"scibench:chemistry:{file}", split="all")
    assert [(row["answer"].removesuffix(" within 5 %"), row["problem"].partition("\n")[2]) for row in found] == [
        ("+65.49 kJ mol^-1", "The unit of the answer is kJ mol^-1."),
        ("2.1", ""),
        ("1.6*10^-19 J", "The unit of the answer is J."),
        ("7 µm", "The unit of the answer is µm."),
        ("3*10^16 photons", "The unit of the answer is photons."),
    ]
    assert {one.file for one in SETS["scibench"].files} == {"atkins.json", "chemmc.json", "quan.json", "matter.json"}
    assert absent(["scibench:chemistry", f"scibench:chemistry:{file}"]) == ["scibench:chemistry"]
    with pytest.raises(ProblemError, match="unknown problem set 'scibench'.*scibench:chemistry"):
        problem_rows("scibench")
