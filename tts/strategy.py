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
    """Accuracy of each method in each difficulty bin, with intervals; bins without problems are left out."""
    rows = []
    for method in methods:
        cell = {"policy": policy, "prm": prm, "method": method, "n": n}
        rows += rows_of_bins(cell, results.accuracy(problem_set, policy, prm, method, n), bins)
    return in_order(rows)


def rows_of_bins(cell: dict, values: np.ndarray, bins: np.ndarray, fewest: int = 1) -> list[dict]:
    """One row per difficulty bin that holds at least ``fewest`` problems: the cell, problems, accuracy, low, high."""
    rows = []
    for name in BINS:
        inside = np.asarray(values)[np.asarray(bins) == name]
        if len(inside) >= fewest:
            interval = stats.of_accuracy(inside)
            numbers = {"accuracy": interval.estimate, "low": interval.low, "high": interval.high}
            rows.append(cell | {"bin": name, "problems": len(inside)} | numbers)
    return rows


def in_order(rows: list[dict]) -> pd.DataFrame:
    """Rows of bins as a table, policy by policy, easy before hard."""
    columns = ["policy", "prm", "bin", "method", "n", "problems", "accuracy", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    ordered = table.sort_values("bin", key=lambda names: names.map(BINS.index), kind="stable")
    policies = dict.fromkeys(table["policy"])
    return pd.concat([ordered[ordered["policy"] == policy] for policy in policies] or [ordered], ignore_index=True)


def paired_difference(first: np.ndarray, second: np.ndarray) -> stats.Interval:
    """Accuracy of the first minus that of the second, paired by problem."""
    return stats.bootstrap(np.asarray(first) - np.asarray(second))
