"""Error localisation as ProcessBench defines it (Zheng et al. 2024): does a PRM find the first wrong step?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tts.paths import DATA

if TYPE_CHECKING:
    from tts.reward_models.base import StepScorer

SOLUTIONS = DATA / "localisation"


@dataclass(frozen=True)
class Labelled:
    """A solution with its first wrong step.

    Attributes:
        problem: the problem's text.
        steps: the solution.
        first_error: counted from 0; -1 where every step is right.
        policy: who wrote it.
    """

    problem: str
    steps: tuple[str, ...]
    first_error: int
    policy: str


@dataclass(frozen=True)
class Localisation:
    """How well first errors are found at one threshold.

    Attributes:
        threshold: the first step scored below it is called wrong.
        erroneous: share of wrong solutions whose first wrong step is found exactly.
        correct: share of right solutions that are called right.
    """

    threshold: float
    erroneous: float
    correct: float

    @property
    def f1(self) -> float:
        """Harmonic mean of the two shares."""
        total = self.erroneous + self.correct
        return 2 * self.erroneous * self.correct / total if total else 0.0


def read(split: str) -> list[Labelled]:
    """The committed solutions: ``validation`` for thresholds, ``test`` for figures.

    Raises:
        ValueError: where their file is damaged.
    """
    path, rows = SOLUTIONS / f"{split}.jsonl", []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            r = json.loads(line)
            rows.append(Labelled(r["problem"], tuple(r["steps"]), r["first_error"], r["policy"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}, line {len(rows) + 1} is damaged ({error}); restore the file, say with git checkout") from None
    return rows


def score_all(prm: StepScorer, solutions: Sequence[Labelled]) -> list[tuple[float, ...]]:
    """Step scores of each solution."""
    problems = [(s.problem, s.problem) for s in solutions]
    scores, _ = prm.score(problems, [s.steps for s in solutions])
    for problem_id, _ in problems:
        prm.forget(problem_id)
    return scores


def at_threshold(scores: Sequence[Sequence[float]], solutions: Sequence[Labelled], threshold: float) -> Localisation:
    """Localisation where the first step scored below ``threshold`` is called wrong."""
    called = [next((i for i, s in enumerate(row) if s < threshold), -1) for row in scores]
    hits = np.array([c == s.first_error for c, s in zip(called, solutions)])
    wrong = np.array([s.first_error >= 0 for s in solutions])
    return Localisation(threshold, float(hits[wrong].mean()), float(hits[~wrong].mean()))


def best_threshold(scores: Sequence[Sequence[float]], solutions: Sequence[Labelled]) -> float:
    """The threshold of highest F1, among the quantiles of all step scores."""
    flat = np.concatenate([np.asarray(row) for row in scores])
    candidates = np.unique(np.quantile(flat, np.linspace(0.01, 0.99, 99)))
    return float(max(candidates, key=lambda t: at_threshold(scores, solutions, t).f1))


def evaluate(prm: StepScorer) -> dict[str, Localisation]:
    """Localisation on the test solutions, with the threshold chosen on validation, and with 0.5 beside it."""
    validation, test = read("validation"), read("test")
    threshold = best_threshold(score_all(prm, validation), validation)
    scores = score_all(prm, test)
    return {"chosen": at_threshold(scores, test, threshold), "half": at_threshold(scores, test, 0.5)}
