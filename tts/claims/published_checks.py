"""The study's claims on its own published numbers. The checks take their parameters from ``claims.yaml``."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from tts.analysis import stats
from tts.claims import published
from tts.claims.finding import Finding, certainty, least_certain


def published_difference(name: str, first: str, second: str, column: str) -> Finding:
    """The difference of two rows of a table, in the column of a problem set; the detail says so where its sign is against the claim."""
    table = published.read(name).set_index("model")
    published.known([first, second], table.index, name)
    published.known([column], published.PROBLEMS, name)
    a, b = table.loc[first, column], table.loc[second, column]
    against = "" if a > b else "; the printed numbers themselves say the opposite" if a < b else "; the printed numbers are equal"
    detail = f"{first} {a:g} less {second} {b:g}, {published.PROBLEMS[column]} problems of {column}{against}"
    return Finding.of(published.combination([a, b], [1, -1], column), "points", detail)


def published_voting(first: str, second: str, high: str, low: str) -> Finding:
    """How far two rules lie apart under a first PRM, less how far under a second."""
    table = published.read("table2").set_index("method")
    published.known([first, second], table.columns, "table2")
    published.known([high, low], table.index, "table2")
    values = [table.loc[rule, prm] for prm in (first, second) for rule in (high, low)]
    detail = f"{high} - {low}: {first} {values[0] - values[1]:.1f}, {second} {values[2] - values[3]:.1f} points"
    return Finding.of(published.combination(values, [1, -1, -1, 1], "MATH-500"), "points", detail)


def published_flops(first: str, second: str, times: float, column: str) -> Finding:
    """Whether a policy is more accurate than another and takes ``times`` fewer total FLOPs: of these two halves the less certain one.

    The accuracies are those of Table 3 in the column of a problem set; the FLOPs, of Table 4, are known exactly.
    """
    total = published.read("table4").set_index("model")["total_flops"]
    published.known([first, second], total.index, "table4")
    ratio = float(total[second] / total[first])
    accuracy = published_difference("table3", first, second, column)
    counted = f"{second} {total[second]:.3g} over {first} {total[first]:.3g} FLOPs, {ratio:.3g} times"
    flops = Finding(ratio, ratio, ratio, "exact", "ratio", "", times)
    return replace(min(accuracy, flops, key=certainty), detail=f"{accuracy.detail}; {counted}; of these two halves the less certain one")


def published_gain(first: str, second: str) -> Finding:
    """The difference of two columns of Table 5 for the policy for which it is least certain."""
    table, findings = published.read("table5"), []
    published.known([first, second], table.select_dtypes("number"), "table5")
    for _, row in table.iterrows():
        detail = f"least certain of {len(table)} policies: {row['model']} {row[first]} less {row[second]}"
        findings.append(Finding.of(published.combination([row[first], row[second]], [1, -1], "MATH-500"), "points", detail))
    return least_certain(findings)


def published_relative_gain(first: str, second: str) -> Finding:
    """The relative gain over CoT of a first policy of Table 5 less that of a second; interval by the delta method."""
    table = published.read("table5").set_index("model")
    published.known([first, second], table.index, "table5")
    table = table.loc[[first, second]]
    cot, tts = table["cot"].to_numpy() / 100, table["compute_optimal_tts"].to_numpy() / 100
    gains = tts / cot - 1
    variances = (tts / cot) ** 2 * ((1 - tts) / (500 * tts) + (1 - cot) / (500 * cot))
    estimate, half = gains[0] - gains[1], 1.96 * np.sqrt(variances.sum())
    detail = f"{gains[0]:+.1%} for {first}, {gains[1]:+.1%} for {second}"
    return Finding(estimate, estimate - half, estimate + half, "delta method, as of independent samples", "share", detail)


def published_share(value: float, problems: int, above: float) -> Finding:
    """A published share of problems, in per cent; above another or not."""
    return Finding.of(stats.wilson(value / 100 * problems, problems), "share", f"{value:g} % of {problems} problems", above / 100)


PUBLISHED: dict[str, Callable[..., Finding]] = {
    "relative_gain": published_relative_gain, "share": published_share, "table2": published_voting,
    "table3": partial(published_difference, "table3"), "table4": published_flops, "table5_all": published_gain,
    "table6": partial(published_difference, "table6"),
}  # fmt: skip
