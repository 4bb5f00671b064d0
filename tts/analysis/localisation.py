"""Error localisation as ProcessBench defines it (Zheng et al. 2024): does a PRM find the first wrong step?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tts.generate import labelled
from tts.generate.labelled import Labelled


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


def at_threshold(scores: Sequence[Sequence[float]], solutions: Sequence[Labelled], threshold: float) -> Localisation:
    """Localisation where the first step scored below ``threshold`` is called wrong."""
    hits = np.array([called == s.first_error for called, s in zip(first_below(scores, threshold), solutions)])
    wrong = np.array([s.first_error >= 0 for s in solutions])
    return Localisation(threshold, float(hits[wrong].mean()), float(hits[~wrong].mean()))


def first_below(scores: Sequence[Sequence[float]], threshold: float) -> list[int]:
    """The first step of each solution that is scored below a threshold; -1 where none is."""
    return [next((i for i, s in enumerate(row) if s < threshold), -1) for row in scores]


def best_threshold(scores: Sequence[Sequence[float]], solutions: Sequence[Labelled]) -> float:
    """The threshold of highest F1, among the quantiles of all step scores."""
    flat = np.concatenate([np.asarray(row) for row in scores])
    candidates = np.unique(np.quantile(flat, np.linspace(0.01, 0.99, 99)))
    return float(max(candidates, key=lambda t: at_threshold(scores, solutions, t).f1))


def evaluate(prm: str) -> dict[str, Localisation]:
    """A PRM's localisation on the test solutions, with the threshold chosen on validation, and with 0.5 beside it."""
    validation, test = labelled.read("validation"), labelled.read("test")
    of_validation, scores = labelled.step_scores(prm, validation, test)
    threshold = best_threshold(of_validation, validation)
    return {"chosen": at_threshold(scores, test, threshold), "half": at_threshold(scores, test, 0.5)}
