"""The study's claims as contrasts of its published accuracies, each with the interval that their number of problems allows.

Which problems a published model solves is not known, so accuracies count as independent proportions; the study's own comparisons,
paired by problem, may be somewhat more certain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from tts.analysis import stats
from tts.claims import published
from tts.claims.checks import Finding, certainty


def _table(name: str, index: str = "model") -> pd.DataFrame:
    return published.read(name).set_index(index)


def row_difference(name: str, first: str, second: str, column: str) -> Finding:
    """The difference of two rows of a table, in the column of a problem set."""
    table = _table(name)
    a, b = table.loc[first, column], table.loc[second, column]
    detail = f"{first} {a:g} less {second} {b:g}, {published.PROBLEMS[column]} problems of {column}"
    return Finding.of(published.combination([a, b], [1, -1], column), "points", detail)


def table2(first: str, second: str, high: str, low: str) -> Finding:
    """How far two rules lie apart under a first PRM, less how far under a second."""
    table = _table("table2", "method")
    values = [table.loc[rule, prm] for prm in (first, second) for rule in (high, low)]
    detail = f"{high} - {low}: {first} {values[0] - values[1]:.1f}, {second} {values[2] - values[3]:.1f} points"
    return Finding.of(published.combination(values, [1, -1, -1, 1], "MATH-500"), "points", detail)


def table4(first: str, second: str, times: float) -> Finding:
    """How many times fewer total FLOPs, exactly; more than ``times`` or not."""
    total = _table("table4")["total_flops"]
    ratio = float(total[second] / total[first])
    detail = f"{second} {total[second]:.3g} over {first} {total[first]:.3g} FLOPs"
    return Finding(ratio, ratio, ratio, "ratio", "exact", detail, times, exact=True)


def table5_all(first: str, second: str) -> Finding:
    """The difference of two columns of Table 5 for the policy for which it is least certain."""
    table, findings = _table("table5"), []
    for model, row in table.iterrows():
        detail = f"least certain of {len(table)} policies: {model} {row[first]} less {row[second]}"
        findings.append(Finding.of(published.combination([row[first], row[second]], [1, -1], "MATH-500"), "points", detail))
    return min(findings, key=certainty)


def relative_gain(first: str, second: str) -> Finding:
    """The relative gain over CoT of a first policy of Table 5 less that of a second; interval by the delta method."""
    table, gains, variance = _table("table5"), [], 0.0
    for model in (first, second):
        cot, tts = table.loc[model, ["cot", "compute_optimal_tts"]].astype(float) / 100
        gains.append(tts / cot - 1)
        variance += (tts / cot) ** 2 * ((1 - tts) / (500 * tts) + (1 - cot) / (500 * cot))
    estimate, half = gains[0] - gains[1], 1.96 * np.sqrt(variance)
    detail = f"{gains[0]:+.1%} for {first}, {gains[1]:+.1%} for {second}"
    return Finding(estimate, estimate - half, estimate + half, "share", "delta method, as of independent samples", detail)


def share(value: float, problems: int, above: float) -> Finding:
    """A published share of problems, in per cent; above another or not."""
    return Finding.of(stats.wilson(value / 100 * problems, problems), "share", f"{value:g} % of {problems} problems", above / 100)


CHECKS: dict[str, Callable[..., Finding]] = {
    "relative_gain": relative_gain,
    "share": share,
    "table2": table2,
    "table3": partial(row_difference, "table3"),
    "table4": table4,
    "table5_all": table5_all,
    "table6": partial(row_difference, "table6"),
}
