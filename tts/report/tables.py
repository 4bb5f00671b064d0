"""The tables that notebooks show, from results; each is also what the figure beside it plots."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from tts.analysis import costs, pathologies, stats
from tts.analysis.evidence import Evidence
from tts.analysis.pathologies import Judged
from tts.claims.comparisons import contrast
from tts.common.names import short
from tts.generate.labelled import Labelled
from tts.search.registry import compared, is_search, method_of
from tts.strategy import choices, compute_optimal
from tts.tasks.selection import SCORED, Rule

NOT_HELD = "not in the data at one budget"


def at_budget(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """Accuracy at one budget, methods as columns, in per cent with the interval; CoT is greedy, without budget.

    Of imported data a method stands there with its largest smaller N, and Pass@1 instead of greedy solutions, where they lack them.
    """
    below = table[table["n"] <= n]
    rows = below.loc[below.groupby(["problems", "policy", "prm", "method"], sort=False)["n"].idxmax()]
    alone = below[(below["method"] == "pass") & (below["n"] == 1)].assign(method="Pass@1")
    greedy = set(rows[rows["method"] == "cot"]["policy"])
    rows = pd.concat([rows, alone[~alone["policy"].isin(greedy)]])
    rows["text"] = [
        f"{100 * row.accuracy:.1f} [{100 * row.low:.0f}, {100 * row.high:.0f}]"
        + ("" if row.n == n or row.method in ("cot", "Pass@1") else f" (N = {row.n})")
        for row in rows.itertuples()
    ]
    parts = [rows[rows["prm"].isin([prm, ""])].assign(prm=prm) for prm in rows["prm"].unique() if prm] or [rows]
    wide = pd.concat(parts).pivot(index=["problems", "policy", "prm"], columns="method", values="text")
    return wide[[m for m in ("cot", "Pass@1", *compared(), "pass") if m in wide]]


def over_rules(evidence: Evidence, problem_set: str) -> pd.DataFrame:
    """A problem set's rows of :attr:`Evidence.table`, with the columns lowest and highest: accuracy over the rules that are known.

    Both are NaN without a PRM or where one rule is known; there are no such columns where both are NaN in all rows.
    """
    rows, ends = evidence.table[evidence.table["problems"] == problem_set], []
    for row in rows.itertuples():
        asked = (problem_set, row.policy, row.prm, row.method, row.n)
        rules = evidence.rules(*asked) if row.prm and method_of(row.method).select == "rule" else []
        means = [evidence.accuracy(*asked, rule).mean() for rule in rules if rule in SCORED]
        ends.append((min(means), max(means)) if len(means) > 1 else (np.nan, np.nan))
    spread = pd.DataFrame(ends, rows.index, ["lowest", "highest"])
    return rows if spread.isna().all(axis=None) else rows.join(spread)


def method_contrasts(evidence: Evidence, n: int) -> pd.DataFrame:
    """Search against best-of-N, and everything guided by a PRM against majority voting, paired by problem.

    Of imported data, which may not hold both at ``n``, at the largest smaller budget of the grid at which they do.
    """
    guided = [m for m in evidence.grid.methods if method_of(m).guided]
    pairs = [(m, "best_of_n") for m in guided if is_search(m) and "best_of_n" in guided]
    pairs += [(m, "majority") for m in guided]
    grid, rows = evidence.grid, []
    for problem_set, policy, prm, pair in product(grid.problems, grid.policies, grid.prms, pairs):
        at = max((k for k in grid.budgets if k <= n and all(grid.holds(policy, prm, m, k) for m in pair)), default=0)
        row = {"problems": problem_set, "policy": policy, "prm": prm, "claim": " > ".join(pair) + f" (N = {at})" * (0 < at < n)}
        found = contrast(*(evidence.accuracy(problem_set, policy, prm, m, at) for m in pair)) if at else {"verdict": NOT_HELD}
        rows.append(row | found)
    return pd.DataFrame(rows, columns=["problems", "policy", "prm", "claim", "difference (points)", "verdict"])


def bin_contrasts(evidence: Evidence, problem_set: str, prm: str, n: int, bins: dict[str, np.ndarray]) -> pd.DataFrame:
    """Search against best-of-N within each difficulty bin of each policy, paired by problem."""
    rows = []
    for (policy, of_problem), name in product(bins.items(), choices.BINS):
        inside = of_problem == name
        held = [m for m in evidence.grid.methods if evidence.grid.holds(policy, prm, m, n)]
        for method in (m for m in held if is_search(m) and "best_of_n" in held):
            a, b = (evidence.accuracy(problem_set, policy, prm, m, n)[inside] for m in (method, "best_of_n"))
            row = {"policy": policy, "bin": name, "problems": len(a), "verdict": "too few problems"}
            rows.append(row if len(a) < stats.FEWEST_PROBLEMS else row | {"claim": f"{method} > best_of_n"} | contrast(a, b))
    return pd.DataFrame(rows, columns=["policy", "bin", "problems", "claim", "difference (points)", "verdict"])


def by_bin(evidence: Evidence, problem_set: str, prm: str, n: int, bins: dict[str, np.ndarray]) -> pd.DataFrame:
    """Accuracy of each of the grid's methods, where imported data have it, in each difficulty bin with problems, with intervals."""
    rows = []
    for (policy, of_problem), name, method in product(bins.items(), choices.BINS, evidence.grid.methods):
        if name in of_problem and evidence.grid.holds(policy, prm, method, n):
            inside = evidence.accuracy(problem_set, policy, prm, method, n)[of_problem == name]
            cell = {"policy": policy, "prm": prm, "bin": name, "method": method, "n": n, "problems": len(inside)}
            rows.append(cell | stats.of_accuracy(inside).columns())
    return pd.DataFrame(rows)


def long(columns: dict[str, np.ndarray], value: str) -> pd.DataFrame:
    """One row per policy and problem, with how many problems the policy has in the column count."""
    parts = [pd.DataFrame({"policy": name, "count": len(values), value: values}) for name, values in columns.items()]
    return pd.concat(parts, ignore_index=True)


def at_size(evidence: Evidence, problem_set: str, prm: str, n: int) -> pd.DataFrame:
    """One row per policy and method at one budget, CoT among them."""
    rows = evidence.at_budget(n)
    return rows[(rows["problems"] == problem_set) & rows["prm"].isin([prm, ""])].reset_index(drop=True)


def gains(
    evidence: Evidence, problem_set: str, prm: str, n: int, candidates: Sequence[choices.Choice], bins: dict[str, np.ndarray] | None = None
) -> pd.DataFrame:
    """CoT, majority and compute-optimal TTS per policy, with the gain relative and as error reduction (Liu et al. 2025, Table 5).

    Compute-optimal TTS is cross-fitted by :func:`.compute_optimal.fit`; the in-sample figure, the study's way, stands beside it. Imported
    data without greedy solutions have Pass@1 in place of CoT, in a column of that name. ``bins``: policy -> each problem's difficulty as
    known beforehand; by default one choice for all problems.
    """
    rows = []
    for policy in evidence.grid.policies:
        alone, cot = evidence.alone(problem_set, policy)
        known = bins[policy] if bins else np.full(len(cot), "all")
        values = choices.values(evidence, problem_set, policy, prm, n, candidates)
        fitted, before = compute_optimal.fit(values, known), compute_optimal.resampled_means(cot)
        # (TTS - CoT) / (1 - CoT), and TTS / CoT - 1 with half a problem where CoT solves none, so that it stays finite
        reduction = np.where(before < 1, (fitted.estimates - before) / np.where(before < 1, 1 - before, 1.0), 0.0)
        nothing = (before == 0) & (fitted.estimates == 0)
        relative = np.where(nothing, 0.0, fitted.estimates / np.maximum(before, 0.5 / len(cot)) - 1)
        row = {
            "policy": policy,
            {"CoT": "cot"}.get(alone, alone): cot.mean(),
            "majority": evidence.accuracy(problem_set, policy, None, "majority", n).mean(),
            "compute-optimal": fitted.accuracy.estimate,
            "in-sample": compute_optimal.fit(values, known, crossed=False).accuracy.estimate,
            "most chosen": str(candidates[max(fitted.choice.values(), key=list(fitted.choice.values()).count)]),
        }
        for name, estimates in (("relative gain", relative), ("error reduction", reduction)):
            interval = compute_optimal.interval(estimates)
            row |= {name: interval.estimate, f"{name} low": interval.low, f"{name} high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows)


def score_by_vote(evidence: Evidence, problem_set: str, policy: str, n: int) -> pd.DataFrame:
    """Best-of-n under every aggregate and vote, PRMs as columns, with the spread over the rules (Liu et al. 2025, Table 2)."""
    rows = {"Majority": dict.fromkeys(evidence.grid.prms, evidence.accuracy(problem_set, policy, None, "majority", n).mean())}
    for rule in SCORED:
        fitting = [prm for prm in evidence.grid.prms if evidence.grid.fits(policy, prm, rule)]
        accuracies = {prm: evidence.accuracy(problem_set, policy, prm, "best_of_n", n, rule).mean() for prm in fitting}
        rows[f"PRM-{rule.aggregate.title()}-{rule.vote.title()}"] = accuracies
    table = pd.DataFrame(rows).T * 100
    scored = table.drop(index="Majority")
    table.loc["spread of the rules"] = scored.max() - scored.min()
    return table


def quality(evidence: Evidence, judged: Mapping[str, Judged], n: int) -> pd.DataFrame:
    """How well PRMs find errors (f1, by which they are sorted) beside best-of-n on the first problem set with the first policy."""
    rows = evidence.at_budget(n).query("method == 'best_of_n'")
    rows = rows[(rows["problems"] == next(iter(evidence.grid.problems))) & (rows["policy"] == evidence.grid.policies[0])]
    known = pd.DataFrame({"prm": prm, "f1": of.f1, "parameters": costs.shape_of(prm).parameters} for prm, of in judged.items())
    return rows[["prm", "n", "accuracy", "low", "high"]].merge(known).sort_values("f1")


def localisation(judged: Mapping[str, Judged], solutions: Sequence[Labelled]) -> pd.DataFrame:
    """F1 of each PRM (columns) with its interval, on all solutions and by subject or split and writer (rows); see that in pathologies."""
    columns = {}
    for prm, of in judged.items():
        rows = pathologies.localisation(of, solutions).set_index(["solutions", "right", "wrong"])
        columns[short(prm)] = pd.Series([f"{row.f1:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in rows.itertuples()], rows.index)
    return pd.DataFrame(columns)


def as_n_grows(evidence: Evidence, problem_set: str, policy: str, rule: Rule) -> pd.DataFrame:
    """Best-of-n with one rule for each PRM and every n of the pool: columns prm, n, accuracy, low, high."""
    rows = []
    for prm, n in product(evidence.grid.prms, evidence.pool_budgets):
        rows.append({"prm": prm, "n": n} | stats.of_accuracy(evidence.accuracy(problem_set, policy, prm, "best_of_n", n, rule)).columns())
    return pd.DataFrame(rows)
