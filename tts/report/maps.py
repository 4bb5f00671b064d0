"""Figures of fields and colours: which method wins at which verifier, and the verdicts on the study's claims."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tts.claims import findings
from tts.report.plots import METHODS, short

VERDICTS = {"supported": "#a9cfe8", "contradicted": "#f3bd8b", "undecided": "#e9e6d8", "not tested": "#f6f6f6"}


def verifier_map(table: pd.DataFrame, places: dict[str, tuple[float, float]]) -> Figure:
    """Which method wins at which error rates, one panel per policy, the real PRMs as points.

    A field holds the winner's accuracy in per cent; it is pale where its lead over the second is not decided.

    Args:
        table: of :func:`tts.advice.verifier_map.winners`.
        places: false-positive and false-negative rate of each real PRM.
    """
    policies = list(dict.fromkeys(table["policy"]))
    figure, axes = plt.subplots(1, len(policies), figsize=(2.6 * len(policies) + 1.2, 2.7), squeeze=False, sharey=True)
    for ax, policy in zip(axes[0], policies):
        _fields(table[table["policy"] == policy], ax)
        _prms(table, places, ax)
        ax.set_title(short(policy))
        ax.set_xlabel("wrong steps accepted")
    axes[0, 0].set_ylabel("right steps rejected")
    won = [m for m in METHODS if m in set(table["best"])]
    legend = [Patch(color=METHODS[m][1], label=f"{METHODS[m][0]} wins") for m in won]
    circle = {"linestyle": "none", "marker": "o", "markersize": 6, "color": "white", "markeredgecolor": "black", "markeredgewidth": 0.6}
    legend += [Line2D([], [], **circle, label=f"{number}: {short(prm)}") for number, prm in enumerate(places, 1)]
    figure.legend(handles=legend, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=4)
    return figure


def _fields(rows: pd.DataFrame, ax: Axes) -> None:
    xs, ys = (sorted(set(rows[name])) for name in ("false positive", "false negative"))
    for row in rows.to_dict("records"):
        i, j = xs.index(row["false positive"]), ys.index(row["false negative"])
        alpha = 0.75 if row["decided"] else 0.25
        ax.add_patch(plt.Rectangle((i - 0.5, j - 0.5), 1, 1, color=METHODS[row["best"]][1], alpha=alpha, linewidth=0))
        ax.text(i - 0.45, j + 0.42, f"{100 * row[row['best']]:.0f}", ha="left", va="top", fontsize=6)
    ax.set_xticks(range(len(xs)), [f"{x:.0%}" for x in xs])
    ax.set_yticks(range(len(ys)), [f"{y:.0%}" for y in ys])
    ax.set_xlim(-0.5, len(xs) - 0.5)
    ax.set_ylim(-0.5, len(ys) - 0.5)
    ax.grid(visible=False)


def _prms(table: pd.DataFrame, places: dict[str, tuple[float, float]], ax: Axes) -> None:
    """The real PRMs, at the fraction of a field that their rates are between two dialled ones."""
    xs, ys = (sorted(set(table[name])) for name in ("false positive", "false negative"))
    for number, (x, y) in enumerate(places.values(), 1):
        at = np.interp(x, xs, range(len(xs))), np.interp(y, ys, range(len(ys)))
        ax.plot(*at, marker="o", markersize=9, color="white", markeredgecolor="black", markeredgewidth=0.6, alpha=0.85)
        ax.text(*at, str(number), ha="center", va="center", fontsize=6)


def ledger(table: pd.DataFrame) -> Figure:
    """The verdict on each claim in each scope, with its contrast.

    Args:
        table: of :func:`tts.claims.findings.judge`.
    """
    claims, scopes = (list(dict.fromkeys(table[name])) for name in ("claim", "scope"))
    scopes = [s for s in scopes if (table[table["scope"] == s]["verdict"] != "not tested").any()]
    figure, ax = plt.subplots(figsize=(2.2 * len(scopes) + 2.0, 0.24 * len(claims) + 0.6))
    for row in table[table["scope"].isin(scopes)].to_dict("records"):
        x, y = scopes.index(row["scope"]), claims.index(row["claim"])
        ax.add_patch(plt.Rectangle((x - 0.49, y - 0.46), 0.98, 0.92, color=VERDICTS[row["verdict"]], linewidth=0))
        ax.text(x, y, findings.formatted(row), ha="center", va="center", fontsize=6.5)
    ax.set_xticks(range(len(scopes)), scopes)
    ax.set_yticks(range(len(claims)), claims)
    ax.set_xlim(-0.5, len(scopes) - 0.5)
    ax.set_ylim(len(claims) - 0.5, -0.5)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    figure.legend(handles=[Patch(color=c, label=v) for v, c in VERDICTS.items()], loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=4)
    return figure
