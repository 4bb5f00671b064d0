"""Figures of comparisons, with 95 % intervals: small policies with TTS and larger ones alone, methods at each verifier, verdicts."""

import math
import re
import textwrap
from collections.abc import Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from tts.analysis.stats import LEVEL
from tts.claims import wording
from tts.common.names import short
from tts.report.figure_files import drawing
from tts.report.figure_settings import COLUMN
from tts.report.plots import look_of, methods_in
from tts.report.style import CELL, GAP, bars, errors, in_words, legend_below, log_x, panels, percent, place_legend, points, say
from tts.search.registry import method_of

VERDICTS = {"supported": ("C0", "o"), "undecided": ("#7f7f7f", "s"), "contradicted": ("C1", "v")}
VERDICT_FIELDS = {"supported": "#a9cfe8", "contradicted": "#f3bd8b", "undecided": "#e9e6d8", "not tested": "#f6f6f6"}
LIGHTNESS = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
LABELS, LETTERS = 172, 52  # points that the ledger's statements take, and the letters of a line of theirs
WIDE = 13  # letters of an interval in a cell
STATEMENT_SIZE, NAME_SIZE = 6, 4.5  # font sizes of statements and of the claims' identifiers; as points() takes them, like LABELS
PARTS = {
    "policy_training": ("policy training", "C0"),
    "prm_training": ("PRM training", "C1"),
    "prefill": ("policy prefill", "C5"),
    "decode": ("policy decode", "C2"),
    "prm_inference": ("PRM reading", "C4"),
    "attention": ("attention, both", "C3"),
}


@drawing
def accuracy_bars(rows: pd.DataFrame, ax: Axes) -> None:
    """Accuracy of each policy with CoT and with TTS (Fig 1). ``rows``: columns policy, strategy (CoT or TTS), accuracy, low, high."""
    bars(rows, "policy", "strategy", {"CoT": ("CoT", "#7f7f7f"), "TTS": ("TTS", "C1")}, ax)
    ax.set(xlabel="policy (parameters)", ylabel="accuracy")
    legend_below(ax.figure, ax)


@drawing
def difference_map(rows: pd.DataFrame, ax: Axes) -> None:
    """Small with TTS minus large with CoT in points; undecided cells are hatched. ``rows``: of :func:`tts.claims.comparisons.pairs`."""
    if rows.empty:
        return say("no policy is larger than another", ax)
    smalls, larges = (list(rows[size].unique()) for size in ("small", "large"))
    differences = rows.pivot(index="small", columns="large", values="difference").loc[smalls, larges] * 100
    limit = max(differences.abs().max(axis=None), 1.0)
    image = ax.imshow(differences, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
    for row in rows.itertuples():
        x, y, difference = larges.index(row.large), smalls.index(row.small), 100 * row.difference
        colour = "white" if np.dot(image.to_rgba(difference)[:3], LIGHTNESS) < 0.6 else "black"
        weight = "bold" if row.verdict == "supported" else "normal"
        text = f"{difference:+.1f}\n[{100 * row.low:+.0f}, {100 * row.high:+.0f}]".replace("-", "\N{MINUS SIGN}")
        if row.verdict == "undecided":
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="////", edgecolor="0.75", linewidth=0))
        behind = {"facecolor": image.to_rgba(difference), "linewidth": 0, "pad": 1.5}  # no hatch through the numbers
        ax.text(x, y, text, ha="center", va="center", fontsize=points(6), color=colour, weight=weight, bbox=behind, label=CELL)
    _name_cells([short(name) for name in larges], [short(name) for name in smalls], ax)
    ax.set(xlabel="larger policy (parameters), CoT", ylabel="smaller policy (parameters), TTS")
    ax.figure.colorbar(image, ax=ax, label="difference (points)", fraction=0.04, pad=0.02)
    key = {"undecided": Patch(facecolor="white", hatch="////", edgecolor="0.75", linewidth=0), "bold: the smaller is ahead": Patch(alpha=0)}
    place_legend(ax.figure, key, 2)


def forest(rows: pd.DataFrame, ax: Axes, scale: float = 100, margin: float = 0, size: float = 4) -> None:
    """Differences, one a line, and a line at the margin. ``rows``: label, difference, low, high and verdict; no mark where not tested."""
    placed = rows.assign(place=range(len(rows)))
    ax.axvline(scale * margin, color="0.3", linewidth=0.8, zorder=2.1)
    for name, (colour, marker) in VERDICTS.items():
        of = placed[placed["verdict"] == name]
        ax.plot(scale * of[["low", "high"]].T, [of["place"]] * 2, color=colour, linewidth=1.0)
        ax.plot(scale * of["difference"], of["place"], color=colour, marker=marker, markersize=size, linestyle="none")
        if len(of):
            ax.plot([], [], color=colour, marker=marker, linewidth=1.0, label=name)
    ax.set_yticks(range(len(rows)), rows["label"])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


@drawing
def cost_shares(rows: pd.DataFrame, parts: Sequence[str], ax: Axes) -> None:
    """The share of the FLOPs that each of ``parts``, columns named as a cost's fields, takes, by policy; a word where it is unknown."""
    labels, colours = zip(*(PARTS[part] for part in parts))
    flops = rows[list(parts)].astype(float).set_axis(rows["policy"].map(short)).set_axis(labels, axis=1)
    shares = flops.div(flops.sum(1, skipna=False), axis=0)
    shares.plot.barh(stacked=True, width=0.7, color=colours, ax=ax, legend=False)
    for at in np.flatnonzero(shares.isna().any(axis=1)):
        ax.text(0.5, at, "unknown", ha="center", va="center", fontsize="small")
    ax.set(ylim=(len(shares) - 0.5, -0.5), xlim=(0, 1), xlabel="share of the FLOPs of answering", ylabel="policy (parameters)")
    percent(ax.xaxis)
    ax.grid(axis="y", visible=False)
    legend_below(ax.figure, ax)


@drawing
def total_against_queries(rows: pd.DataFrame, ax: Axes) -> None:
    """Total FLOPs over the number of queries (both axes log), one line per way of answering. ``rows``: columns way, queries, total."""
    for number, (name, line) in enumerate(rows.groupby("way", sort=False)):
        label = ", ".join(map(in_words, str(name).split(", ")))
        ax.plot(line["queries"], line["total"], label=label, linestyle=("-", "--", ":", "-.")[number % 4])
    ax.set(xscale="log", yscale="log", xlabel="queries answered", ylabel="total FLOPs")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set(major_locator=LogLocator(numticks=6), minor_locator=NullLocator())
    legend_below(ax.figure, ax, 2)


@drawing
def verifier_forest(rows: pd.DataFrame, ax: Axes) -> None:
    """:func:`forest` of policy + PRM minus the PRM's base model. ``rows``: of :func:`tts.claims.comparisons.verifier_as_solver`."""
    labels = [f"{short(row.policy)} + {short(row.prm)}, against {short(row.solver)}" for row in rows.itertuples()]
    forest(rows.assign(label=labels), ax)
    ax.set(xlabel="accuracy less that of the PRM's base model alone (points)", ylabel="policy + PRM")
    legend_below(ax.figure, ax)


@drawing
def claims_forest(rows: pd.DataFrame) -> Figure:
    """:func:`forest` of the published comparisons, one panel per problem set. ``rows``: of :func:`tts.claims.published.claims`."""
    rows = rows.assign(twice=rows.duplicated(["problems", "claim"], keep=False))
    labels = [row.claim + f" ({row.source})" * row.twice + " \N{DAGGER}" * (row.made_by == "nobody") for row in rows.itertuples()]
    figure, [axes] = plt.subplots(1, rows["problems"].nunique(), figsize=(7.2, 2.6), squeeze=False)
    for ax, (name, part) in zip(axes, rows.assign(label=labels).groupby("problems", sort=False)):
        forest(part, ax)
        ax.set(title=name, xlabel="TTS minus CoT (points)")
    ax.plot([], [], " ", label="\N{DAGGER} no claim of the study's")
    legend_below(figure, axes, 4)
    return figure


@drawing
def differences_by_set(rows: pd.DataFrame) -> Figure:
    """:func:`forest` of external rows less long-CoT ones, one panel per problem set. ``rows``: of :func:`tts.claims.published.table6`."""
    rows = rows.assign(label=rows["external"].str.split(" + ", regex=False).str[-1] + " \N{MINUS SIGN} " + rows["internal"])
    parts = rows.sort_values(["external", "internal"]).groupby("problems", sort=False)
    return panels(parts, forest, ("external minus long CoT (points)", ""), 2.8)


@drawing
def internal_and_external(rows: pd.DataFrame) -> Figure:
    """Accuracy over policy tokens, one panel per size, long-CoT policies open. ``rows``: of :func:`tts.analysis.long_cot.ways`."""

    def draw(part: pd.DataFrame, ax: Axes) -> None:
        for (policy, method), of in part.groupby(["policy", "method"], sort=False):
            known = method_of(method)
            line, face, kind = ("-", known.colour, "plain") if policy == part["size"].iloc[0] else ("--", "white", "long")
            look = look_of(known) | {"label": f"{kind}: {known.label}", "linestyle": line, "markerfacecolor": face}
            ax.errorbar(of["tokens"], of["accuracy"], errors(of, ax), **look, elinewidth=0.6)
        log_x(ax)
        percent(ax.yaxis)

    return panels(rows.groupby("size", sort=False), draw, ("policy tokens per problem", "accuracy"), 2.6, legend=4)


@drawing
def verifier_map(table: pd.DataFrame, places: dict[str, tuple[float, float]]) -> Figure:
    """The method that wins at each pair of error rates, one panel per policy, the real PRMs as points.

    A field holds the winner's accuracy in per cent; it is pale where its lead over the second is not decided. A PRM whose rates lie beyond
    the map stands at its end, as a triangle that points on. ``table``: of :func:`tts.strategy.verifier_map.winners`; ``places``: PRM -> its
    false-positive and false-negative rate.
    """
    xs, ys = (sorted(set(table[name])) for name in ("false positive", "false negative"))
    spots = [(np.interp(x, xs, range(len(xs))), np.interp(y, ys, range(len(ys)))) for x, y in places.values()]
    white: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "markeredgewidth": 0.6}
    looks = [white | {"marker": ">" if x > xs[-1] else "^" if y > ys[-1] else "o"} for x, y in places.values()]

    def draw(rows: pd.DataFrame, ax: Axes) -> None:
        for row in rows.to_dict("records"):
            i, j = xs.index(row["false positive"]), ys.index(row["false negative"])
            colour, alpha = method_of(row["best"]).colour, 0.75 if row["decided"] else 0.25
            ax.add_patch(Rectangle((i - 0.5, j - 0.5), 1, 1, color=colour, alpha=alpha, linewidth=0))
            ax.text(i - 0.46, j + 0.47, f"{100 * row[row['best']]:.0f}", ha="left", va="top", fontsize=points(6))
        for number, (spot, look) in enumerate(zip(spots, looks), 1):
            ax.plot(*spot, markersize=points(8.5), **look)
            ax.text(spot[0] - 0.03 * (look["marker"] == ">"), spot[1], str(number), ha="center", va="center_baseline", fontsize=points(5.5))
        _name_cells([f"{100 * x:g}%" for x in xs], [f"{100 * y:g}%" for y in ys], ax)
        ax.invert_yaxis()

    labels = ("wrong steps accepted", "right steps rejected")
    figure = panels(table.groupby("policy", sort=False), draw, labels, 2.7, legend=None)
    legend: dict[str, Any] = {f"{method.label} wins": Patch(color=method.colour, alpha=0.75) for method in methods_in(table["best"])}
    legend["pale: its lead is undecided"] = Patch(color="0.4", alpha=0.25)
    for number, ((prm, (x, y)), look) in enumerate(zip(places.items(), looks), 1):
        legend[f"{number}: {short(prm)} ({100 * x:.0f}, {100 * y:.0f} %)"] = Line2D([], [], linestyle="none", markersize=6, **look)
    place_legend(figure, legend, 4)
    return figure


def _name_cells(columns: list[str], rows: list[str], ax: Axes) -> None:
    """Shows a table of unit cells with the names of its columns and of its rows, the first row on top."""
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    ax.grid(visible=False)


@drawing
def ledger(table: pd.DataFrame) -> Figure:
    """The verdict on each claim in each scope, with its contrast. ``table``: of :func:`tts.claims.findings.judge`."""
    scopes = list(table[table["verdict"] != "not tested"]["scope"].unique())
    labels = {}  # the lines of each claim's statement, the last with room for the claim's identifier; empty if only that fits
    for name, statement in table.groupby("claim", sort=False)["statement"].first().items():
        room = "_" * math.ceil(len(name) * NAME_SIZE / STATEMENT_SIZE)
        labels[name] = [line.replace(room, "") for line in textwrap.wrap(f"{statement} {room}", LETTERS)]
    claims = list(labels)
    height = points(0.1) * max([2, *map(len, labels.values())]) + 0.04  # inches of a row
    figure, ax = plt.subplots(figsize=(2 * COLUMN + GAP, height * len(claims) + 0.8))
    for row in table[table["scope"].isin(scopes)].to_dict("records"):
        x, y = scopes.index(row["scope"]), claims.index(row["claim"])
        ax.add_patch(Rectangle((x - 0.49, y - 0.47), 0.98, 0.94, color=VERDICT_FIELDS[row["verdict"]], linewidth=0))
        contrast, _, interval = wording.formatted(row).replace("-", "−").replace(" %,", ",").replace(" times", "×").partition(" [")
        contrast += f" ({row['above']:.0f}/{row['rules']:.0f})" if row.get("rules", 0) > 0 else ""
        apart = (row["low"] > row.get("margin", 0)) | (row["high"] < row.get("margin", 0)) and row["verdict"] == "undecided"
        if len(interval) + bool(apart) > WIDE:  # as a slope over three PRMs has; a cell has no room for its decimals
            interval = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.0f}", interval)
        ax.text(x, y, contrast, ha="center", va="bottom" if interval else "center", fontsize=points(STATEMENT_SIZE), label=CELL)
        ax.text(x, y + 0.05, f"[{interval}{'*' * bool(apart)}" if interval else "", ha="center", va="top", fontsize=points(5), label=CELL)
    _name_cells([textwrap.fill(scope, 11) for scope in scopes], [""] * len(claims), ax)
    for y, (name, lines) in enumerate(labels.items()):
        _label_row(y, lines, name, ax)
    ax.xaxis.tick_top()
    ax.set_xlabel(
        "contrast (rules for the claim) [95 % interval], in points where no unit stands\n"
        "* decided by this interval alone, but not among so many claims (Holm)"
    )
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    held = set(table[table["scope"].isin(scopes)]["verdict"])
    place_legend(figure, {name: Patch(color=colour) for name, colour in VERDICT_FIELDS.items() if name in held}, 4)
    return figure


def _label_row(y: int, lines: list[str], name: str, ax: Axes) -> None:
    """Writes a claim's statement left of row ``y``, and its identifier in small grey after the last word."""
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    for number, line in enumerate(lines):
        place |= {"xy": (0, y), "xytext": (-points(LABELS), points(1.15 * STATEMENT_SIZE) * ((len(lines) - 1) / 2 - number))}
        text = ax.annotate(line, fontsize=points(STATEMENT_SIZE), **place)
    if lines[-1]:
        place = {"xy": (1, 0), "xytext": (3, 0.3), "xycoords": text, "textcoords": "offset points", "va": "bottom"}
    ax.annotate(name, fontsize=points(NAME_SIZE), color="0.55", **place)


@drawing
def contrast_by_rule(rows: pd.DataFrame) -> Figure:
    """:func:`forest` of each claim's contrast under each selection rule, one panel a claim; ``rows``: one scope's of ``by_rule``."""
    rules = rows["rule"].unique()
    by_interval = np.select([rows["low"] > rows["margin"], rows["high"] < rows["margin"]], ["supported", "contradicted"], "undecided")
    rows = rows.assign(verdict=by_interval)

    def draw(part: pd.DataFrame, ax: Axes) -> None:
        scale, margin = 1 if part["unit"].iloc[0] == "ratio" else 100, part["margin"].iloc[0]
        placed = part.assign(difference=part["estimate"]).set_index("rule").reindex(rules).reset_index(names="label")
        forest(placed, ax, scale, margin, 3.5)
        for own in placed[placed["label"] == wording.OWN_BEST].itertuples():
            ax.plot(scale * own.difference, own.Index, color=VERDICTS[own.verdict][0], marker="D", markersize=5)
        ax.axhline(0.5, color="0.8", linewidth=0.6)

    parts = list(rows.groupby("statement", sort=False))
    if not parts:
        return _without("no contrast between methods is known under several rules")
    figure = panels(parts, draw, ("", ""), 1.75 if len(parts) <= 9 else 1.6, legend=None)  # all claims fit on a page
    for ax, (_, part) in zip(figure.axes, parts):
        ax.title.set_fontsize(points(6.5))
        ax.tick_params(labelsize=points(5.5))
        unit = {"points": "points", "share": "%", "ratio": "times"}[part["unit"].iloc[0]]
        ax.set_xlabel(unit, loc="right", labelpad=1, fontsize=points(6))
    held = {f"{name} by the interval": look for name, look in VERDICTS.items() if name in by_interval}
    looks = {name: Line2D([], [], color=colour, marker=marker) for name, (colour, marker) in held.items()}
    looks["each method's own best rule"] = Line2D([], [], color="0.3", marker="D", linestyle="none")
    place_legend(figure, looks, 4)
    return figure


@drawing
def size_curve(rows: pd.DataFrame) -> Figure:
    """How far a policy with TTS is ahead of one so many times larger that answers alone; ``rows``: of :func:`.comparisons.pairs_of`.

    One panel per scope, one mark per pair of policies, hollow where one outcome is certain before (:func:`.comparisons.size_pairs`).
    The title names the largest ratio of a pair that is decidedly ahead (Holm; none whose larger policy a smaller one equals alone), and
    of one with an open outcome that is not decidedly behind.
    """

    def draw(part: pd.DataFrame, ax: Axes) -> None:
        ax.axhline(0, color="0.3", linewidth=0.8, zorder=2.1)
        for number, (_, of) in enumerate(part.groupby("problems", sort=False)):
            name = f"problem set {number + 1}" if number else "main problem set"  # of each scope
            at, spread = of["times"], 100 * np.abs(of[["low", "high"]].sub(of["difference"], axis=0)).T
            look: dict[str, Any] = {"color": f"C{number}", "marker": "os^v"[number % 4], "linestyle": "none"}
            ax.errorbar(at, 100 * of["difference"], spread, color=f"C{number}", linestyle="none", elinewidth=0.7, alpha=0.6)
            for some, face, outcome in ((of[of["open"]], f"C{number}", "outcome open"), (of[~of["open"]], "white", "certain")):
                ax.plot(some["times"], 100 * some["difference"], **look, markerfacecolor=face, label=f"{name}: {outcome} before")
        log_x(ax)

    parts = []
    for scope, part in rows.groupby("scope", sort=False):
        ahead = part.loc[(part["p"] < 1 - LEVEL) & (part["difference"] > 0), "times"].max()
        level = part.loc[part["open"] & (part["high"] >= 0), "times"].max()
        parts.append((f"{scope}: ahead up to {ahead:.3g}×, not behind up to {level:.3g}×".replace("up to nan×", "nowhere"), part))
    if not parts:
        return _without("no two policies of different sizes ran with a PRM")
    return panels(parts, draw, ("times the size", "TTS minus CoT (points)"), 2.6, legend=2)


@drawing
def reach(rows: pd.DataFrame) -> Figure:
    """The largest decided ratio of sizes with each verifier, over how well it tells, and over its gap; ``rows``: of :func:`.by_verifier`.

    A hollow mark stands on the line where no larger policy is decidedly passed; a dotted line is a ratio without a verifier, or with one
    that is not known.
    """
    figure, axes = plt.subplots(1, 2, figsize=(2 * COLUMN + GAP, 2.6), sharey=True)
    looks: dict[str, Line2D] = {}
    named: list[tuple[float, float]] = []  # marks that have a name
    for number, (domain, of) in enumerate(rows.groupby("domain", sort=False)):
        look: dict[str, Any] = {"color": f"C{number}", "marker": "os^vDP"[number % 6], "linestyle": "none", "markersize": 5}
        marked = of["AUC"].notna().any()
        looks[domain] = Line2D([], [], **look) if marked else Line2D([], [], color=f"C{number}", linestyle=":")
        for (ax, x), (passed, face) in product(zip(axes, ("AUC", "gap")), ((False, "white"), (True, f"C{number}"))):
            some = of[of["times"].notna() == passed]
            ax.plot(some[x], some["times"].fillna(1), **look, markerfacecolor=face)
        for ax in axes:
            for times in of.loc[of["AUC"].isna(), "times"].dropna():
                ax.axhline(times, color=f"C{number}", linestyle=":", linewidth=1.2)
        for row in of.dropna(subset=["AUC", "times"]).nlargest(1, "times").to_dict("records"):
            small, large = (short(row[size]).rpartition("-")[2] for size in ("small", "large"))
            told, at = f"{small} over {large}", (row["AUC"], row["times"])
            near = sum(abs(at[0] - x) < 0.2 and 0.7 < at[1] / y < 1.4 for x, y in named)  # whose names stand above and below it, in turn
            place: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "fontsize": points(6), "color": f"C{number}"}
            axes[0].annotate(told, at, (0, (5, -10, 13, -18)[near % 4]), **place)
            named.append(at)
    for ax, label in zip(axes, ("AUC of right against wrong solutions", "gap: AUC over the base policy's accuracy")):
        ax.axhline(1, color="0.3", linewidth=0.8, zorder=1)
        ax.set(xlabel=label, yscale="log")
        ax.yaxis.set_major_formatter(lambda value, _: "none" if value == 1 else f"{value:g}×")
    axes[1].set_xscale("log")
    axes[1].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes[1].xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
    axes[0].set_ylabel("largest decided ratio of sizes")
    axes[0].margins(y=0.12)
    looks["hollow: no larger policy is decidedly passed"] = Line2D(
        [], [], color="0.3", marker="o", markerfacecolor="white", linestyle="none"
    )
    looks["dotted: majority voting, or a verifier that is not known"] = Line2D([], [], color="0.3", linestyle=":")
    place_legend(figure, looks, 3)
    return figure


def _without(reason: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, ax = plt.subplots(figsize=(COLUMN, 1.0))
    say(textwrap.fill(reason, 40), ax)
    ax.set_axis_off()
    return figure
