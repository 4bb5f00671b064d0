"""The study's claims as contrasts of its published accuracies, each with the interval that their number of problems allows.

Which problems a published model solves is not known, so accuracies count as independent proportions; the study's own comparisons,
paired by problem, may be somewhat more certain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tts import stats
from tts.checks import Finding, certainty

TABLES = Path(__file__).resolve().parent.parent / "data" / "published"
PROBLEMS = {"MATH-500": 500, "AIME24": 30}
INDEPENDENT = "Wilson's intervals combined (MOVER), as of independent samples"


def combination(accuracies: Sequence[float], signs: Sequence[float], problems: int, detail: str) -> Finding:
    """A signed sum of published accuracies with its 95 % interval.

    Wilson's limits of each are combined by their distances from it (Zou and Donner 2008, equation 2); of two accuracies this is
    Newcombe's hybrid score interval (1998, method 10).

    Args:
        accuracies: in per cent.
        signs: 1 or -1 for each.
        problems: that each was measured on.
        detail: what is compared.
    """
    estimate = below = above = 0.0
    for accuracy, sign in zip(accuracies, signs):
        share = accuracy / 100
        wilson = stats.wilson(share * problems, problems)
        ends = sorted((sign * wilson.low, sign * wilson.high))
        estimate += sign * share
        below += (sign * share - ends[0]) ** 2
        above += (ends[1] - sign * share) ** 2
    return Finding(estimate, estimate - below**0.5, estimate + above**0.5, "points", INDEPENDENT, detail)


def _table(name: str, index: str = "model") -> pd.DataFrame:
    return pd.read_csv(TABLES / f"{name}.csv", index_col=index)


def _difference(table: pd.DataFrame, first: str, second: str, column: str) -> Finding:
    a, b = table.loc[first, column], table.loc[second, column]
    return combination([a, b], [1, -1], PROBLEMS[column], f"{first} {a:g} less {second} {b:g}, {PROBLEMS[column]} problems of {column}")


def table3(first: str, second: str, column: str) -> Finding:
    """The difference of two rows of Table 3."""
    return _difference(_table("table3_small_vs_large"), first, second, column)


def table6(first: str, second: str, column: str) -> Finding:
    """The difference of two rows of Table 6."""
    return _difference(_table("table6_long_cot"), first, second, column)


def table2(first: str, second: str, high: str, low: str) -> Finding:
    """How far two rules lie apart under a first PRM, less how far under a second."""
    table = _table("table2_voting_math500", "method")
    values = [table.loc[rule, prm] for prm in (first, second) for rule in (high, low)]
    detail = f"{high} - {low}: {first} {values[0] - values[1]:.1f}, {second} {values[2] - values[3]:.1f} points"
    return combination(values, [1, -1, -1, 1], PROBLEMS["MATH-500"], detail)


def table4(first: str, second: str, times: float) -> Finding:
    """How many times fewer total FLOPs, exactly; more than ``times`` or not."""
    total = _table("table4_flops")["total_flops"]
    ratio = float(total[second] / total[first])
    return Finding(
        ratio, ratio, ratio, "ratio", "exact", f"{second} {total[second]:.3g} over {first} {total[first]:.3g} FLOPs", times, True
    )


def table5_all(first: str, second: str) -> Finding:
    """The difference of two columns of Table 5 for the policy for which it is least certain."""
    table = _table("table5_gains_math500")
    found = [
        combination(
            [row[first], row[second]], [1, -1], 500, f"least certain of {len(table)} policies: {model} {row[first]} less {row[second]}"
        )
        for model, row in table.iterrows()
    ]
    return min(found, key=certainty)


def relative_gain(first: str, second: str) -> Finding:
    """The relative gain over CoT of a first policy of Table 5 less that of a second; interval by the delta method."""
    table, gains, variance = _table("table5_gains_math500"), [], 0.0
    for model in (first, second):
        cot, tts = table.loc[model, ["cot", "compute_optimal_tts"]].astype(float) / 100
        gains.append(tts / cot - 1)
        variance += (tts / cot) ** 2 * ((1 - tts) / (500 * tts) + (1 - cot) / (500 * cot))
    estimate, half = gains[0] - gains[1], 1.96 * np.sqrt(variance)
    detail = f"{gains[0]:+.1%} for {first}, {gains[1]:+.1%} for {second}"
    return Finding(estimate, estimate - half, estimate + half, "ratio", "delta method, as of independent samples", detail)


def share(value: float, problems: int, above: float) -> Finding:
    """A published share of problems, in per cent; above another or not."""
    i = stats.wilson(value / 100 * problems, problems)
    return Finding(i.estimate, i.low, i.high, "share", i.method, f"{value:g} % of {problems} problems", above / 100)


CHECKS: dict[str, Callable[..., Finding]] = {
    check.__name__: check for check in (relative_gain, share, table2, table3, table4, table5_all, table6)
}
