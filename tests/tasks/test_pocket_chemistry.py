"""Balancing equations: coefficients against brute force, the step checker by hand, the rule ``atoms``, splits, and training texts."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from math import gcd

import pytest

from tts import tasks
from tts.tasks import pocket_tokenizer
from tts.tasks.pocket_chemistry import (
    _WRITTEN,
    COMMON,
    LARGEST,
    POCKET_CHEMISTRY,
    SETS,
    Equation,
    atoms,
    balanced,
    draw,
    first_error,
    null_vector,
    parse,
    solve,
)
from tts.tasks.pocket_problems import first_problems
from tts.tasks.problems import ProblemError, checked_row, problem_rows
from tts.training.pocket.corpora import ROW, VOCABULARY, policy_sequences
from tts.training.pocket.domains import DOMAINS

PROPANE = parse("C3H8+O2=CO2+H2O?")
SOLVED = ["C3H8*1=C3H8", "-CO2*3=C3O6;H8O-6", "-H2O*4=H8O4;O-10", "O2*5=O10"]
DOUBLED = ["C3H8*2=C6H16", "-CO2*6=C6O12;H16O-12", "-H2O*8=H16O8;O-20", "O2*10=O20"]
BUTANE = parse("C4H10+O2=CO2+H2O?")


def counted(formula):
    """Atoms by writing the formula out: Ca(OH)2 is CaOHOH."""
    flat = re.sub(r"\(([^)]*)\)(\d*)", lambda m: m[1] * int(m[2] or 1), formula)
    return Counter(re.findall("[A-Z][a-z]?", re.sub(r"([A-Z][a-z]?)(\d+)", lambda m: m[1] * int(m[2]), flat)))


def balances(left, right):
    """Whether two lists of ``(coefficient, formula)`` have the same atoms."""
    sides = [Counter() for _ in range(2)]
    for side, terms in zip(sides, (left, right)):
        for coefficient, formula in terms:
            side.update({element: coefficient * count for element, count in counted(formula).items()})
    return sides[0] == sides[1]


def brute(equation, largest):
    """All coefficients up to ``largest``, without a common factor, that balance the equation."""
    tries = itertools.product(range(1, largest + 1), repeat=len(equation.left + equation.right))
    cut = len(equation.left)
    return [c for c in tries if gcd(*c) == 1 and balances(list(zip(c[:cut], equation.left)), list(zip(c[cut:], equation.right)))]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("C3H8+O2=CO2+H2O?", "C3H8+5O2=3CO2+4H2O"),
        ("C4H10+O2=CO2+H2O?", "2C4H10+13O2=8CO2+10H2O"),
        ("Fe2O3+CO=Fe+CO2?", "3CO+Fe2O3=3CO2+2Fe"),
        ("KMnO4+HCl=KCl+MnCl2+H2O+Cl2?", "16HCl+2KMnO4=5Cl2+8H2O+2KCl+2MnCl2"),
        ("Ca(OH)2+H3PO4=Ca3(PO4)2+H2O?", "3Ca(OH)2+2H3PO4=Ca3(PO4)2+6H2O"),
        ("(NH4)2Cr2O7=N2+Cr2O3+H2O?", "(NH4)2Cr2O7=Cr2O3+4H2O+N2"),
    ],
)
def test_balances_by_hand(text, answer):
    assert balanced(parse(text).coefficients) == answer and POCKET_CHEMISTRY.normal(answer) == answer


def test_coefficients_equal_brute_force():
    rng, seen = random.Random(0), 0
    while seen < 12:
        equation = draw(rng.choice((3, 4)), rng, "train")
        if (largest := max(map(abs, equation.coefficients.values()))) <= 7:
            assert brute(equation, largest) == [tuple(map(abs, equation.coefficients.values()))], equation.text
            seen += 1


def test_atoms_of_all_common_compounds():
    assert atoms("Ca3(PO4)2") == {"Ca": 3, "P": 2, "O": 8} and atoms("C12H22O11") == {"C": 12, "H": 22, "O": 11}
    assert all(atoms(formula) == counted(formula) for formula in COMMON) and len(set(COMMON)) == len(COMMON)
    assert {element for formula in COMMON for element in atoms(formula)} == set(_WRITTEN)


@pytest.mark.parametrize(
    ("formulae", "vector"),
    [
        (["H2", "O2", "H2O"], [-2, -1, 2]),
        (["H2", "O2", "C", "H2O", "CO2"], None),  # two reactions in one
        (["H2", "O2", "H2O", "N2"], None),  # nothing holds N but N2, which would be 0
        (["H2", "O2"], None),
        (["S", "S"], [-1, 1]),
    ],
)
def test_null_vectors_by_hand(formulae, vector):
    assert null_vector(formulae) == vector


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        ([], None),
        (SOLVED[:1], None),
        (SOLVED, None),
        (["O2*5=O10", "-CO2*3=C3O6;O4C-3", "C3H8*1=C3H8;O4H8", "-H2O*4=H8O4"], None),  # any order, if true
        (DOUBLED, (0, 5)),  # a common factor is left
        (["C3H8*1=C3H6"], (0, 10)),  # miscounted
        (["C3H8*1=C3H8;C3H8"], (0, 11)),  # the first step has nothing to add to
        ([SOLVED[0], "-CO2*3=C3O6;H8O6"], (1, 15)),  # oxygen is missing on the left
        ([SOLVED[0], "CO2*3=C3O6;C6H8O6"], (1, 0)),  # stands on the right
        ([SOLVED[0], "-CO2*3=C3O6"], (1, 11)),  # says no balance
        ([*SOLVED[:3], "O2*4=O8"], (3, 3)),
        ([*SOLVED[:2], "C3H8*1=C3H8;C3H16O-6"], (2, 0)),  # was settled already
        ([*SOLVED, "O2*1=O2"], (4, 0)),  # nothing comes after the end
    ],
)
def test_first_error_by_hand(steps, where):
    assert first_error(PROPANE, steps) == where


def test_a_wrong_guess_is_the_error_of_the_step_that_guesses():
    forced = ["C4H10*1=C4H10", "-CO2*4=C4O8;H10O-8", "-H2O*5=H10O5;O-13", "O2*7=O14"]  # 13 atoms are no whole number of molecules
    assert first_error(BUTANE, forced)[0] == 0 and POCKET_CHEMISTRY.check_steps(BUTANE.text, forced) == 0
    right = ["C4H10*2=C8H20", "-CO2*8=C8O16;H20O-16", "-H2O*10=H20O10;O-26", "O2*13=O26"]
    assert POCKET_CHEMISTRY.check_steps(BUTANE.text, right) == 4 and POCKET_CHEMISTRY.check_steps(BUTANE.text, right[:2]) == 2
    assert POCKET_CHEMISTRY.check_steps("3,7=10?", right) is None and POCKET_CHEMISTRY.check_steps("H2=O2?", right) is None


def test_answers_are_balanced_equations_in_one_order():
    answer = POCKET_CHEMISTRY.answer
    other = ["O2*5=O10", "-CO2*3=C3O6;O4C-3", "C3H8*1=C3H8;O4H8", "-H2O*4=H8O4"]
    assert answer("\n\n".join(SOLVED)) == answer("\n\n".join(other)) == "C3H8+5O2=3CO2+4H2O"
    assert answer("\n\n".join(DOUBLED)) == "2C3H8+10O2=6CO2+8H2O", "a vote of its own"
    # unfinished, without a balance in between, with one at the end, one compound twice, a coefficient of 0, or no steps: no answer
    unfinished, silent, early = SOLVED[:3], [SOLVED[0], "-CO2*3=C3O6", *SOLVED[2:]], [*SOLVED[:3], "O2*4=O8;O-2"]
    for steps in (unfinished, silent, early, [*SOLVED[:3], *SOLVED[1:]], [SOLVED[0], "O2*0=O"], SOLVED[:1], ["C3H8+5O2=3CO2+4H2O"], []):
        assert answer("\n\n".join(steps)) is None, steps
    assert POCKET_CHEMISTRY.normal("C3H8 + 5 O2 -> 4 H2O + 3 CO2") == "C3H8+5O2=3CO2+4H2O"


@pytest.mark.parametrize(
    ("steps", "score"),
    [
        (SOLVED, 1.0),
        (["-CO2*3=C9", "O2*5=H2;O1", "-H2O*4=O;O1", "C3H8*1=C"], 1.0),  # false counts, right coefficients
        (DOUBLED, 0.0),
        ([*SOLVED[:3], "O2*4=O8"], 0.0),
        (SOLVED[:3], 0.0),
        ([*SOLVED[:3], "-O2*5=O10"], 0.0),  # on the wrong side
        (["C4H10*2=C8H20", "-CO2*8=C8O16;H20O-16", "-H2O*10=H20O10;O-26", "O2*13=O26"], 0.0),  # balances another equation
    ],
)
def test_the_rule_counts_atoms(steps, score):
    assert POCKET_CHEMISTRY.rules == ("atoms",)
    assert POCKET_CHEMISTRY.rule("atoms", PROPANE.text, "\n\n".join(steps)) == score


def test_the_rule_refuses_what_it_does_not_know():
    assert POCKET_CHEMISTRY.rule("atoms", "3,7=10?", "\n\n".join(SOLVED)) == 0.0
    with pytest.raises(ValueError, match="pocket-chemistry has no rule 'tests'; it has atoms"):
        POCKET_CHEMISTRY.rule("tests", PROPANE.text, "")


def test_solutions_are_right_and_spoiled_ones_as_the_checker_and_the_rule_say():
    rng, kinds = random.Random(1), Counter()
    for count in LARGEST:
        for equation in (draw(count, rng, "train") for _ in range(60)):
            steps, reference = solve(equation, rng), balanced(equation.coefficients)
            assert first_error(equation, steps) is None and POCKET_CHEMISTRY.answer("\n\n".join(steps)) == reference
            assert max(map(int, re.findall(r"\d+", " ".join(steps)))) <= 99
            at = rng.randrange(count)
            spoiled = solve(equation, rng, at)
            error, text = first_error(equation, spoiled), "\n\n".join(spoiled)
            answer = POCKET_CHEMISTRY.answer(text)
            assert POCKET_CHEMISTRY.rule("atoms", equation.text, text) == (answer == reference)
            assert error is None or error[0] >= at
            if answer and answer != reference:
                sides = [[(int(n or 1), f) for n, f in re.findall(r"(\d*)([^+]+)", side)] for side in answer.split("=")]
                kinds["common factor left" if balances(*sides) else "wrong coefficient"] += 1
            kinds["wrong step, right answer"] += error is not None and answer == reference
    assert min(kinds[kind] for kind in ("common factor left", "wrong coefficient", "wrong step, right answer")) >= 5


def test_problems_are_as_their_sets_say():
    for name, count in (("pocket-chemistry", 4), ("pocket-chemistry-hard", 5)):
        tests = first_problems(SETS[name], name, "test", 20)
        assert tests[:10] == first_problems(SETS[name], name, "test", 10) and len({e.text for e in tests}) == 20
        for equation in tests:
            assert parse(equation.text) == equation and len(equation.coefficients) == count and equation.split == "test"
            assert max(map(abs, equation.coefficients.values())) in LARGEST[count]
            assert Equation(equation.right[::-1], equation.left[::-1]).split == "test", "in whatever order"
    rows = problem_rows("pocket-chemistry", 3)
    assert [row["id"] for row in rows] == [f"pocket-chemistry-test-{n:05d}" for n in range(3)] and rows[0]["task"] == "pocket-chemistry"
    assert rows[0]["answer"] == balanced(parse(rows[0]["problem"]).coefficients)
    assert tasks.task_of("pocket-chemistry-hard") is POCKET_CHEMISTRY
    with pytest.raises(ProblemError, match="pocket-chemistry has no split 'all'"):
        problem_rows("pocket-chemistry", 3, "all")


def test_training_texts_are_of_the_split_and_the_tokenizer_and_fit_a_row():
    domain = DOMAINS["chemistry"]
    for example in itertools.islice(domain.solutions(0), 200):
        assert example.problem.split == "train" and first_error(example.problem, example.steps) is None
        assert len(next(iter(policy_sequences([example]))).ids) < ROW
    for equation, steps in itertools.islice(domain.corrupted(0, None), 200):
        assert equation.split == "train" and set(pocket_tokenizer.pieces("\n\n".join([equation.text, *steps]))) <= VOCABULARY.keys()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not an equation"),
        ("C3H8+O2=CO2+H2O", "not an equation"),
        ("2H2+O2=H2O?", "not an equation"),
        ("H2+O2?", "not an equation"),
        ("H2+o2=H2O?", "not an equation"),
        ("((OH)2)3=O2+H2?", "not an equation"),
        ("H02+O2=H2O?", "not an equation"),
        ("3,7=10?", "not an equation"),
        ("H2=O2?", "no balance"),
        ("CO+CO2=C?", "no balance"),  # carbon would be needed on the left
        ("S=S?", "no balance"),
        ("H2+O2+C=H2O+CO2?", "or more than one"),
    ],
)
def test_what_cannot_be_balanced_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        parse(text)


@pytest.mark.parametrize("answer", ["C3H8 + O2 -> CO2 + H2O", "2C3H8+10O2=6CO2+8H2O", "1, 5, 3, 4"])
def test_an_unbalanced_reference_is_refused(answer):
    with pytest.raises(ProblemError, match=r"line 7: the answer .* is not the balanced equation, which is C3H8\+5O2=3CO2\+4H2O"):
        checked_row({"problem": PROPANE.text, "answer": answer}, "line 7", POCKET_CHEMISTRY)
    assert checked_row({"problem": PROPANE.text, "answer": "C3H8 + 5O2 -> 4H2O + 3CO2"}, "line 7", POCKET_CHEMISTRY)
