"""The exact step checker with dialled error rates."""

from __future__ import annotations

import numpy as np
import pytest

from tts.models.hub import ModelError
from tts.reward_models import family_of, open_prm

CHAIN, TREE = ("a", "7,+8,*2=?"), ("b", "(12+7)*(9-4)=?")


def test_without_errors_it_is_the_checker():
    exact = open_prm("dial:0,0")
    right, slip = ("7+8=15", "15*2=30", "\\boxed{30}"), ("7+8=15", "15*2=31", "\\boxed{31}")
    other_order = ("9-4=5", "12+7=19", "19*5=95", "\\boxed{95}")
    scores, read = exact.score([CHAIN, CHAIN, TREE], [right, slip, other_order])
    assert [[s >= 0.5 for s in row] for row in scores] == [[True] * 3, [True, False, False], [True] * 4]
    assert read == [0, 0, 0] and all(0 <= s < 1 for row in scores for s in row)


def test_rates_are_those_that_were_dialled():
    """Many texts: shares of accepted wrong steps and of rejected right ones, within three standard errors."""
    dialled = open_prm("dial:0.3,0.1")
    problems = [(str(i), f"{1 + i % 400},+{1 + i // 400}=?") for i in range(4000)]
    answers = [1 + i % 400 + 1 + i // 400 for i in range(4000)]
    right, _ = dialled.score(problems, [(p[1][:-2].replace(",", "") + f"={a}",) for p, a in zip(problems, answers)])
    dialled = open_prm("dial:0.3,0.1")
    wrong, _ = dialled.score(problems, [(p[1][:-2].replace(",", "") + f"={a + 1}",) for p, a in zip(problems, answers)])
    rejected, accepted = np.mean([r[0] < 0.5 for r in right]), np.mean([w[0] >= 0.5 for w in wrong])
    assert abs(rejected - 0.1) < 3 * np.sqrt(0.1 * 0.9 / 4000) and abs(accepted - 0.3) < 3 * np.sqrt(0.3 * 0.7 / 4000)


def test_the_same_prefix_is_judged_the_same():
    steps = ("7+8=15", "15*2=31", "\\boxed{31}")
    whole, _ = open_prm("dial:0.5,0.5").score([CHAIN], [steps])
    grown = open_prm("dial:0.5,0.5")
    for depth in (1, 2, 3):
        part, _ = grown.score([CHAIN], [steps[:depth]])
    assert part == whole
    grown.forget("a")
    assert grown.score([CHAIN], [steps])[0] == whole


@pytest.mark.parametrize("name", ["dial:", "dial:0.1", "dial:0.1,x", "dial:0.1,1.2", "dial:0.1,0.2,0.3"])
def test_bad_rates_are_refused(name):
    with pytest.raises(ModelError, match="expected dial:FALSE_POSITIVE,FALSE_NEGATIVE"):
        family_of(name)


def test_it_judges_pocket_problems_only():
    with pytest.raises(ValueError, match="not a pocket problem"):
        open_prm("dial:0,0").score([("a", "What is 3 plus 4?")], [("3+4=7",)])
