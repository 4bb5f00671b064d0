"""List programs: the interpreter by hand, the checker against brute force, verdicts, votes, splits, and training texts."""

from __future__ import annotations

import itertools
import random

import pytest

from tts import tasks
from tts.tasks import pocket_tokenizer
from tts.tasks.grading import Grader, groups
from tts.tasks.pocket_code import FUNCTIONS, HIDDEN, PUBLIC, SETS, can_reach, draw, first_error, hidden, parse, run, solve
from tts.tasks.pocket_code import POCKET_CODE as CODE
from tts.tasks.pocket_problems import first_problems
from tts.tasks.problems import ProblemError, problem_rows
from tts.training.pocket.domains import DOMAINS

TEXT = "2:7,2,5>4,10,14;9,1,1,3>2,2,6,18?"
PROBLEM = parse(TEXT)  # sort and double, in either order
TESTS = "2:5,4>8,10;1,1>2,2?"


def test_what_each_function_makes_of_a_list():
    made = {name: run((name,), (3, 8, 3, 5)) for name in FUNCTIONS}
    assert made == {
        "sort": (3, 3, 5, 8),
        "rev": (5, 3, 8, 3),
        "uniq": (3, 8, 5),
        "acc": (3, 11, 14, 19),
        "max": (8,),
        "min": (3,),
        "sum": (19,),
        "len": (4,),
        "even": (8,),
        "odd": (3, 3, 5),
        "take2": (3, 8),
        "take3": (3, 8, 3),
        "drop1": (8, 3, 5),
        "drop2": (3, 5),
        "+1": (4, 9, 4, 6),
        "+2": (5, 10, 5, 7),
        "+3": (6, 11, 6, 8),
        "-1": (2, 7, 2, 4),
        "*2": (6, 16, 6, 10),
        "*3": (9, 24, 9, 15),
        "over3": (8, 5),
        "over6": (8,),
    }
    # nothing left, below 0, above 99, a function that does not exist
    assert [run((name,), (0, 50)) for name in ("odd", "drop2", "-1", "*2", "eval")] == [None] * 5
    assert run(("odd", "sum", "*3"), (3, 8, 5)) == (24,) and run((), (3,)) == (3,)


def brute(problem, states, left):
    """Whether any sequence of at most ``left`` functions gives all outputs: every one is tried, without a shortcut."""
    programs = itertools.chain.from_iterable(itertools.product(FUNCTIONS, repeat=count) for count in range(left + 1))
    return any(tuple(run(program, state) for state in states) == problem.outputs for program in programs)


def test_what_can_be_reached_equals_brute_force():
    rng, seen = random.Random(0), set()
    for _ in range(12):
        problem = draw(2, rng)
        for name in rng.sample(list(FUNCTIONS), 5):
            states = tuple(run((name,), given) for given in problem.inputs)
            if None not in states:
                seen.add(found := can_reach(states, problem.outputs, 2))
                assert found == brute(problem, states, 2)
                assert can_reach(states, problem.outputs, 1) == brute(problem, states, 1)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        ([], None),
        (["sort>2,5,7"], None),
        (["sort>2,5,7", "*2>4,10,14"], None),
        (["*2>14,4,10", "sort>4,10,14"], None),
        (["sort>2,7,5"], (0, 7)),  # not what sort does
        (["sort>2,5"], (0, 8)),
        (["sort"], (0, 4)),
        (["rev>5,2,7"], (0, 0)),  # true, and leads nowhere
        (["sort>2,5,7", "rev>4,10,14"], (1, 0)),  # forced to the output
        (["sort>2,5,7", "sort>2,5,7"], (1, 0)),  # too few functions are left
        (["sort>2,5,7", "*2>4,10,14", "sort>4,10,14"], (2, 0)),  # a third of two
        (["eval>2,5,7"], (0, 0)),
    ],
)
def test_first_error_by_hand(steps, where):
    assert first_error(PROBLEM, steps) == where
    assert CODE.check_steps(TEXT, steps) == (len(steps) if where is None else where[0])


def test_a_step_that_serves_the_first_example_alone_leads_nowhere():
    problem = parse("1:2,5>2;9,3>3?")  # min serves both examples, even the first alone
    assert first_error(problem, ["min>2"]) is None and first_error(problem, ["even>2"]) == (0, 0)
    assert first_error(parse("1:2,5>2;4,4>4,4?"), ["even>2"]) is None
    assert CODE.check_steps("47,+38=?", []) is None


def test_an_answer_is_the_program_and_hidden_tests_decide():
    answer = CODE.answer
    assert answer("sort>2,5,7\n\n*2>4,10,14") == "sort;*2" and answer("*2>0\n\nsort") == "*2;sort"  # whatever the steps state
    assert [answer(text) for text in ("", "sorted>2,5,7", "sort>2,5,7\n\n\\boxed{3}", "print(1)")] == [None] * 4
    assert CODE.right(TESTS, "sort;*2") and CODE.right(TESTS, "*2;sort") and not CODE.right(TESTS, "*2")  # it passes one of two
    assert not CODE.right(TESTS, "sort;*2;uniq") and not CODE.right(TESTS, "sort;*2;sort"), "of two functions"
    grader = Grader(CODE)
    assert not grader.right(TESTS, None) and not grader.right(TESTS, "eval") and not grader.right(TESTS, "")


def test_programs_that_do_the_same_are_one_vote():
    grader = Grader(CODE)
    assert groups(["sort;*2", "rev", "*2;sort", None, "rev;rev;rev", "eval", "sort;*2;*2"], grader) == [0, 1, 0, -1, 1, -1, 2]
    assert grader.same("max", "sort;rev;take2;max") and not grader.same("max", "min")


def test_the_rule_sees_the_problems_own_examples_only():
    weak = "1:2>2;4>4?"  # max and min pass both
    assert [CODE.rule("tests:public", weak, text) for text in ("max>2", "min>2", "*2>4", "eval>2", "")] == [1, 1, 0, 0, 0]
    assert CODE.right("1:1,2>2?", "max") and not CODE.right("1:1,2>2?", "min")
    with pytest.raises(ValueError, match="not a problem of list programs"):
        CODE.rule("tests:public", "47,+38=?", "max>2")


def test_drawn_problems_need_all_their_functions():
    rng = random.Random(1)
    for count in (2, 3):
        for problem in (draw(count, rng) for _ in range(6)):
            assert problem.most == len(problem.program) == count and len(problem.inputs) == PUBLIC
            assert problem.solved_by(problem.program) and not brute(problem, problem.inputs, count - 1)
            assert len(set(problem.outputs)) == PUBLIC


def test_hidden_tests_are_other_inputs_of_the_same_program():
    problem = draw(3, random.Random(2))
    tests = hidden(problem)
    assert tests == hidden(problem) and len(set(tests.inputs)) == HIDDEN and not {*tests.inputs} & {*problem.inputs}
    assert tests.solved_by(problem.program) and parse(tests.text) == tests


def test_solutions_are_right_and_spoiled_ones_as_the_checker_says():
    rng, errors = random.Random(3), set()
    for count in (2, 3, 4):
        for problem in (draw(count, rng) for _ in range(25)):
            steps = solve(problem, rng)
            assert first_error(problem, steps) is None and CODE.rule("tests:public", problem.text, "\n\n".join(steps)) == 1
            spoiled = solve(problem, rng, at := rng.randrange(count))
            assert spoiled[:at] == steps[:at] and ((error := first_error(problem, spoiled)) is None or error[0] >= at)
            true = [step == f"{name}>{','.join(map(str, made))}" for step, name, made in executed(problem, spoiled)]
            errors.add((error is not None, all(true[:-1]), true[-1]))
    assert errors >= {(True, True, True), (True, False, False), (True, True, False)}, "dead ends, misstated steps, forced last steps"


def executed(problem, steps):
    names = [step.split(">")[0] for step in steps]
    return [(step, name, run(tuple(names[:n]), problem.inputs[0]) or ()) for n, (step, name) in enumerate(zip(steps, names), 1)]


def test_training_texts_are_of_the_tokenizers_symbols_and_half_of_a_prms_are_wrong():
    known, domain = pocket_tokenizer.build(letters=True).get_vocab(), DOMAINS["code"]
    for example in itertools.islice(domain.solutions(0), 60):
        text = "\n\n".join([example.problem.text, *example.steps])
        assert {*pocket_tokenizer.pieces(text)} <= known.keys() and len(text) <= 150
        assert domain.parse(example.problem.text) == example.problem
    wrong = [domain.first_error(problem, steps) is not None for problem, steps in itertools.islice(domain.corrupted(0, None), 100)]
    assert 40 <= sum(wrong) <= 75


def test_splits_never_meet_and_lists_grow_at_the_end():
    for name, counts in (("pocket-code", {2, 3}), ("pocket-code-hard", {4})):
        tests = first_problems(SETS[name], name, "test", 8)
        assert tests[:4] == first_problems(SETS[name], name, "test", 4) and len({p.text for p in tests}) == 8
        assert all(p.split == "test" and p.most in counts and parse(p.text) == p for p in tests)
    rows = problem_rows("pocket-code", 3)
    assert [row["id"] for row in rows] == [f"pocket-code-test-{n:05d}" for n in range(3)] and rows[0]["task"] == "pocket-code"
    assert all(
        CODE.right(row["answer"], ";".join(p.program))
        for row, p in zip(rows, first_problems(SETS["pocket-code"], "pocket-code", "test", 3))
    )
    assert tasks.task_of("pocket-code-hard") is CODE
    with pytest.raises(ProblemError, match="pocket-code has no split 'all'"):
        problem_rows("pocket-code", 3, "all")


@pytest.mark.parametrize(
    ("problem", "answer", "message"),
    [
        ("2:7,2,5>1,1?", "2:1>2?", "no program of at most 2 functions does what the examples"),
        ("2:1>2;1>3?", "2:1>2?", "no program of at most 2 functions"),
        ("2:1>2?", "2:3>4;3>6?", "no program of at most 2 functions"),
        ("1:1>2?", "1:3>6;4>5?", "no program of at most 1 functions"),
        ("2:1>2?", "3:3>4?", "the answer must allow as many functions as the problem, 2; given 3"),
        ("2:1>2?", "sort", "the answer must be hidden tests"),
    ],
)
def test_rows_that_no_program_solves_are_refused_in_a_line(problem, answer, message):
    assert CODE.prepared({"problem": "2:1>2?", "answer": "2:3>6?"}, 0)
    with pytest.raises(ValueError, match=message) as refused:
        CODE.prepared({"problem": problem, "answer": answer}, 0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "2:7,2>", "2:7,2>4,14", "0:7>7?", "6:7>7?", "2:07>7?", "2:700>7?", "2:7>7;?", "2:٣>3?", "3,7=10?"])
def test_what_is_no_problem_is_refused(text):
    with pytest.raises(ValueError, match="not a problem of list programs"):
        parse(text)
