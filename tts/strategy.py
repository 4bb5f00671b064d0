"""Difficulty of a problem for a policy, and which method is best for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tts import stats
from tts.accuracy import Results

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


def by_bin(results: Results, problem_set: str, policy: str, prm: str, n: int, bins: np.ndarray, methods: Sequence[str]) -> pd.DataFrame:
    """Accuracy of each method in each difficulty bin, with intervals."""
    rows = []
    for name in BINS:
        inside = bins == name
        for method in methods:
            values = results.accuracy(problem_set, policy, prm, method, n)[inside]
            if len(values) == 0:
                continue
            interval = stats.of_accuracy(values)
            rows.append(
                {"policy": policy, "prm": prm, "bin": name, "method": method, "n": n, "problems": int(inside.sum()),
                 "accuracy": interval.estimate, "low": interval.low, "high": interval.high}
            )  # fmt: skip
    return pd.DataFrame(rows)


def paired_difference(first: np.ndarray, second: np.ndarray) -> stats.Interval:
    """Accuracy of the first minus that of the second, paired by problem."""
    return stats.bootstrap(np.asarray(first) - np.asarray(second))
