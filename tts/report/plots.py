"""The study's figures: functions that draw rows on the axes ``ax``, or give a figure of panels. Intervals are 95 % ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from tts.common.names import short
from tts.report import style
from tts.report.figure_files import drawing
from tts.report.style import bars, errors, in_words, legend_below, line, lines_over_budget, log_x, over_budget, panels, percent
from tts.search.registry import METHODS, Method, method_of

_BUDGET = ("budget N (samples)", "accuracy")


def methods_in(names: Iterable[str]) -> list[Method]:
    """The methods of some rows, in the order of the registry. Raises as :func:`method_of` for one that nobody registered."""
    found = {method_of(name).name for name in names}
    return [method for name, method in METHODS.items() if name in found]


def look_of(method: Method) -> dict[str, Any]:
    """A method's label, colour and marker, as arguments of matplotlib."""
    return {"label": method.label, "color": method.colour, "marker": method.marker}


def colours_of(prms: Iterable[str]) -> dict[str, str]:
    """A colour for each PRM, by the order of their names, so that figures of the same PRMs agree."""
    return {prm: f"C{number}" for number, prm in enumerate(sorted(set(prms)))}


def _per_pair(table: pd.DataFrame, draw: Callable, labels: tuple[str, str], title: str = "") -> Figure:
    """One panel per policy (rows) and PRM (columns); what needs no PRM is in each."""
    prms = [prm for prm in table["prm"].unique() if prm] or [""]
    parts = []
    for (policy, rows), prm in product(table.groupby("policy", sort=False), prms):
        names = ", ".join(in_words(name) for name in (policy, prm) if name)
        parts.append((names, rows[rows["prm"].isin([prm, ""])]))
    return panels(parts, draw, labels, 2.0, len(prms), title, share_x=True)


def accuracy_against_n(rows: pd.DataFrame, ax: Axes) -> None:
    """One line per method with its error bars (Fig 4 and 5). ``rows``: columns method, n, accuracy, low, high, of one policy and PRM."""
    styles: dict[str, dict[str, Any]] = {}
    for method in methods_in(rows["method"]):
        if method.source == "greedy":
            ax.axhline(rows[rows["method"] == method.name]["accuracy"].iloc[0], color=method.colour, linestyle=":", label=method.label)
            continue
        oracle = {"linestyle": "--", "linewidth": 1.0, "band": 0} if method.select == "oracle" else {}
        styles[method.name] = look_of(method) | oracle
    lines_over_budget(rows, "method", styles, ax, bars=True)


@drawing
def grid_of_panels(table: pd.DataFrame, title: str = "") -> Figure:
    """One panel of :func:`accuracy_against_n` per policy (rows) and PRM (columns)."""
    return _per_pair(table, accuracy_against_n, _BUDGET, title)


@drawing
def policy_scaling(table: pd.DataFrame, sizes: dict[str, int], ax: Axes) -> None:
    """Accuracy of each method over the policy's parameters (Fig 7). ``table``: columns policy, method, accuracy, low, high."""
    table = table.assign(size=table["policy"].map(sizes)).sort_values("size", kind="stable")
    for method in methods_in(table["method"]):
        of, linestyle = table[table["method"] == method.name], "-" if method.compared else "--"
        ax.errorbar(of["size"], of["accuracy"], errors(of, ax), **look_of(method), linestyle=linestyle, capsize=2, elinewidth=0.8)
    log_x(ax)
    ax.set(xlabel="policy parameters", ylabel="accuracy")
    percent(ax.yaxis)
    legend_below(ax.figure, ax)


@drawing
def pass_at_1_histograms(rows: pd.DataFrame, edges: Sequence[float]) -> Figure:
    """Share of problems (rows, with columns policy and pass_at_1) over Pass@1 (Fig 3); ``edges`` are the thresholds of difficulty."""

    def draw(part: pd.DataFrame, ax: Axes) -> None:
        shares = part["pass_at_1"]
        ax.hist(shares, bins=np.linspace(0, 1, 11), weights=np.full(len(shares), 1 / len(shares)), color="C5", edgecolor="white")
        for edge in edges:
            ax.axvline(edge, color="black", linestyle="--", linewidth=0.8)
        percent(ax.xaxis, ax.yaxis)

    return panels(rows.groupby("policy", sort=False), draw, ("Pass@1", "share of problems"), 2.2, legend=None)


@drawing
def bins_per_policy(table: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy per bin, one panel per policy (Fig 8, 9). ``table``: columns policy, bin, method, accuracy, low, high, problems."""

    def draw(part: pd.DataFrame, ax: Axes) -> None:
        counts = part.drop_duplicates("bin").set_index("bin")["problems"]
        styles = {method.name: (method.label, method.colour) for method in methods_in(part["method"])}
        bars(part, "bin", "method", styles, ax, named=lambda name: f"{name}\n({int(counts[name])})")
        ax.set_ylim(0, 1)

    return panels(table.groupby("policy", sort=False), draw, ("difficulty (problems)", "accuracy"), 2.4, title=title)


STRATEGIES: dict[str, dict[str, Any]] = {
    name: {"label": label, "color": colour, "linestyle": line, "marker": marker, "band": band}
    for name, label, colour, line, marker, band in (
        ("CoT", "CoT (greedy)", "0.5", ":", "", 0),
        ("Pass@1", "Pass@1", "0.5", "-.", "x", 0),
        ("majority", "Majority", "C0", "-", "o", 0),
        ("the study's rule", "the study's rule: by policy size and difficulty", "C3", "-", "D", 0),
        ("best fixed, cross-fitted", "one choice for all, made on other problems", "C4", "-", "^", 0),
        ("optimal, predicted difficulty, cross-fitted", "a choice by predicted difficulty, made on other problems", "C5", "-", "s", 0),
        ("optimal, oracle difficulty, cross-fitted", "a choice by true difficulty, made on other problems (band)", "C1", "-", "v", 0.12),
        ("optimal, oracle difficulty, in-sample", "a choice by true difficulty, made on the same problems", "C1", "--", "", 0),
    )
}


@drawing
def strategies(rows: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy of each strategy over the budget N, one panel per policy and PRM. ``rows``: of :func:`tts.strategy.choices.compare`."""
    return _per_pair(rows, lambda part, ax: lines_over_budget(part, "strategy", STRATEGIES, ax), _BUDGET, title)


@drawing
def accuracy_against_tokens(rows: pd.DataFrame, cost: str = "tokens", label: str = "policy tokens per problem") -> Figure:
    """Accuracy over a cost, a column of the rows, one panel per policy and PRM.

    ``rows``: of :func:`tts.strategy.choices.at_equal_tokens`, :func:`tts.claims.equal_cost.by_cost`, :func:`tts.claims.released.stopping`.
    """
    return _per_pair(rows, lambda part, ax: _over_cost(part, cost, ax), (label, "accuracy"))


@drawing
def accuracy_against_costs(rows: pd.DataFrame, costs: Mapping[str, str]) -> Figure:
    """Accuracy of one policy's methods over each cost, a panel each: columns of the rows with their titles, the same runs in all.

    ``rows``: of :func:`tts.claims.equal_cost.by_cost`.
    """
    parts = [(title, cost) for cost, title in costs.items()]
    return panels(parts, lambda cost, ax: _over_cost(rows, cost, ax), ("cost per problem", "accuracy"), 2.2)


LEAST = 0.1  # of accuracy that a panel spans, or a difference of nothing would look large


def _over_cost(part: pd.DataFrame, cost: str, ax: Axes) -> None:
    """A line per method over a column of the rows, on a logarithmic axis."""
    if part[cost].isna().all():
        return style.say({"tokens": "token counts are not known", "seconds": "no times were kept"}.get(cost, f"{cost} are not known"), ax)
    styles: dict[str, dict[str, Any]] = {method.name: look_of(method) | {"band": 0} for method in METHODS.values()}
    styles["adaptive"] = {"label": "Adaptive", "color": "#000000", "marker": "*", "band": 0.08}
    for name, look in styles.items():
        if len(of := part[(part["strategy"] == name) & part[cost].notna()]):
            line(of.sort_values(cost), cost, ax, **look)
    bottom, top = ax.get_ylim()
    if top - bottom < LEAST:
        ax.set_ylim((bottom + top - LEAST) / 2, (bottom + top + LEAST) / 2)
    ax.set_xscale("log")
    unit = "s" if cost == "seconds" else ""
    low, high = ax.get_xlim()
    steps = (1, 2, 5) if high < 100 * low else (1, 3)  # more labels than these would touch
    ax.xaxis.set(major_locator=LogLocator(subs=steps), minor_locator=NullLocator(), major_formatter=EngFormatter(unit, sep=""))
    percent(ax.yaxis)


@drawing
def quality_against_accuracy(rows: pd.DataFrame, fit: tuple[float, float], ax: Axes) -> None:
    """Accuracy over F1 by :func:`tts.report.tables.quality` (Fig 6); ``fit``: a and b of accuracy = a ln F1 + b, both in per cent."""
    ax.errorbar(rows["f1"], rows["accuracy"], errors(rows, ax), linestyle="none", color="0.6", elinewidth=0.8, zorder=1)
    colours = colours_of(rows["prm"])
    for row in rows.sort_values("f1").itertuples():
        known = np.isfinite(row.parameters)
        look = {"s": 12 * max(1.0, np.log2(row.parameters / 8000))} if known else {"marker": "x", "s": 24}
        ax.scatter(row.f1, row.accuracy, **look, color=colours[row.prm], zorder=2, label=short(row.prm))
    ax.plot([], [], " ", label="larger mark: larger PRM")
    x = np.linspace(rows["f1"].min(), rows["f1"].max(), 50)
    ax.plot(x, (fit[0] * np.log(100 * x) + fit[1]) / 100, color="0.4", linewidth=0.8, linestyle="--")
    n = f", N = {rows['n'].iloc[0]:g}" if "n" in rows and len(rows) else ""
    ax.set(xlabel="F1 of locating the first wrong step", ylabel=f"accuracy of best-of-N{n}")
    legend_below(ax.figure, ax)
    percent(ax.xaxis, ax.yaxis)


@drawing
def lines_per_prm(rows: pd.DataFrame, x: str, y: str, ax: Axes) -> None:
    """One line of ``y`` over ``x``, which may be the budget n, per PRM with its band. ``rows``: columns prm, ``x``, ``y``, low, high."""
    colours = colours_of(rows["prm"])
    for prm, part in rows.groupby("prm", sort=False):
        line(part, x, ax, y, 0.1, marker="o", markersize=3, color=colours[prm], label=short(str(prm)))
    legend_below(ax.figure, ax)
    if x == "n":
        over_budget(ax)


@drawing
def pathology_bars(rows: pd.DataFrame, ax: Axes) -> None:
    """Share of each pathology, grouped by PRM (Fig 12 to 18). ``rows``: columns prm, pathology, share, low, high."""
    styles = {kind: (kind, None) for kind in rows["pathology"]}
    bars(rows, "prm", "pathology", styles, ax, "share", lambda prm: short(prm).replace(" ", "\n").replace("-", "\n", 1))
    ax.set(xlabel="PRM", ylabel="share of right (over-criticism)\nor wrong solutions")
    legend_below(ax.figure, ax)


@drawing
def gains_against_size(rows: pd.DataFrame, sizes: dict[str, int], title: str = "") -> Figure:
    """Both gains over ``sizes`` in parameters, of rows of ``tables.gains``, and :func:`policy_scaling` of those of ``tables.at_size``."""
    gains, accuracies = rows[rows["relative gain"].notna()], rows[rows["relative gain"].isna()]
    count = 3 if len(accuracies) else 2
    figure, axes = plt.subplots(1, count, figsize=(3.2 * count, 2.4), sharex=count == 2 and gains["policy"].nunique() > 1)
    for ax, column in zip(axes, ("relative gain", "error reduction")):
        of = gains.assign(size=gains["policy"].map(sizes), low=gains[f"{column} low"], high=gains[f"{column} high"]).sort_values("size")
        ax.errorbar(of["size"], of[column], errors(of, ax, column), color="black", marker="o", markersize=3, capsize=2, elinewidth=0.8)
        log_x(ax)
        ax.set(xlabel="policy parameters", ylabel=column)
        if column == "relative gain":
            ax.set_yscale("symlog", linthresh=0.1)  # linear about zero, logarithmic beyond
            ax.set(ylabel=f"{column} (symlog)", ylim=(min(-0.05, 1.2 * float(of["low"].min())), None))
        ax.axhline(0, color="0.5", linewidth=0.8)
        percent(ax.yaxis)
    if len(accuracies):
        policy_scaling(accuracies, sizes, axes[2])
    axes[1].set_title(title)
    return figure


@drawing
def flops_in_both_conventions(rows: pd.DataFrame) -> Figure:
    """Panels of :func:`accuracy_against_flops` for total FLOPs as the study counts them, and in full."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.8), sharey=True)
    for ax, counted in zip(axes, ("study", "full")):
        accuracy_against_flops(rows, f"total ({counted})", ax)
        ax.set_xlabel({"study": "total FLOPs, as the study counts", "full": "total FLOPs, in full"}[counted])
    axes[0].set_ylabel("accuracy")
    legend_below(figure, axes, 4)
    return figure


def accuracy_against_flops(table: pd.DataFrame, column: str, ax: Axes) -> None:
    """Accuracy over the FLOPs (log) in a column of :func:`tts.analysis.costs.table`, where known, each policy's joined, and the front."""
    known = table.dropna(subset=[column])
    if known.empty:
        return style.say("no model's training FLOPs are known", ax)
    if unknown := len(table) - len(known):
        ax.set_title(f"without {unknown} whose FLOPs are not known", fontsize="small")
    labels = {method.name: method.label for method in METHODS.values()}
    known = known.assign(strategy=known["strategy"].replace(labels, regex=True))
    policies = known.sort_values(column)["policy"].unique()
    for number, (strategy, part) in enumerate(known.groupby("strategy", sort=False)):
        marks: dict[str, Any] = {"marker": "oXDs"[number % 4], "s": 28, "linewidths": 0, "zorder": 3}
        ax.scatter(part[column], part["accuracy"], **marks, c=part["policy"].map(list(policies).index), cmap="viridis_r")
        ax.scatter([], [], **marks, color="0.3", label=strategy)
    for policy, part in known.groupby("policy"):
        ax.plot(part[column], part["accuracy"], color="0.4", linestyle=":", linewidth=0.8, zorder=2)
        named = (part[part["strategy"] == "CoT"] if "CoT" in set(part["strategy"]) else part).iloc[0]
        place: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "fontsize": style.points(6)}
        ax.annotate(short(policy), (named[column], named["accuracy"]), (-4, 3), **place)
    ordered = known.sort_values(column)
    front = ordered[ordered["accuracy"] > ordered["accuracy"].shift(fill_value=-1).cummax()]
    ax.plot(front[column], front["accuracy"], color="0.6", linewidth=0.8, drawstyle="steps-post", zorder=1)
    log_x(ax)
    ax.margins(x=0.1)  # for the labels
    percent(ax.yaxis)
