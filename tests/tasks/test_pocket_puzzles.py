"""Number puzzles: the checker against brute force, answers by hand, splits, and training texts."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import pytest

from tts import tasks
from tts.analysis.grades import of_row
from tts.tasks.grading import Grader
from tts.tasks.pocket_problems import first_problems
from tts.tasks.pocket_puzzles import POCKET_PUZZLES, SETS, Puzzle, _parts, can_reach, draw, expression, first_error, moves, parse, solve
from tts.tasks.problems import ProblemError, checked_row, problem_rows
from tts.training.pocket.domains import DOMAINS

PUZZLE = Puzzle((3, 7, 12, 18), 75)
SOLVED = ["12-7=5;3,5,18", "18-3=15;5,15", "15*5=75"]


def worked_out(text):
    """The value of an expression with all its brackets, from the inside out, whatever results it states."""
    text = re.sub(r"=\d+", "", text)
    while match := re.search(r"\((-?\d+)([-+*])(-?\d+)\)", text):
        a, b = int(match[1]), int(match[3])
        text = text.replace(match[0], str({"+": a + b, "-": a - b, "*": a * b}[match[2]]), 1)
    return int(text)


def brute(numbers):
    """Every value that expressions over all numbers have, all of whose parts lie in 1..99: by orders and shapes, without a state."""
    if len(numbers) == 1:
        return {numbers[0]}
    values = set()
    for size in range(1, len(numbers)):
        for inside in itertools.combinations(range(len(numbers)), size):
            left = tuple(numbers[i] for i in inside)
            right = tuple(numbers[i] for i in range(len(numbers)) if i not in inside)
            for a, b in itertools.product(brute(left), brute(right)):
                values |= {v for v in (a + b, a - b, a * b) if 1 <= v <= 99}
    return values


def test_what_can_be_reached_equals_brute_force():
    rng = random.Random(0)
    for count in (2, 3, 4):
        for _ in range(12):
            numbers = tuple(sorted(rng.randint(1, 20) for _ in range(count)))
            assert {target for target in range(100) if can_reach(numbers, target)} == brute(numbers)


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        ([], None),
        (SOLVED[:1], None),
        (SOLVED, None),
        (["12-7=6;3,6,18"], (0, 5)),  # false
        (["7-12=5;3,5,18"], (0, 1)),  # nothing below 1 may come out; 7*… and 7+… lead on
        (["12-7=5;3,18,5"], (0, 9)),  # what is left is ascending
        (["12-7=5"], (0, 6)),  # and is written
        ([*SOLVED[:2], "15+5=75"], (2, 2)),  # forced to the target
        ([*SOLVED, "75-1=74"], (3, 0)),  # nothing comes after the end
    ],
)
def test_first_error_by_hand(steps, where):
    assert first_error(PUZZLE, steps) == where


def test_a_dead_end_is_the_error_of_the_step_that_leads_there():
    puzzle = Puzzle((2, 3, 4), 24)  # 2*3=6, 6*4=24
    assert first_error(puzzle, ["2*3=6;4,6", "6*4=24"]) is None and first_error(puzzle, ["3*4=12;2,12", "12*2=24"]) is None
    assert first_error(puzzle, ["3+4=7;2,7", "7*2=14"])[0] == 0, "24 cannot be made of 2 and 7"
    assert POCKET_PUZZLES.check_steps("2,3,4=24?", ["2*3=6;4,6"]) == 1 and POCKET_PUZZLES.check_steps("2,3,4=24?", ["3+4=7;2,7"]) == 0
    assert POCKET_PUZZLES.check_steps("47,+38=?", []) is None


def test_answers_are_expressions_and_right_where_they_give_the_target_from_the_numbers():
    answer = POCKET_PUZZLES.answer
    assert answer("2*3=6;4,6\n\n6*4=24") == answer("3*2=6;4,6\n\n4*6=24") == "((2*3=6)*4=24)"
    other = answer("4*3=12;2,12\n\n12*2=24")
    assert other == "((3*4=12)*2=24)" and POCKET_PUZZLES.right("((2*3)*4)", other) and not POCKET_PUZZLES.same("((2*3=6)*4=24)", other)
    # wrong: another value, forced to the target, a number twice, one left over, one that is not given
    for wrong in ("2*3=6;4,6\n\n6+4=10", "3+4=7;2,7\n\n7*2=24", "2*3=6;2,6\n\n6*2=12;4\n\n12*2=24", "2*3=24", "2*3=6;4,6\n\n6*5=24"):
        assert not POCKET_PUZZLES.right("((2*3)*4)", answer(wrong))
    assert answer("3+4=7;2,7\n\n7*2=24") == "((3+4=7)*2=24)", "a vote like any other, true or not"
    for false in ("2*3=7;4,7\n\n7*4=24", "2*3=6;4,6\n\n6*4=25"):
        assert not POCKET_PUZZLES.right("((2*3)*4)", answer(false)), "the right numbers, and results that are false"
    below = answer("3-4=0;2,0\n\n2-0=24") or ""
    assert not POCKET_PUZZLES.right("(2-(3-4))", below)
    # unfinished, or no equations at all: no answer
    for text in ("2*3=6;4,6", "2*3=6;4,6\n\n6*4", "02*3=6;4,6\n\n6*4=24", "24", ""):
        assert answer(text) is None


def test_right_answers_that_differ_are_different_votes():
    """A vote that merged them would know which are right."""
    steps = [["2*3=6;4,6", "6*4=24"], ["4*3=12;2,12", "12*2=24"], ["3*2=6;4,6", "4*6=24"], ["3+4=7;2,7", "7*2=24"], ["2*3=6;4,6"]]
    row = {"problem": "2,3,4=24?", "answer": "((2*3)*4)", "trajectories": [{"status": "finished", "steps": each} for each in steps]}
    with Grader(POCKET_PUZZLES) as grader:
        grades = of_row(row, grader)
    assert grades.correct == [True, True, True, False, False] and grades.group == [0, 1, 0, 2, -1]


def test_solutions_are_right_and_spoiled_ones_as_the_checker_says():
    rng = random.Random(1)
    for count in (4, 5):
        for puzzle in (draw(count, rng) for _ in range(60)):
            steps = solve(puzzle, rng)
            assert first_error(puzzle, steps) is None and (reference := expression(steps))
            assert Counter(map(int, re.findall(r"\d+", re.sub(r"=\d+", "", reference)))) == Counter(puzzle.numbers)
            assert worked_out(reference) == puzzle.target
            spoiled = solve(puzzle, rng, rng.randrange(len(steps)))
            answer = POCKET_PUZZLES.answer("\n\n".join(spoiled))
            assert (answer is not None and POCKET_PUZZLES.right(reference, answer)) == (first_error(puzzle, spoiled) is None), spoiled


def test_every_move_is_one_operation():
    for equation, left in moves((2, 2, 50)):
        a, op, b = re.fullmatch(r"(\d+)(.)(\d+)=\d+", equation).groups()
        assert worked_out(f"({a}{op}{b})") == int(equation.split("=")[1]) and len(left) == 2
    assert dict(moves((60, 60))) == {} and list(dict(moves((3, 5)))) == ["5+3=8", "3+5=8", "5-3=2", "5*3=15", "3*5=15"]


def test_splits_never_meet_and_lists_grow_at_the_end():
    for name, count in (("pocket-puzzles", 4), ("pocket-puzzles-hard", 5)):
        tests = first_problems(SETS[name], name, "test", 40)
        assert tests[:10] == first_problems(SETS[name], name, "test", 10) and len({p.text for p in tests}) == 40
        assert all(p.split == "test" and len(p.numbers) == count and parse(p.text) == p for p in tests)
    for domain in DOMAINS.values():
        assert all(p.split == "train" for p in itertools.islice(domain.problems(0), 50))
    rows = problem_rows("pocket-puzzles", 3)
    assert [row["id"] for row in rows] == [f"pocket-puzzles-test-{n:05d}" for n in range(3)] and rows[0]["task"] == "pocket-puzzles"
    assert all("=" not in row["answer"] for row in rows)
    assert tasks.task_of("pocket-puzzles-hard") is POCKET_PUZZLES
    known = {row["problem"] for split in ("test", "selection") for row in problem_rows("pocket-puzzles", 100, split)}
    assert not known & {row["problem"] for row in problem_rows("pocket-puzzles", 100, "confirmation")}
    with pytest.raises(ProblemError, match="pocket-puzzles has no split 'all'"):
        problem_rows("pocket-puzzles", 3, "all")


@pytest.mark.parametrize("text", ["", "3,7=?", "3,7,12,18=75", "7,3=10?", "3=3?", "3,7,12=540?", "\u0663,7=10?", "47,+38=?"])
def test_what_is_no_puzzle_is_refused(text):
    with pytest.raises(ValueError, match="not a number puzzle"):
        parse(text)


@pytest.mark.parametrize("answer", ["((12-7)*3)*(18-3)", "75", "abc", "(12-7)*(18-3))", "f(3,7,12,18)", "5e999", "(" * 400])
def test_a_wrong_reference_is_refused(answer):
    with pytest.raises(ProblemError, match="line 7: the answer .* must make 75 of 3, 7, 12, 18, each used once"):
        checked_row({"problem": PUZZLE.text, "answer": answer}, "line 7", POCKET_PUZZLES)


@pytest.mark.parametrize(
    ("text", "numbers", "value"),
    [
        ("3+7*2-1", "3721", 16),
        ("(3 - 7)*2", "372", -8),
        ("3-(7-12)", ["3", "7", "12"], 8),
        ("((12-7=9)*3=0)", ["12", "7", "3"], 15),
        ("2*3*4-5*2", "23452", 14),
    ],
)
def test_expressions_by_hand(text, numbers, value):
    assert _parts(text) == (Counter(numbers), value)
