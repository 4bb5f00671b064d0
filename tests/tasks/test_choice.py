"""Multiple choice: letters found in solutions, shuffles that keep the right option, the published sets' own columns."""

from __future__ import annotations

import csv
import json
import random

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts.generate.grid import _problems
from tts.tasks import task_of
from tts.tasks.choice import CHOICE, LETTERS, SETS
from tts.tasks.grading import Grader, groups
from tts.tasks.problems import ProblemError, problem_rows
from tts.tasks.published import absent


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("So \\boxed{B}.", ("B", "box")),
        ("\\boxed{\\textbf{(C)}}", ("C", "box")),
        ("\\boxed{\\text{d}}", ("D", "box")),
        ("\\boxed{D. 12 kJ}", ("D", "box")),
        ("\\boxed{A} ... no: \\boxed{B}", ("B", "box")),
        ("\\boxed{A \\text{ or } B}", (None, "several options")),
        ("Answer: A\n\n\\boxed{A, C}", (None, "several options")),
        ("The answer is (B). \\boxed{12\\text{ kJ}}", ("B", "said")),
        ("The answer is (B), because C-H bonds are weak.", ("B", "said")),
        ("**Answer:** **J**", ("J", "said")),
        ("Answer:\nE", ("E", "said")),
        ("The correct option is option C because A is too small.", ("C", "said")),
        ("The answer is A. On reflection, the answer is (D)", ("D", "said")),
        ("The answer is (A) or (C)", (None, "several options")),
        ("Solution: Choice\\_A", ("A", "said")),
        ("Solution: Choice_A/B/D", (None, "several options")),
        ("Solution: Choice_B: NiSO3", ("B", "said")),
        ("so it must be this one:\n(C)", ("C", "last line")),
        ("Therefore option B fits.", ("B", "last line")),
        ("It is (A), not (B).", (None, "several options")),
        ("The answer is A catalyst.", (None, "")),
        ("The answer is C-H activation.", (None, "")),
        ("Solution: None of the choices are correct.", (None, "")),
        ("A: 1\nB: 2\nI cannot tell.", (None, "")),
        ("\\boxed{Carbon}", (None, "")),
        ("\\boxed{F = ma}", (None, "")),
        *[(f"\\boxed{{{formula}}}", (None, "")) for formula in ("C_2H_6", "D_{2h}", "B_2H_6", "C(CH_3)_4", "C{6}", "A + B", "A^2", "C2")],
        *[(f"\\boxed{{{formula}}}", (None, "")) for formula in ("\\mathrm{C}_2\\mathrm{H}_6", "A \\cdot B", "A - B", "A \\to B", "A > B")],
        *[(f"\\boxed{{{text}}}", ("A", "box")) for text in ("_A_", "A. C_2H_6", "(A) 2 + 3", "A: B + C", "A - the first", "\\mathbf{A}")],
        ("The answer is C_2H_6.", (None, "")),
        ("The answer is _B_.", ("B", "said")),
        ("", (None, "")),
    ],
)
def test_letters_by_hand(text, found):
    assert CHOICE.found(text) == found and CHOICE.answer(text) == found[0]


PIECES = st.sampled_from(
    ["\\boxed{", "}", "answer is ", "Answer: ", "(", ")", "A", "B", "C", "**", "\\text{", "\n", " or ", "/", "choice_", " a", "$"]
)


@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=30).map("".join)))
def test_finding_a_letter_never_raises_and_gives_one_letter(text):
    letter, way = CHOICE.found(text)
    assert (letter in LETTERS and way in CHOICE.ways) if letter else (letter is None and way in ("", "several options"))


def test_votes_are_letters():
    with Grader(CHOICE) as grader:
        assert grader.right("B", "b ") and not grader.right("B", "C") and not grader.right("B", None)
        assert groups(["B", "b", "C", None, "none"], grader) == [0, 0, 1, -1, -1]


OPTIONS = st.lists(
    st.text("abcxyz 123", min_size=2).map(str.strip).filter(lambda text: len(text) > 1), min_size=2, max_size=26, unique=True
)


@given(OPTIONS, st.integers(0, 9), st.data())
def test_a_shuffle_is_a_permutation_that_grades_the_same_option(options, seed, data):
    place = data.draw(st.integers(0, len(options) - 1))
    by_letter, by_text = (
        CHOICE.prepared({"problem": "Which?", "options": options, "answer": answer}, seed) for answer in (LETTERS[place], options[place])
    )
    assert by_letter == by_text and sorted(by_letter["order"]) == list(range(len(options)))
    assert by_letter["options"] == [options[i] for i in by_letter["order"]]
    right = LETTERS.index(by_letter["answer"])
    assert by_letter["options"][right] == options[place] and f"\n{LETTERS[right]}. {options[place]}" in by_letter["problem"]


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROW = {"problem": "Which gas is noble?", "options": ["oxygen", "argon", "chlorine"], "answer": "B", "level": 1}


def test_a_file_of_ones_own_by_seed(tmp_path):
    file = write(tmp_path / "own.jsonl", ROW, ROW | {"problem": "And which is not?", "answer": "oxygen"})
    first, again, *others = (problem_rows(f"choice:{file}", seed=seed) for seed in (0, 0, 1, 2, 3))
    assert first == again and len({json.dumps(rows) for rows in (first, *others)}) > 1
    order = list(range(3))
    random.Random("0 Which gas is noble?").shuffle(order)
    assert first[0]["order"] == order and {tuple(sorted(rows[0])) for rows in others} == {tuple(sorted(first[0]))}
    for rows in (first, *others):
        assert [row["options"][LETTERS.index(row["answer"])] for row in rows] == ["argon", "oxygen"]


def test_options_that_speak_of_others_stay_where_they_are(tmp_path):
    for last in ("All of the above", "Both A and B", "A, C", "neither option B"):
        file = write(tmp_path / "own.jsonl", *(ROW | {"problem": f"{n}?", "options": ["x", "y", "z", last]} for n in range(9)))
        assert all(row["order"] == [0, 1, 2, 3] for row in problem_rows(f"choice:{file}"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": None}, "line 1: 'options' must be a list of 2 to 26 texts; given None"),
        ({"options": "A: 1 B: 2"}, "line 1: 'options' must be a list of 2 to 26 texts; given 'A: 1 B: 2'"),
        ({"options": ["argon"]}, r"line 1: 'options' must be a list of 2 to 26 texts; given \['argon'\]"),
        ({"answer": "D"}, "line 1: the answer 'D' is none of the options; give one of the letters A to C, or the text of one option"),
        ({"answer": "neon"}, "the answer 'neon' is none of the options; give one of the letters A to C"),
        ({"options": ["B", "A"]}, "the answer 'B' is several of the options; give one of the letters A to B"),
        ({"options": ["x", "x"], "answer": "x"}, "the answer 'x' is several of the options"),
    ],
)
def test_malformed_questions_are_refused_in_a_line(tmp_path, change, message):
    with pytest.raises(ProblemError, match=message):
        problem_rows(f"choice:{write(tmp_path / 'own.jsonl', ROW | change)}")


def gpqa(path, *rows):
    columns = ["Record ID", "Question", "Correct Answer", *(f"Incorrect Answer {n}" for n in (1, 2, 3)), "High-level domain"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([columns, *([f"rec{n}", *row] for n, row in enumerate(rows))])
    return path


def test_gpqas_columns_and_categories(tmp_path):
    file = gpqa(tmp_path / "gpqa.csv", ["Which,\nfirst?", "w", "x", "y", "z", "Chemistry"], ["Second?", "1", "2", "3", "4", "Physics"])
    rows = problem_rows(f"gpqa:{file}", split="all")
    assert [row["options"][LETTERS.index(row["answer"])] for row in rows] == ["w", "1"]
    above = gpqa(tmp_path / "above.csv", *([f"{n}?", "no", "above all", "c", "z", "Chemistry"] for n in range(3)))
    assert {row["answer"] for row in problem_rows(f"gpqa:{above}", split="all")} == {"C"}, "not A, where the file has the right one"
    assert rows[0]["problem"].startswith("Which,\nfirst?\n\nA. ") and rows[0]["id"].startswith("gpqa-") and rows[0]["task"] == "choice"
    assert problem_rows(f"gpqa:chemistry:{file}", split="all") == rows[:1]
    with pytest.raises(ProblemError, match="gpqa has no category 'chemisty'; it has .*chemistry.*physics"):
        problem_rows(f"gpqa:chemisty:{file}")


def test_mmlu_pros_columns_halves_and_repeats(tmp_path):
    about = {"category": "chemistry", "answer_index": 1, "src": "x"}
    rows = [about | {"question": f"{n}?", "options": [f"{n} a", f"{n} b", "c"], "answer": "B"} for n in range(20)]
    repeated = [rows[0], rows[1] | {"answer": "C"}, rows[2] | {"options": ["other", "options"], "answer": "A"}]
    pd.DataFrame([*rows, *repeated, rows[3] | {"question": "law?", "category": "law"}]).to_parquet(tmp_path / "mmlu.parquet")
    name = f"mmlu-pro:chemistry:{tmp_path / 'mmlu.parquet'}"
    test, selection, both = (problem_rows(name, split=split) for split in ("test", "selection", "all"))
    assert len(both) == 20 and sorted(row["id"] for row in both) == sorted(row["id"] for row in test + selection) and test and selection
    asked = [row["problem"].partition("?")[0] for row in both]
    assert asked.count("0") == 1 and "1" not in asked and asked.count("2") == 2, (
        "equal rows once; none with two answers; other options stay"
    )
    other = problem_rows(name, split="all", seed=5)
    assert [row["id"] for row in other] == [row["id"] for row in both] and other != both
    with pytest.raises(ProblemError, match="mmlu-pro has no development problems; choose selection, test or all"):
        problem_rows(name, split="development")


def test_published_sets_are_known_by_name_and_told_of_where_they_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    names = ["gpqa", "mmlu-pro:chemistry", "math500"]
    assert absent([*names, "pocket-main", "own.jsonl", "gpqa:copy.csv", "math500:copy.jsonl"]) == names
    assert task_of("mmlu-pro:chemistry") is task_of("gpqa:chemistry:copy.csv") is CHOICE
    with pytest.raises(
        ProblemError, match=r"cannot download mmlu-pro:chemistry \(TIGER-Lab/MMLU-Pro\).*give a local copy as mmlu-pro:chemi"
    ):
        problem_rows("mmlu-pro:chemistry")
    assert all(len(one.revision) == 40 and int(one.revision, 16) for about in SETS.values() for one in about.files)
    _problems.cache_clear()


def test_no_file_of_ones_own_is_taken_for_a_published_set(tmp_path):
    mine = str(tmp_path / "mine.jsonl")
    assert CHOICE.published(mine) == () and absent([f"choice:{mine}"]) == []
