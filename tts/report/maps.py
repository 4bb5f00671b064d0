"""Figures of fields and colours: which method wins at which verifier, and the verdicts on the study's claims."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tts.claims import findings
from tts.common.names import short
from tts.report.panels import panels, place_legend, values
from tts.report.plots import methods_in
from tts.search.registry import method_of

VERDICTS = {"supported": "#a9cfe8", "contradicted": "#f3bd8b", "undecided": "#e9e6d8", "not tested": "#f6f6f6"}


def verifier_map(table: pd.DataFrame, places: dict[str, tuple[float, float]]) -> Figure:
    """Which method wins at which error rates, one panel per policy, the real PRMs as points.

    A field holds the winner's accuracy in per cent; it is pale where its lead over the second is not decided. Fields are equally
    wide, whatever lies between two rates; a PRM whose rates lie beyond the map stands at its end, as a triangle that points on.

    Args:
        table: of :func:`tts.strategy.verifier_map.winners`.
        places: false-positive and false-negative rate of each real PRM.
    """
    xs, ys = (sorted(set(table[name])) for name in ("false positive", "false negative"))
    markers = [_marker(x, y, xs, ys) for x, y in places.values()]
    spots = [(float(np.interp(x, xs, range(len(xs)))), float(np.interp(y, ys, range(len(ys))))) for x, y in places.values()]

    def draw(rows: pd.DataFrame, ax: Axes) -> None:
        _fields(rows, xs, ys, spots, ax)
        for number, (spot, marker) in enumerate(zip(spots, markers), 1):
            ax.plot(*spot, marker=marker, markersize=9, alpha=0.85, **_OUTLINED)
            ax.text(*spot, str(number), ha="center", va="center", fontsize=6)

    parts = [(short(policy), table[table["policy"] == policy]) for policy in values(table["policy"])]
    figure = panels(parts, draw, ("wrong steps accepted", "right steps rejected"), 2.7, legend=None)
    legend: dict[str, Any] = {f"{method.label} wins": Patch(color=method.colour) for method in methods_in(table["best"])}
    for number, ((prm, (x, y)), marker) in enumerate(zip(places.items(), markers), 1):
        name = f"{number}: {short(prm)} ({100 * x:.0f}, {100 * y:.0f} %)"
        legend[name] = Line2D([], [], linestyle="none", marker=marker, markersize=6, **_OUTLINED)
    place_legend(figure, legend, 4)
    return figure


_OUTLINED: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "markeredgewidth": 0.6}


def _marker(x: float, y: float, xs: list[float], ys: list[float]) -> str:
    """A circle, or a triangle towards where a place beyond the map lies."""
    return ">" if x > xs[-1] else "^" if y > ys[-1] else "o"


def _fields(rows: pd.DataFrame, xs: list[float], ys: list[float], spots: list[tuple[float, float]], ax: Axes) -> None:
    """The fields, each with its number in the corner that is furthest from what else is drawn."""
    for row in rows.to_dict("records"):
        i, j = xs.index(row["false positive"]), ys.index(row["false negative"])
        alpha = 0.75 if row["decided"] else 0.25
        ax.add_patch(plt.Rectangle((i - 0.5, j - 0.5), 1, 1, color=method_of(row["best"]).colour, alpha=alpha, linewidth=0))
        corners = [(i - 0.3, j + 0.3), (i + 0.3, j + 0.3), (i - 0.3, j - 0.3), (i + 0.3, j - 0.3)]
        x, y = max(corners, key=lambda corner: min((np.hypot(*np.subtract(corner, spot)).clip(max=0.5) for spot in spots), default=0))
        ax.text(x, y, f"{100 * row[row['best']]:.0f}", ha="center", va="center", fontsize=6)
    ax.set_xticks(range(len(xs)), [f"{100 * x:g}%" for x in xs])
    ax.set_yticks(range(len(ys)), [f"{100 * y:g}%" for y in ys])
    ax.set_xlim(-0.5, len(xs) - 0.5)
    ax.set_ylim(-0.5, len(ys) - 0.5)
    ax.grid(visible=False)


def ledger(table: pd.DataFrame) -> Figure:
    """The verdict on each claim in each scope, with its contrast.

    Args:
        table: of :func:`tts.claims.findings.judge`.
    """
    claims, scopes = (values(table[name]) for name in ("claim", "scope"))
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
    ax.set_xlabel("contrast [95 % interval], in points of accuracy where no unit stands")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    place_legend(figure, {verdict: Patch(color=colour) for verdict, colour in VERDICTS.items()}, 4)
    return figure
