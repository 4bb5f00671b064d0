"""Difficulty of a problem for a policy, and which method is best for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tts import stats
from tts.evidence import Evidence

BINS = ("easy", "medium", "hard")
THRESHOLDS = (0.5, 0.1)


def absolute_bins(pass_at_1: Sequence[float], thresholds: tuple[float, float] = THRESHOLDS) -> np.ndarray:
    """Difficulty by Pass@1 thresholds (Liu et al. 2025, section 3.2): easy from 50 %, hard below 10 %.

    Returns:
        ``(problems,)`` of easy, medium, hard.
    """
    values = np.asarray(pass_at_1)
    return np.select([values >= thresholds[0], values >= thresholds[1]], BINS[:2], BINS[2])


def quantile_bins(pass_at_1: Sequence[float]) -> np.ndarray:
    """Difficulty by thirds of the problems, the alternative that the study argues against; ties keep their order."""
    values = np.asarray(pass_at_1)
    ranks = np.argsort(np.argsort(-values, kind="stable"), kind="stable")
    return np.array(BINS)[ranks * len(BINS) // len(values)]


def by_bin(evidence: Evidence, problem_set: str, policy: str, prm: str, n: int, bins: np.ndarray) -> pd.DataFrame:
    """Accuracy of each of the grid's methods in each difficulty bin, with intervals; bins without problems are left out."""
    rows = []
    for name in (name for name in BINS if (bins == name).any()):
        for method in evidence.grid.methods:
            inside = evidence.accuracy(problem_set, policy, prm, method, n)[bins == name]
            interval = stats.of_accuracy(inside)
            numbers = {"problems": len(inside), "accuracy": interval.estimate, "low": interval.low, "high": interval.high}
            rows.append({"policy": policy, "prm": prm, "bin": name, "method": method, "n": n} | numbers)
    return pd.DataFrame(rows)


def paired_difference(first: np.ndarray, second: np.ndarray) -> stats.Interval:
    """Accuracy of the first minus that of the second, paired by problem."""
    return stats.bootstrap(np.asarray(first) - np.asarray(second))
