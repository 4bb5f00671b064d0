"""Figures of comparisons between small policies with test-time scaling and larger ones that answer alone, drawn on the axes ``ax``."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from tts.analysis.flops import Cost
from tts.common.names import short
from tts.report.panels import bars, errors, legend_below, panels, percent, values
from tts.search.registry import method_of

WAYS = {"CoT": "#7f7f7f", "TTS": "C1"}
VERDICTS = {"supported": ("C0", "o"), "undecided": ("#7f7f7f", "s"), "contradicted": ("C1", "v")}
PARTS = {
    "policy_training": ("policy training", "C0"),
    "prm_training": ("PRM training", "C1"),
    "prefill": ("policy prefill", "C5"),
    "decode": ("policy decode", "C2"),
    "prm_inference": ("PRM reading", "C4"),
    "attention": ("attention, both", "C3"),
}


def accuracy_bars(rows: pd.DataFrame, ax: Axes) -> None:
    """Accuracy of each policy with CoT and with TTS (Fig 1), with 95 % intervals.

    Args:
        rows: columns policy, strategy (CoT or TTS), accuracy, low, high.
    """
    policies = bars(rows, "policy", "strategy", {name: (name, colour) for name, colour in WAYS.items()}, ax)
    ax.set_xticks(range(len(policies)), [short(policy) for policy in policies])
    ax.set_xlabel("policy (parameters)")
    ax.set_ylabel("accuracy")
    legend_below(ax.figure, ax)


def difference_map(rows: pd.DataFrame, ax: Axes) -> None:
    """Small with TTS (rows) minus large with CoT (columns) in points, with 95 % intervals; undecided cells are hatched.

    Args:
        rows: columns small, large, difference, low, high, verdict.
    """
    if rows.empty:
        ax.text(0.5, 0.5, "no policy is larger than another", ha="center", va="center", transform=ax.transAxes)
        return
    smalls, larges = values(rows["small"]), values(rows["large"])
    differences = rows.pivot(index="small", columns="large", values="difference").reindex(index=smalls, columns=larges) * 100
    limit = max(float(np.nanmax(np.abs(differences))), 1.0)
    image = ax.imshow(differences, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
    for row in rows.itertuples():
        at = (larges.index(row.large), smalls.index(row.small))
        dark = abs(100 * row.difference) > 0.6 * limit
        text = f"{100 * row.difference:+.1f}\n[{100 * row.low:+.0f}, {100 * row.high:+.0f}]"
        weight = "bold" if row.verdict == "supported" else "normal"
        ax.text(*at, text, ha="center", va="center", fontsize=5.5, color="white" if dark else "black", weight=weight)
        if row.verdict == "undecided":
            ax.add_patch(Rectangle((at[0] - 0.5, at[1] - 0.5), 1, 1, fill=False, hatch="////", edgecolor="0.75", linewidth=0))
    ax.set_xticks(range(len(larges)), [short(name) for name in larges])
    ax.set_yticks(range(len(smalls)), [short(name) for name in smalls])
    ax.set_xlabel("larger policy, CoT")
    ax.set_ylabel("smaller policy, TTS")
    ax.grid(visible=False)
    ax.figure.colorbar(image, ax=ax, label="difference (points)", fraction=0.04, pad=0.02)


def forest(rows: pd.DataFrame, labels: list[str], ax: Axes) -> None:
    """Differences in accuracy with their 95 % intervals, one a line, by verdict.

    Args:
        rows: columns difference, low, high (shares), verdict; one that was not tested has no numbers and no mark.
        labels: one a row.
    """
    for place, row in enumerate(rows.itertuples()):
        if row.verdict in VERDICTS:
            colour, marker = VERDICTS[row.verdict]
            ax.plot([100 * row.low, 100 * row.high], [place, place], color=colour, linewidth=1.0)
            ax.plot(100 * row.difference, place, color=colour, marker=marker, linestyle="none")
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_yticks(range(len(rows)), labels)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    for name, (colour, marker) in VERDICTS.items():
        ax.plot([], [], color=colour, marker=marker, linewidth=1.0, label=name)


def cost_shares(costs: dict[str, Cost], parts: tuple[str, ...], ax: Axes) -> None:
    """Which share of the FLOPs each part takes, one bar per way of answering.

    Args:
        costs: by name.
        parts: fields of :class:`tts.analysis.flops.Cost` that make up the whole.
    """
    flops = np.array([[getattr(cost, part) for part in parts] for cost in costs.values()], float)
    shares = flops / flops.sum(1, keepdims=True)
    left = np.zeros(len(shares))
    for part, share in zip(parts, shares.T):
        label, colour = PARTS[part]
        ax.barh(np.arange(len(shares)), share, left=left, color=colour, label=label, height=0.7)
        left = left + share
    ax.set_yticks(range(len(shares)), [short(name) for name in costs])
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    percent(ax.xaxis)
    ax.grid(axis="y", visible=False)
    legend_below(ax.figure, ax)


def total_against_queries(rows: pd.DataFrame, ax: Axes) -> None:
    """Total FLOPs, training included, over the number of queries (both axes log), one line per way of answering.

    Args:
        rows: columns way, queries, total.
    """
    for number, (name, line) in enumerate(rows.groupby("way", sort=False)):
        ax.plot(line["queries"], line["total"], label=name, linestyle=("-", "--", ":", "-.")[number % 4])
    for axis, scale in ((ax.xaxis, ax.set_xscale), (ax.yaxis, ax.set_yscale)):
        scale("log")
        axis.set_major_locator(LogLocator(numticks=6))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("queries answered")
    ax.set_ylabel("total FLOPs")
    legend_below(ax.figure, ax, 2)


def verifier_forest(rows: pd.DataFrame, ax: Axes) -> None:
    """:func:`forest` of policy + PRM minus the PRM's base model alone, in points.

    Args:
        rows: of :func:`tts.claims.comparisons.verifier_as_solver`.
    """
    labels = [f"{short(row.policy)} + {short(row.prm)}, against {short(row.solver)}" for row in rows.itertuples()]
    forest(rows, labels, ax)
    ax.set_xlabel("policy + PRM minus base model (points)")
    legend_below(ax.figure, ax)


def claims_forest(rows: pd.DataFrame) -> Figure:
    """:func:`forest` of the published comparisons, one panel per problem set.

    Args:
        rows: of :func:`tts.claims.published.claims`.
    """
    figure, axes = plt.subplots(1, rows["problems"].nunique(), figsize=(7.2, 2.6))
    for ax, (name, part) in zip(axes, rows.groupby("problems", sort=False)):
        twice = part["claim"].duplicated(keep=False)
        labels = [f"{row.claim} ({row.source})" if both else row.claim for row, both in zip(part.itertuples(), twice)]
        forest(part, [f"{label} \N{DAGGER}" if row.made_by == "nobody" else label for label, row in zip(labels, part.itertuples())], ax)
        ax.set_title(name)
        ax.set_xlabel("TTS minus CoT (points)")
    axes[-1].plot([], [], " ", label="\N{DAGGER} no claim of the study's")
    legend_below(figure, axes[-1], 4)
    return figure


def differences_by_set(rows: pd.DataFrame) -> Figure:
    """:func:`forest` of the published external rows less the long-CoT ones, one panel per problem set.

    Args:
        rows: of :func:`tts.claims.published.table6`.
    """
    figure, axes = plt.subplots(1, rows["problems"].nunique(), figsize=(7.2, 2.8), sharey=True)
    for ax, (name, part) in zip(axes, rows.groupby("problems", sort=False)):
        part = part.sort_values(["external", "internal"])
        forest(part, [f"{row.external.split(' + ')[-1]} - {row.internal}" for row in part.itertuples()], ax)
        ax.set_title(name)
        ax.set_xlabel("external minus long CoT (points)")
    legend_below(figure, axes[-1])
    return figure


def internal_and_external(rows: pd.DataFrame) -> Figure:
    """Accuracy over policy tokens per problem, one panel per size: plain policies filled, long-CoT ones open, 95 % intervals.

    Args:
        rows: of :func:`tts.analysis.long_cot.ways`.
    """

    def draw(part: pd.DataFrame, ax: Axes) -> None:
        for (policy, method), of in part.groupby(["policy", "method"], sort=False):
            label, colour, marker = (known := method_of(method)).label, known.colour, known.marker
            look: dict[str, Any] = {"linestyle": "-", "markerfacecolor": colour, "label": f"plain: {label}"}
            if policy != part["size"].iloc[0]:
                look = {"linestyle": "--", "markerfacecolor": "white", "label": f"long: {label}"}
            ax.errorbar(of["tokens"], of["accuracy"], errors(of, ax), color=colour, marker=marker, elinewidth=0.6, **look)
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        percent(ax.yaxis)

    parts = [(short(size), rows[rows["size"] == size]) for size in values(rows["size"])]
    return panels(parts, draw, ("policy tokens per problem", "accuracy"), 2.6, legend=4)
