"""The study's figures: functions that take rows and an ``ax``, or rows and give a figure of panels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, PercentFormatter

from tts.common.names import short
from tts.search.registry import METHODS, Method, method_of

PANEL = (2.3, 2.0)


def panel_title(policy: str, prm: str) -> str:
    """Policy and PRM above a panel, on two lines where the names are long."""
    names = [short(name) for name in (policy, prm) if name]
    return ("\n" if sum(map(len, names)) > 32 else " | ").join(names)


def accuracy_against_n(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy over the budget N with 95 % bands, one line per method (Fig 4 and 5).

    Args:
        rows: columns method, n, accuracy, low, high, of one policy and PRM.
        ax: to draw on.
    """
    for method in methods_in(rows["method"]):
        line = rows[rows["method"] == method.name].sort_values("n")
        if method.source == "greedy":
            ax.axhline(line["accuracy"].iloc[0], color=method.colour, linestyle=":", label=method.label)
            continue
        dashed = {"linestyle": "--", "linewidth": 1.0} if method.select == "oracle" else {}
        ax.plot(line["n"], line["accuracy"], color=method.colour, marker=method.marker, label=method.label, **dashed)
        if method.select != "oracle":
            ax.fill_between(line["n"], line["low"], line["high"], color=method.colour, alpha=0.12, linewidth=0)
    over_budget(ax)
    return ax


def methods_in(names: Iterable[str]) -> list[Method]:
    """The methods of some rows, in the order of the registry.

    Raises:
        tts.search.registry.MethodError: for one that nobody registered.
    """
    found = {name: method_of(name) for name in names}
    return [method for name, method in METHODS.items() if name in found]


def over_budget(ax: Axes) -> None:
    """Scales axes of accuracy over the budget N."""
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def grid_of_panels(table: pd.DataFrame, title: str = "", row: str = "policy", column: str = "prm") -> Figure:
    """One panel of :func:`accuracy_against_n` per policy (rows) and PRM (columns); what needs no PRM is in each."""
    rows, columns = _values(table, row), [v for v in _values(table, column) if v] or [""]
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(PANEL[0] * len(columns) + 1.2, PANEL[1] * len(rows)), squeeze=False, sharex=True, sharey="row"
    )
    for i, policy in enumerate(rows):
        for j, prm in enumerate(columns):
            ax = accuracy_against_n(table[(table[row] == policy) & table[column].isin([prm, ""])], axes[i, j])
            ax.set_title(panel_title(policy, prm))
    _finish(figure, axes, "budget N (samples)", "accuracy", title)
    return figure


def policy_scaling(table: pd.DataFrame, sizes: dict[str, int], ax: Axes) -> Axes:
    """Accuracy of each method over the policy's size (Fig 7), with 95 % intervals.

    Args:
        table: columns policy, method, accuracy, low, high; one row per policy and method.
        sizes: parameters of each policy.
        ax: to draw on.
    """
    for method in methods_in(table["method"]):
        line = table[table["method"] == method.name].assign(size=lambda t: t["policy"].map(sizes)).sort_values("size")
        error = np.clip([line["accuracy"] - line["low"], line["high"] - line["accuracy"]], 0, None)
        look = {"color": method.colour, "marker": method.marker, "label": method.label, "linestyle": "-" if method.compared else "--"}
        ax.errorbar(line["size"], line["accuracy"], error, **look, capsize=2, elinewidth=0.8)
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("policy parameters")
    ax.set_ylabel("accuracy")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    legend_below(ax.figure, ax)
    return ax


def pass_at_1_histograms(pass_at_1: dict[str, np.ndarray], edges: Sequence[float]) -> Figure:
    """Share of problems over Pass@1 (Fig 3), with the difficulty thresholds, one panel per policy."""
    figure, axes = plt.subplots(1, len(pass_at_1), figsize=(2.6 * len(pass_at_1), 2.2), sharey=True, squeeze=False)
    for ax, (policy, values) in zip(axes[0], pass_at_1.items()):
        ax.hist(values, bins=np.linspace(0, 1, 11), weights=np.full(len(values), 1 / len(values)), color="C5", edgecolor="white")
        for edge in edges:
            ax.axvline(edge, color="black", linestyle="--", linewidth=0.8)
        ax.set(title=short(policy), xlabel="Pass@1")
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes[0, 0].set_ylabel("share of problems")
    return figure


def bars_by_bin(table: pd.DataFrame, ax: Axes) -> Axes:
    """Accuracy of each method per difficulty bin (Fig 8 and 9), with 95 % intervals.

    Args:
        table: columns bin, method, accuracy, low, high, problems.
        ax: to draw on.
    """
    bins = _values(table, "bin")
    methods = methods_in(table["method"])
    width = 0.8 / len(methods)
    for number, method in enumerate(methods):
        part = table[table["method"] == method.name].set_index("bin").reindex(bins)
        error = np.clip([part["accuracy"] - part["low"], part["high"] - part["accuracy"]], 0, None)
        ax.bar(
            np.arange(len(bins)) + (number - (len(methods) - 1) / 2) * width,
            part["accuracy"],
            width,
            yerr=error,
            color=method.colour,
            label=method.label,
            error_kw={"elinewidth": 0.7},
        )
    counts = table.drop_duplicates("bin").set_index("bin")["problems"]
    ax.set_xticks(range(len(bins)), [f"{name}\n({int(counts[name])})" for name in bins])
    ax.set_ylim(0, 1)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.grid(axis="x", visible=False)
    return ax


def bins_per_policy(table: pd.DataFrame, title: str = "") -> Figure:
    """One panel of :func:`bars_by_bin` per policy."""
    policies = _values(table, "policy")
    figure, axes = plt.subplots(1, len(policies), figsize=(2.9 * len(policies) + 1.0, 2.4), sharey=True, squeeze=False)
    for ax, policy in zip(axes[0], policies):
        bars_by_bin(table[table["policy"] == policy], ax)
        ax.set_title(short(policy))
    _finish(figure, axes, "difficulty (problems)", "accuracy", title)
    return figure


STRATEGIES = {
    "CoT": ("0.5", ":", ""),
    "Pass@1": ("0.5", "-.", "x"),
    "majority": ("C0", "-", "o"),
    "the study's rule": ("C3", "-", "D"),
    "best fixed, cross-fitted": ("C4", "-", "^"),
    "optimal, predicted difficulty, cross-fitted": ("C5", "-", "s"),
    "optimal, oracle difficulty, cross-fitted": ("C1", "-", "v"),
    "optimal, oracle difficulty, in-sample": ("C1", "--", ""),
}


def strategies(rows: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy of each strategy over the budget N, one panel per policy (rows) and PRM (columns).

    Args:
        rows: of :func:`tts.strategy.choices.compare`.
        title: above the panels.
    """
    policies, prms = _values(rows, "policy"), _values(rows, "prm")
    size = (PANEL[0] * len(prms) + 2.2, PANEL[1] * len(policies))
    figure, axes = plt.subplots(len(policies), len(prms), figsize=size, squeeze=False, sharex=True, sharey="row")
    for (i, policy), (j, prm) in ((a, b) for a in enumerate(policies) for b in enumerate(prms)):
        ax, part = axes[i, j], rows[(rows["policy"] == policy) & (rows["prm"] == prm)]
        for name, (colour, line, marker) in STRATEGIES.items():
            of = part[part["strategy"] == name].sort_values("n")
            if of.empty:
                continue
            ax.plot(of["n"], of["accuracy"], color=colour, linestyle=line, marker=marker, label=name)
            if name == "optimal, oracle difficulty, cross-fitted":
                ax.fill_between(of["n"], of["low"], of["high"], color=colour, alpha=0.12, linewidth=0)
        ax.set_title(panel_title(policy, prm))
        over_budget(ax)
    _finish(figure, axes, "budget N (samples)", "accuracy", title)
    return figure


def accuracy_against_tokens(rows: pd.DataFrame) -> Figure:
    """Accuracy over policy tokens per problem, one panel per policy (rows) and PRM (columns).

    Args:
        rows: of :func:`tts.strategy.choices.at_equal_tokens`.
    """
    policies, prms = _values(rows, "policy"), _values(rows, "prm")
    size = (PANEL[0] * len(prms) + 1.6, PANEL[1] * len(policies))
    figure, axes = plt.subplots(len(policies), len(prms), figsize=size, squeeze=False, sharex=True, sharey="row")
    for (i, policy), (j, prm) in ((a, b) for a in enumerate(policies) for b in enumerate(prms)):
        ax, part = axes[i, j], rows[(rows["policy"] == policy) & (rows["prm"] == prm)]
        ax.set_title(panel_title(policy, prm))
        if part["tokens"].isna().all():
            ax.text(0.5, 0.5, "token counts are not known", ha="center", va="center", transform=ax.transAxes)
            continue
        looks = {m.name: (m.label, m.colour, m.marker) for m in METHODS.values()} | {"adaptive": ("Adaptive", "#000000", "*")}
        for method, (label, colour, marker) in looks.items():
            of = part[part["strategy"] == method].sort_values("tokens")
            if not of.empty:
                ax.plot(of["tokens"], of["accuracy"], color=colour, marker=marker, label=label)
            if method == "adaptive":
                ax.fill_between(of["tokens"], of["low"], of["high"], color=colour, alpha=0.08, linewidth=0)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _finish(figure, axes, "policy tokens per problem", "accuracy", "")
    return figure


def quality_against_accuracy(rows: pd.DataFrame, fit: tuple[float, float], ax: Axes) -> Axes:
    """TTS accuracy over the PRM's localisation F1, point size by the PRM's parameters, with a fit a ln x + b (Fig 6).

    Args:
        rows: columns prm, f1, accuracy, low, high, parameters.
        fit: a and b, where F1 and accuracy are in per cent.
        ax: to draw on.
    """
    error = np.clip([rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]], 0, None)
    ax.errorbar(rows["f1"], rows["accuracy"], error, linestyle="none", color="0.6", elinewidth=0.8, zorder=1)
    for row in rows.sort_values("f1").itertuples():
        ax.scatter(row.f1, row.accuracy, s=12 * np.log2(row.parameters / 8000), zorder=2, label=short(row.prm))
    x = np.linspace(rows["f1"].min(), rows["f1"].max(), 50)
    ax.plot(x, (fit[0] * np.log(100 * x) + fit[1]) / 100, color="0.4", linewidth=0.8, linestyle="--")
    ax.set_xlabel("F1 of error localisation")
    ax.set_ylabel("accuracy")
    legend_below(ax.figure, ax)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return ax


def lines_per_prm(rows: pd.DataFrame, x: str, y: str, ax: Axes) -> Axes:
    """One line per PRM with its 95 % band.

    Args:
        rows: columns prm, ``x``, ``y``, low, high.
        x, y: what is drawn over what.
        ax: to draw on.
    """
    for prm in _values(rows, "prm"):
        line = rows[rows["prm"] == prm]
        [drawn] = ax.plot(line[x], line[y], marker="o", markersize=3, label=short(prm))
        ax.fill_between(line[x], line["low"], line["high"], color=drawn.get_color(), alpha=0.1, linewidth=0)
    legend_below(ax.figure, ax)
    return ax


def growth_per_prm(rows: pd.DataFrame, ax: Axes) -> Axes:
    """:func:`lines_per_prm` of accuracy over the budget N."""
    over_budget(lines_per_prm(rows, "n", "accuracy", ax))
    return ax


def pathology_bars(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Share of each pathology, grouped by PRM, with 95 % intervals (Fig 12 to 18).

    Args:
        rows: columns prm, pathology, share, low, high.
        ax: to draw on.
    """
    prms, kinds = _values(rows, "prm"), _values(rows, "pathology")
    width = 0.8 / len(kinds)
    for number, kind in enumerate(kinds):
        part = rows[rows["pathology"] == kind].set_index("prm").reindex(prms)
        error = np.clip([part["share"] - part["low"], part["high"] - part["share"]], 0, None)
        place = np.arange(len(prms)) + (number - (len(kinds) - 1) / 2) * width
        ax.bar(place, part["share"], width, yerr=error, label=kind, error_kw={"elinewidth": 0.7})
    ax.set_xticks(range(len(prms)), [short(prm).replace(" ", "\n").replace("-", "\n", 1) for prm in prms])
    ax.set_ylabel("share of right (over-criticism)\nor wrong solutions", fontsize="small")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.grid(axis="x", visible=False)
    legend_below(ax.figure, ax)
    return ax


def gains_against_size(gains: pd.DataFrame, sizes: dict[str, int], accuracies: pd.DataFrame | None = None, title: str = "") -> Figure:
    """Panels of :func:`gain_against_size` for relative gain and error reduction.

    Args:
        gains: columns policy, and each gain with its interval.
        sizes: parameters of each policy.
        accuracies: rows that a third panel shows as :func:`policy_scaling` does.
        title: above the second panel.
    """
    panels = 2 if accuracies is None else 3
    figure, axes = plt.subplots(1, panels, figsize=(3.2 * panels, 2.4), sharex=panels == 2)
    for ax, column in zip(axes, ("relative gain", "error reduction")):
        gain_against_size(gains, sizes, column, ax)
    if accuracies is not None:
        policy_scaling(accuracies, sizes, axes[2])
    axes[1].set_title(title)
    figure.tight_layout()
    return figure


def gain_against_size(gains: pd.DataFrame, sizes: dict[str, int], column: str, ax: Axes) -> Axes:
    """A gain over the policy's size, with its 95 % interval; the scale of a relative gain is linear about zero, logarithmic beyond.

    Args:
        gains: columns policy, ``column``, and ``column`` with " low" and " high".
        sizes: parameters of each policy.
        column: which gain.
        ax: to draw on.
    """
    line = gains.assign(size=gains["policy"].map(sizes)).sort_values("size")
    error = np.clip([line[column] - line[f"{column} low"], line[f"{column} high"] - line[column]], 0, None)
    ax.errorbar(line["size"], line[column], error, color="black", marker="o", markersize=3, capsize=2, elinewidth=0.8)
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel(column)
    if column == "relative gain":
        ax.set_yscale("symlog", linthresh=0.1)
        ax.set_ylabel(f"{column} (symlog)")
        ax.set_ylim(bottom=min(-0.05, 1.2 * float(line[f"{column} low"].min())))
    ax.axhline(0, color="0.5", linewidth=0.8)
    ax.set_xlabel("policy parameters")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return ax


def flops_in_both_conventions(rows: pd.DataFrame) -> Figure:
    """Panels of :func:`accuracy_against_flops` for total FLOPs as the study counts them, and in full."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.8), sharey=True)
    for ax, counted in zip(axes, ("study", "full")):
        accuracy_against_flops(rows, f"total ({counted})", ax, legend=ax is axes[-1])
        ax.set_xlabel(f"total FLOPs ({counted})")
    return figure


def accuracy_against_flops(table: pd.DataFrame, column: str, ax: Axes, legend: bool = True) -> Axes:
    """Accuracy over FLOPs (log axis), one series per policy and strategy; the Pareto front is drawn through the best.

    Args:
        table: columns policy, strategy, accuracy, low, high, and ``column``.
        column: which FLOPs; rows where they are unknown (NaN) are left out.
        ax: to draw on.
        legend: draw it, to the right.
    """
    import seaborn as sns  # takes two seconds, and most notebooks do without

    table = table.dropna(subset=[column])
    if table.empty:
        ax.text(0.5, 0.5, "no model's training FLOPs are known", ha="center", va="center", transform=ax.transAxes)
        return ax
    labels = {method.name: method.label for method in METHODS.values()}
    table = table.assign(policy=table["policy"].map(short), strategy=table["strategy"].replace(labels, regex=True))
    sns.scatterplot(
        table, x=column, y="accuracy", hue="policy", palette="viridis_r", style="strategy", ax=ax, s=28, zorder=3, legend=legend and "auto"
    )
    if legend:
        legend_below(ax.figure, ax, 4)
        ax.get_legend().remove()
    for row in table[table["strategy"] == "CoT"].to_dict("records"):  # colours of neighbours are much alike
        ax.annotate(row["policy"], (row[column], row["accuracy"]), (-4, 3), textcoords="offset points", ha="right", fontsize=5.5)
    ordered = table.sort_values(column)
    front = ordered[ordered["accuracy"] > ordered["accuracy"].shift(fill_value=-1).cummax()]
    ax.plot(front[column], front["accuracy"], color="0.6", linewidth=0.8, drawstyle="steps-post", zorder=1)
    ax.set_xscale("log")
    ax.margins(x=0.1)  # for the labels
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return ax


def legend_below(figure: Figure, ax: Axes, columns: int = 0) -> None:
    """An axes' legend under the whole figure, where it takes none of a column's width; up to five entries of a wide one in a row."""
    handles = dict(zip(*reversed(ax.get_legend_handles_labels())))
    fitting = len(handles) if len(handles) <= 5 and figure.get_figwidth() > 5 else 3
    figure.legend(handles.values(), handles.keys(), loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=columns or fitting)


def _values(table: pd.DataFrame, column: str) -> list:
    return list(dict.fromkeys(table[column]))


def _finish(figure: Figure, axes: np.ndarray, x: str, y: str, title: str) -> None:
    legend_below(figure, axes[0, 0])
    for ax in axes[-1]:
        ax.set_xlabel(x)
    for ax in axes[:, 0]:
        ax.set_ylabel(y)
    if title:
        figure.suptitle(title)
