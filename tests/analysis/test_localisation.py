"""Error localisation against scores and labels set by hand."""

from __future__ import annotations

import pytest

from tts.analysis.pathologies import at_threshold, best_threshold
from tts.generate.labelled import Labelled, read
from tts.tasks.pocket_problems import first_error, parse

SOLUTIONS = [
    Labelled("p", ("a", "b"), -1, ""),
    Labelled("p", ("a", "b"), -1, ""),
    Labelled("p", ("a", "b"), 0, ""),
    Labelled("p", ("a", "b"), 1, ""),
]
SCORES = [(0.9, 0.8), (0.9, 0.4), (0.3, 0.9), (0.7, 0.6)]


@pytest.mark.parametrize(("threshold", "erroneous", "correct"), [(0.5, 0.5, 0.5), (0.65, 1.0, 0.5), (0.35, 0.5, 1.0), (0.95, 0.5, 0.0)])
def test_shares_by_hand(threshold, erroneous, correct):
    found = at_threshold(SCORES, SOLUTIONS, threshold)
    assert (found.erroneous, found.correct) == (erroneous, correct)
    assert found.f1 == (2 * erroneous * correct / (erroneous + correct) if erroneous + correct else 0)


def test_the_chosen_threshold_is_the_best():
    found = at_threshold(SCORES, SOLUTIONS, best_threshold(SCORES, SOLUTIONS))
    assert found.f1 == pytest.approx(2 / 3)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_committed_solutions_are_labelled_as_the_checker_labels_them(split):
    solutions = read(split)
    for solution in solutions:
        error = first_error(parse(solution.problem), solution.steps)
        assert solution.first_error == (-1 if error is None else error[0])
    if split == "test":
        wrong = sum(s.first_error >= 0 for s in solutions)
        assert wrong >= 300 and len(solutions) - wrong >= 300
        assert len({s.policy for s in solutions}) >= 5
