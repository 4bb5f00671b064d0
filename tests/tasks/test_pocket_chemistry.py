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
    COMMON,
    MOST_ATOMS,
    POCKET_CHEMISTRY,
    SETS,
    WRITTEN,
    Equation,
    atoms,
    first_error,
    null_vector,
    parse,
    solve,
    stated,
)
from tts.tasks.pocket_problems import first_problems
from tts.tasks.problems import ProblemError, checked_row, problem_rows
from tts.training.pocket.corpora import ROW, VOCABULARY, policy_sequences
from tts.training.pocket.domains import DOMAINS

PROPANE = parse("aC3H8+bO2=cCO2+dH2O?")
SOLVED = ["a1", "C3=c3", "H8=d4", "O10=b5"]
DOUBLED = ["a2", "C6=c6", "H16=d8", "O20=b10"]
ETHANE = parse("aC2H6+bO2=cCO2+dH2O?")


def counted(formula):
    """Atoms by writing the formula out: C2H6O is CCHHHHHHO."""
    return Counter(re.sub(r"([A-Z])(\d)", lambda m: m[1] * int(m[2]), formula))


def balances(equation, coefficients):
    """Whether two sides of so many of each compound have the same atoms."""
    sides = [Counter(), Counter()]
    for at, (formula, coefficient) in enumerate(zip(equation.left + equation.right, coefficients)):
        sides[at >= len(equation.left)].update({element: coefficient * count for element, count in counted(formula).items()})
    return sides[0] == sides[1]


def brute(equation, largest):
    """All coefficients up to ``largest``, without a common factor, that balance the equation."""
    tries = itertools.product(range(1, largest + 1), repeat=len(equation.left + equation.right))
    return [c for c in tries if gcd(*c) == 1 and balances(equation, c)]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("aC3H8+bO2=cCO2+dH2O?", "a1,b5,c3,d4"),
        ("aC2H6+bO2=cCO2+dH2O?", "a2,b7,c4,d6"),
        ("aH2O+bCO2=cO2+dC6H6?", "a6,b12,c15,d2"),
        ("aNH3+bO2=cNO+dH2O?", "a4,b5,c4,d6"),
        ("aKOH+bH3PO4=cK3PO4+dH2O?", "a3,b1,c1,d3"),
        ("aK2CO3+bHF=cKF+dH2O+eCO2?", "a1,b2,c2,d1,e1"),
        ("aKIO3+bKI+cHF=dKF+eI2+fH2O?", "a1,b5,c6,d6,e3,f3"),
    ],
)
def test_balances_by_hand(text, answer):
    assert stated(parse(text).coefficients) == answer


def test_coefficients_equal_brute_force():
    rng = random.Random(0)
    for _ in range(12):
        equation = SETS["pocket-chemistry"](rng)
        found = tuple(equation.coefficients.values())
        assert brute(equation, max(found)) == [found], equation.text


def test_atoms_of_all_common_compounds():
    assert atoms("C2H4O2") == {"C": 2, "H": 4, "O": 2} and atoms("KSCN") == {"K": 1, "S": 1, "C": 1, "N": 1}
    assert all(atoms(formula) == counted(formula) for formula in COMMON) and len(set(COMMON)) == len(COMMON)
    assert set("".join(COMMON)) - set("23456789") == set(WRITTEN)


@pytest.mark.parametrize(
    ("formulae", "vector"),
    [
        (["H2", "O2", "H2O"], [2, 1, -2]),
        (["H2O", "O2", "H2"], [2, -1, -2]),
        (["H2", "O2", "C", "H2O", "CO2"], None),  # two reactions in one
        (["H2", "O2", "H2O", "N2"], None),  # nothing holds N but N2, which would be 0
        (["H2", "O2"], None),
        (["S", "S8"], [8, -1]),
    ],
)
def test_null_vectors_by_hand(formulae, vector):
    assert null_vector([atoms(formula) for formula in formulae]) == vector


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        ([], None),
        (SOLVED[:1], None),
        (SOLVED, None),
        (["b5", "c3", "O4=d4", "C3=a1"], None),  # any order, and with or without an element, if true
        (DOUBLED, (0, 1)),  # a common factor is left
        (["a1", "C2=c3"], (1, 1)),  # miscounted
        (["a1", "H8=c3"], (1, 3)),  # c has no H
        (["a1", "N3=c3"], (1, 0)),  # nothing has N
        (["a1", "C3=c4"], (1, 4)),
        (["a1", "C3=c"], (1, 4)),
        ([*SOLVED[:3], "O10=b4"], (3, 5)),
        ([*SOLVED[:2], "a1"], (2, 0)),  # was settled already
        ([*SOLVED, "b5"], (4, 0)),  # nothing comes after the end
    ],
)
def test_first_error_by_hand(steps, where):
    assert first_error(PROPANE, steps) == where


def test_a_wrong_guess_is_the_error_of_the_step_that_guesses():
    forced = ["a1", "C2=c2", "H6=d3", "O7=b4"]  # 7 atoms are no whole number of molecules
    assert first_error(ETHANE, forced)[0] == 0 and POCKET_CHEMISTRY.check_steps(ETHANE.text, forced) == 0
    right = ["a2", "C4=c4", "H12=d6", "O14=b7"]
    assert POCKET_CHEMISTRY.check_steps(ETHANE.text, right) == 4 and POCKET_CHEMISTRY.check_steps(ETHANE.text, right[:2]) == 2
    assert POCKET_CHEMISTRY.check_steps("3,7=10?", right) is None and POCKET_CHEMISTRY.check_steps("aH2=bO2?", right) is None


def test_answers_are_all_coefficients_in_one_order():
    answer = POCKET_CHEMISTRY.answer
    assert answer("\n\n".join(SOLVED)) == answer("b5\n\nc3\n\nO4=d4\n\nC3=a1") == "a1,b5,c3,d4"
    assert answer("\n\n".join(DOUBLED)) == "a2,b10,c6,d8", "a vote of its own"
    assert answer("\n\n".join(SOLVED[:2])) is None, "b is left out"
    for steps in (["a1", "a1"], ["a1", "a2", "b3"], ["a1", "b0"], ["a1", "O=b5"], ["a1", "b"], ["C3H8+5O2"], ["b1"], []):
        assert answer("\n\n".join(steps)) is None, steps


@pytest.mark.parametrize(
    ("steps", "score"),
    [
        (SOLVED, 1.0),
        (["N9=c3", "O1=b5", "d4", "a1"], 1.0),  # false counts, right coefficients
        (DOUBLED, 0.0),
        ([*SOLVED[:3], "O8=b4"], 0.0),
        (["a1", "b5", "c3"], 0.0),
        ([*SOLVED, "e1"], 0.0),
        (["a2", "C4=c4", "H12=d6", "O14=b7"], 0.0),  # balances another equation
        ([], 0.0),
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
    for draw in SETS.values():
        for equation in (draw(rng) for _ in range(120)):
            steps, reference = solve(equation, rng), stated(equation.coefficients)
            assert first_error(equation, steps) is None and POCKET_CHEMISTRY.answer("\n\n".join(steps)) == reference
            assert max(map(int, re.findall(r"\d+", " ".join(steps)))) <= MOST_ATOMS
            at = rng.randrange(len(steps))
            spoiled = solve(equation, rng, at)
            error, text = first_error(equation, spoiled), "\n\n".join(spoiled)
            answer = POCKET_CHEMISTRY.answer(text)
            assert answer and POCKET_CHEMISTRY.rule("atoms", equation.text, text) == (answer == reference)
            assert error is None or error[0] >= at
            if answer != reference:
                kinds["common factor" if balances(equation, map(int, re.findall(r"\d+", answer))) else "wrong coefficient"] += 1
            kinds["wrong step, right answer"] += error is not None and answer == reference
    assert min(kinds[kind] for kind in ("common factor", "wrong coefficient", "wrong step, right answer")) >= 5


def test_problems_are_as_their_sets_say():
    kinds = {"pocket-chemistry": {3: range(2, 7), 4: range(2, 7)}, "pocket-chemistry-hard": {4: range(7, 13), 5: range(4, 13)}}
    for name, largest in kinds.items():
        tests = first_problems(SETS[name], name, "test", 20)
        assert tests[:10] == first_problems(SETS[name], name, "test", 10)
        assert len({frozenset(e.left + e.right) for e in tests}) == 20 and {len(e.coefficients) for e in tests} == set(largest)
        for equation in tests:
            assert parse(equation.text) == equation and equation.split == "test"
            assert max(equation.coefficients.values()) in largest[len(equation.coefficients)]
            assert Equation(equation.right[::-1], equation.left[::-1]).split == "test", "in whatever order"
    rows = problem_rows("pocket-chemistry", 3)
    assert [row["id"] for row in rows] == [f"pocket-chemistry-test-{n:05d}" for n in range(3)] and rows[0]["task"] == "pocket-chemistry"
    assert rows[0]["answer"] == stated(parse(rows[0]["problem"]).coefficients)
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
        ("aC3H8+bO2=cCO2+dH2O", "not an equation"),
        ("C3H8+O2=CO2+H2O?", "not an equation"),
        ("aC3H8+cO2=bCO2+dH2O?", "not an equation"),  # letters in another order
        ("aC4H10+bO2=cCO2+dH2O?", "not an equation"),  # a number of two digits
        ("aH2+bO1=cH2O?", "not an equation"),
        ("aNa+bO2=cNa2O?", "not an equation"),
        ("aH2+bO2?", "not an equation"),
        ("aH2+bO2=cH2O=dH2O?", "not an equation"),
        ("aH+bC+cN+dO+eF+fP+gS=hK+iI?", "not an equation"),  # more than eight
        ("3,7=10?", "not an equation"),
        ("aH2=bO2?", "no balance"),
        ("aCO+bCO2=cC?", "no balance"),  # carbon would be needed on the left
        ("aH2+bO2+cC=dH2O+eCO2?", "or more than one"),
    ],
)
def test_what_cannot_be_balanced_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        parse(text)


@pytest.mark.parametrize("answer", ["a1,b1,c1,d1", "a2,b10,c6,d8", "1,5,3,4", "C3H8+5O2=3CO2+4H2O"])
def test_an_unbalanced_reference_is_refused(answer):
    with pytest.raises(ProblemError, match=r"line 7: the answer .* does not balance the equation; a1,b5,c3,d4 does"):
        checked_row({"problem": PROPANE.text, "answer": answer}, "line 7", POCKET_CHEMISTRY)
    assert checked_row({"problem": PROPANE.text, "answer": "b5, a1, d4, c3"}, "line 7", POCKET_CHEMISTRY)
