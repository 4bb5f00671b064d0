"""Real models beside the pocket family: what the notebook ``11_real_models`` shows, as rows and figures. Intervals are 95 % ones."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tts.analysis import stats
from tts.analysis.evidence import Evidence
from tts.claims import released, wording
from tts.common.names import short
from tts.report.comparison_plots import forest
from tts.report.figure_files import drawing
from tts.report.plots import methods_in
from tts.report.style import bars, errors, legend_below, lines_over_budget, over_budget, panels
from tts.search.registry import prm_of

ROLES = ("small", "small with verifier", "large", "large with verifier")
PAIRS = {f"{ROLES[first]} − {ROLES[second]}": (ROLES[first], ROLES[second]) for first, second in ((1, 2), (1, 0), (3, 2), (2, 0))}
CURVES: dict[str, dict[str, Any]] = {
    "Pass@N": {"color": "#000000", "linestyle": "--"},
    "Majority": {"color": "C0", "marker": "o"},
    "Pass@N, GSM8K": {"color": "#7f7f7f", "linestyle": "--"},
    "Majority, GSM8K": {"color": "C1", "marker": "s"},
}


def verdicts(ledger: pd.DataFrame, pocket: str = "pocket") -> pd.DataFrame:
    """The claims that both the released models and another scope can test: disagreements first, what is undecided last."""
    of = ledger.pivot(index="claim", columns="scope", values="verdict").loc[ledger["claim"].unique(), ["released", pocket]]
    of = of[(of != "not tested").all(axis=1)]
    together = np.select([(of == "undecided").any(axis=1), of["released"] == of[pocket]], ["undecided", "agree"], "disagree")
    table = wording.wide(ledger).query("claim in @of.index").assign(together=together)[["released", pocket, "together", "claim"]]
    return table.sort_values("together", key=lambda column: column.map(["disagree", "agree", "undecided"].index), kind="stable")


def pass_at_1(problem_sets: Sequence[str]) -> dict[str, np.ndarray]:
    """Pass@1 of each problem of the released models, known to a tenth, whose middle stands for it; by model and problem set."""
    rows = released.table("pass_at_1")
    rows = rows[rows["problem_set"].isin(problem_sets)].assign(middle=lambda table: (table["low"] + table["high"]) / 2)
    return {
        f"{model.removesuffix('-Instruct')}, {name}": np.repeat(part["middle"].to_numpy(), part["problems"])
        for (model, name), part in rows.groupby(["model", "problem_set"], sort=False)
    }


def curves(pocket: pd.DataFrame) -> pd.DataFrame:
    """Pass@N and majority of the released models, and those of a table of results; rows of one model (column ``panel``) together."""
    rows = released.table("curves").rename(columns={"series": "method"})
    # Of the 1B policy majority is known at N = 256 only.
    rate = released.rate("best_of_n", "majority", 256)
    bounds = {"accuracy": rate.mean, "low": rate.mean - 1.96 * rate.error, "high": rate.mean + 1.96 * rate.error}
    rows = pd.concat([rows, pd.DataFrame([rows.iloc[0].to_dict() | {"method": "majority", "n": 256} | bounds])])
    sets = rows.groupby("model")["problem_set"].transform(lambda names: " and ".join(names.unique()))
    rows = rows.assign(panel=rows["model"].str.removesuffix("-Instruct") + ", " + sets)
    ours = pocket[pocket["method"].isin(["pass", "majority"])]
    rows = rows.rename(columns={"problem_set": "problems", "problems": "count"})
    rows = pd.concat([rows, ours.assign(panel="pocket " + ours["policy"].map(short))])
    series = rows["method"].map({"pass": "Pass@N", "majority": "Majority"}) + np.where(rows["problems"] == "GSM8K", ", GSM8K", "")
    return rows.assign(series=series)[["panel", "problems", "count", "series", "n", "accuracy", "low", "high"]]


@drawing
def curve_panels(rows: pd.DataFrame) -> Figure:
    """Accuracy over the number of samples, one panel per model. ``rows``: of :func:`curves`."""
    parts, labels = rows.groupby("panel", sort=False), ("samples N", "accuracy")
    return panels(parts, lambda part, ax: lines_over_budget(part, "series", CURVES, ax), labels, 2.0, 3)


def methods(pocket: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Accuracy of each method, budget and seed of the 1B policy, by PRM-Vote and by PRM-Max, and of tables of results by their titles."""
    rows = released.table("methods").rename(columns={"problem_set": "problems", "problems": "count"})
    pool = rows[rows["method"] == "best_of_n"].assign(method="majority")
    parts = []
    for vote in ("prm_vote", "prm_max"):
        both = pd.concat([pool.assign(accuracy=pool["majority"]), rows.assign(accuracy=rows[vote])])
        parts.append(both.assign(panel=f"Llama-3.2-1B, {released.VOTES[vote]}", accuracy=both["accuracy"] / 100))
    parts += [table[~table["method"].isin(["cot", "pass"])].assign(panel=title) for title, table in pocket.items()]
    return pd.concat(parts)[["panel", "problems", "count", "method", "n", "seed", "accuracy", "low", "high"]]


@drawing
def method_panels(rows: pd.DataFrame) -> Figure:
    """Accuracy by :func:`methods` over the budget N, side by side: seeds as points and their mean, or intervals over problems."""

    def draw(part: pd.DataFrame, ax: Axes) -> None:
        over_budget(ax)
        for place, method in enumerate(methods_in(part["method"])):
            of = part[part["method"] == method.name]
            means = of.groupby("n")["accuracy"].mean()
            beside = 2 ** (0.12 * (place - 1.5))
            ax.plot(means.index * beside, means, color=method.colour, marker=method.marker, label=method.label)
            if of["low"].isna().all():
                ax.plot(of["n"] * beside, of["accuracy"], ".", color=method.colour, alpha=0.5)
            else:
                ax.errorbar(of["n"] * beside, of["accuracy"], errors(of, ax), color=method.colour, linestyle="none", elinewidth=0.8)
        ax.set_xticks(sorted(set(part["n"])))
        if part["low"].isna().all():
            ax.plot([], [], ".", color="#7f7f7f", label="one seed")

    return panels(rows.groupby("panel", sort=False), draw, ("budget N (samples)", "accuracy"), 2.0, 2)


def of_pocket(evidence: Evidence, problem_set: str, prm: str, n: int, small: str, large: str) -> pd.DataFrame:
    """Accuracy on each problem of two policies alone (greedy) and with best-of-N, in the columns :data:`ROLES`."""
    ways = [(policy, method) for policy in (small, large) for method in ("cot", "best_of_n")]
    columns = [evidence.accuracy(problem_set, policy, prm_of(m, prm), m, 1 if m == "cot" else n) for policy, m in ways]
    return pd.DataFrame(dict(zip(ROLES, columns)))


def gsm8k() -> pd.DataFrame:
    """Whether 6B and 175B, alone and with a verifier, were right on each problem, in the columns :data:`ROLES`."""
    rows = released.table("gsm8k")
    return released.outcomes(rows, rows.columns[:4]).set_axis(ROLES, axis=1)


def coder() -> dict[str, pd.DataFrame]:
    """Whether the smaller and the larger coder were right on each task, by problem set; + stands for base and plus tests."""
    names, found = {"humaneval": "HumanEval", "mbpp": "MBPP"}, {}
    for (name, tests), part in released.table("coder").groupby(["problem_set", "tests"]):
        both = released.outcomes(part, ["1.5B", "7B"]).set_axis(["small", "large"], axis=1)
        found[f"{names[name]}{'+' * (tests == 'plus')}, 1.5B and 7B"] = both
    return found


def accuracies(outcomes: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Accuracy of each system on each problem set: columns problems, count (how many), system, accuracy, low, high."""
    return pd.DataFrame(
        {"problems": name, "count": len(right), "system": system} | stats.of_accuracy(right).columns()
        for name, table in outcomes.items()
        for system, right in table.items()
    )


def differences(outcomes: Mapping[str, pd.DataFrame], pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Differences of systems, paired by problem: columns problems, count, pair, difference, low, high, verdict (uncorrected)."""
    rows = []
    for (name, table), (pair, (first, second)) in product(outcomes.items(), pairs.items()):
        found = stats.of_difference(table[first] - table[second])
        held = {"problems": name, "count": len(table), "pair": pair}
        rows.append(held | found.columns("difference") | {"verdict": stats.verdict(found)})
    return pd.DataFrame(rows)


@drawing
def bars_and_differences(rows: pd.DataFrame, by: str = "problems") -> Figure:
    """Bars of the rows of :func:`accuracies`; below, those of :func:`differences` in one panel per value of ``by``: problems or pair."""
    accuracies, differences = rows[rows["accuracy"].notna()], rows[rows["difference"].notna()]
    groups, named = differences[by].unique(), {"problems": "pair", "pair": "problems"}[by]
    figure, axes = plt.subplot_mosaic([["bars"] * len(groups), groups], figsize=(7.2, 4.2))
    looks = {name: (name, colour) for name, colour in zip(accuracies["system"].unique(), ("C5", "C0", "C4", "C1"))}
    bars(accuracies, "problems", "system", looks, axes["bars"], named=lambda name: name.replace(", ", "\n"))
    axes["bars"].set_ylabel("accuracy")
    for group in groups:
        part = differences[differences[by] == group]
        labels = part[named].str.replace(" − ", "\n− ") if group == groups[0] else ""
        forest(part.assign(label=labels), axes[group])
        axes[group].set(title=group, xlabel="difference (points)")
    legend_below(figure, np.array(list(axes.values())), 4)
    return figure
