"""What was found, in sentences: worked out from the tables, printed at the end of a notebook and of the study."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tts.claims.comparisons import points
from tts.common.names import short
from tts.search.registry import method_of


def methods(table: pd.DataFrame, contrasts: pd.DataFrame, n: int) -> list[str]:
    """The best method of each policy and PRM at budget ``n``, and how many contrasts are decided.

    Of imported data, which may hold methods at different budgets, at the largest one at which most of them are held.
    """
    cell = ["problems", "policy", "prm"]
    guided = table[(table["n"] <= n) & (table["prm"] != "")]
    guided = guided.assign(held=guided.groupby([*cell, "n"])["method"].transform("nunique"))
    guided = guided[guided["held"] == guided.groupby(cell)["held"].transform("max")]
    guided = guided[guided["n"] == guided.groupby(cell)["n"].transform("max")]
    lines = []
    for row in guided.loc[guided.groupby(cell, sort=False)["accuracy"].idxmax()].itertuples():
        same = table[(table["problems"] == row.problems) & (table["policy"] == row.policy)]
        cot, single = (same[(same["method"] == m) & (same["n"] == 1)]["accuracy"] for m in ("cot", "pass"))
        majority = same[(same["method"] == "majority") & (same["n"] == row.n)]["accuracy"]
        beside = [f"majority {majority.iloc[0]:.1%}" if len(majority) else "majority not in the data"]
        beside += [f"CoT {cot.iloc[0]:.1%}"] if len(cot) else [f"Pass@1 {single.iloc[0]:.1%}"] if len(single) else []
        lines.append(
            f"{short(row.problems)}, {short(row.policy)} with {short(row.prm)}, N = {row.n}: {method_of(row.method).label} is best with "
            f"{row.accuracy:.1%} [{row.low:.0%}, {row.high:.0%}]; {', '.join(beside)}"
        )
    missing = "not in the data at one budget"
    verdicts = ("supported", "contradicted", "undecided", *([missing] if (contrasts["verdict"] == missing).any() else []))
    return [*lines, f"of the paired contrasts, {_counts(contrasts, verdicts)}"]


def scaling(gains: pd.DataFrame) -> list[str]:
    """How the gain over CoT changes from the smallest policy to the largest."""
    lines = []
    alone = " and ".join(name for column, name in (("cot", "CoT"), ("Pass@1", "Pass@1")) if column in gains)
    for column in ("relative gain", "error reduction"):
        ends = [
            f"{row[column]:+.0%} [{row[column + ' low']:+.0%}, {row[column + ' high']:+.0%}] at {short(row['policy'])}"
            for row in (gains.iloc[0], gains.iloc[-1])
        ]
        lines.append(f"{column} of compute-optimal TTS over {alone}: {', '.join(ends)}")
    falls = "falls" if gains["relative gain"].is_monotonic_decreasing else "does not fall"
    return [*lines, f"the relative gain {falls} steadily with the policy's size"]


def bins(contrasts: pd.DataFrame) -> list[str]:
    """Search against best-of-N in each difficulty bin."""
    decided = contrasts.dropna(subset=["claim"])
    if decided.empty:
        return ["no bin holds enough problems to compare search with best-of-N"]
    return [
        f"{short(row.policy)}, {row.bin} ({row.problems} problems): {row.claim}? {row.verdict}, {row.difference}"
        for row in decided.rename(columns={"difference (points)": "difference"}).itertuples()
    ]


def small_against_large(pairs: pd.DataFrame, solvers: pd.DataFrame) -> list[str]:
    """Small with TTS against large with CoT, and against the PRM's base model: how many are decided, and the widest."""
    lines = [f"{len(pairs)} pairs of a smaller policy with TTS and a larger one with CoT: {_counts(pairs)}"]
    won = pairs[pairs["verdict"] == "supported"]
    if len(won):
        row = won.loc[won["times larger"].idxmax()]
        lines.append(
            f"the largest ratio of sizes that is decided: {short(row['small'])} with {row['how']} {row['TTS']:.1%} beats "
            f"{short(row['large'])}, {row['times larger']:.1f} times its size, {row['CoT']:.1%} ({points(row)} points)"
        )
    else:
        lines.append("no smaller policy decidedly beats a larger one")
    tested = solvers[solvers["verdict"] != "not tested"]
    for prm, part in tested.groupby("prm", sort=False):
        best = part.loc[part["difference"].idxmax()]
        lines.append(
            f"policy + {short(prm)} against {short(best['solver'])} alone, {len(part)} policies: {_counts(part)}; best for "
            f"{short(best['policy'])}, {points(best)} points"
        )
    return lines


def _counts(rows: pd.DataFrame, verdicts: Sequence[str] = ("supported", "undecided", "contradicted")) -> str:
    return ", ".join(f"{(rows['verdict'] == verdict).sum()} {verdict}" for verdict in verdicts)


def flops(comparisons: pd.DataFrame, claims: pd.DataFrame) -> list[str]:
    """Small with TTS against large with CoT: how often level or better, and which of the three claims on cost hold."""
    if comparisons.empty:
        return ["no smaller policy with test-time scaling reaches a larger one with CoT"]
    pairs = comparisons.drop_duplicates(["small with TTS", "large with CoT"])
    lines = [
        f"{len(pairs)} pairs in which the smaller policy with TTS is level with the larger with CoT or better, "
        f"{(pairs['verdict'] == 'supported').sum()} of them decidedly"
    ]
    for claim, part in claims.groupby("claim", sort=False):
        found = [
            f"{row.counted}: "
            + (f"in {row.holds} of {row.comparisons} ({row.least:.2g} to {row.most:.2g} times)" if row.comparisons else "not known")
            for row in part.itertuples()
        ]
        lines.append(f"{claim}: {'; '.join(found)}")
    return lines


def quality(rows: pd.DataFrame, fit: tuple[float, float, float], policy: str, n: int) -> list[str]:
    """How the PRMs' F1 goes with the accuracy of best-of-n, by a fit in which both are in per cent, and the best PRM."""
    a, b, r = fit
    top = rows.loc[rows["accuracy"].idxmax()]
    line = f"{short(policy)}, best-of-{n}: {short(top['prm'])} (F1 {top['f1']:.2f}) is the best PRM with {top['accuracy']:.1%}"
    if np.isnan(r):
        return [line, "too few PRMs for a fit of accuracy over F1"]
    return [line, f"accuracy = {a:.2f} ln F1 + {b:.2f}, both in per cent, over {len(rows)} PRMs, r = {r:.2f}"]


def long_cot(contrasts: pd.DataFrame, method: str, n: int) -> list[str]:
    """Internal against external scaling, size by size."""
    lines = []
    for size, rows in contrasts.groupby("size", sort=False):
        found = [f"{row['contrast']} {points(row)} points ({row['verdict']})" for _, row in rows.iterrows()]
        lines.append(f"{short(size)}, external by {method_of(method).label} with N = {n}: {', '.join(found)}")
    return lines


def losses(overview: pd.DataFrame) -> list[str]:
    """Per method, how many of a few explored problems it got right, and how it lost the others."""
    lines = []
    for method, rows in overview.groupby("method", sort=False):
        counts = rows["kind"].value_counts()
        lost = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind != "found")
        lines.append(f"{method_of(method).label}: {counts.get('found', 0)} of {len(rows)} explored problems right; lost: {lost or 'none'}")
    return lines


def findings(ledger: pd.DataFrame) -> list[str]:
    """Per scope: how many claims got each verdict, and which are decided."""
    lines = []
    for scope, rows in ledger.groupby("scope", sort=False):
        if (rows["verdict"] == "not tested").all():
            lines.append(f"{scope}: nothing tested")
            continue
        parts = [f"{scope}: {_counts(rows, ('supported', 'contradicted', 'undecided', 'not tested'))}"]
        for verdict in ("supported", "contradicted"):
            if len(decided := rows[rows["verdict"] == verdict]):
                parts.append(f"{verdict}: {', '.join(decided['claim'])}")
        lines.append("; ".join(parts))
    return lines


def answers(statuses: pd.DataFrame, max_tokens: int) -> list[str]:
    """In how many samples an answer was found, of the policy with the fewest; ``statuses`` as Results.statuses gives them."""
    if statuses.empty:
        return []
    totals = statuses.sum(1)
    found = statuses.filter(regex="^answered").sum(1)
    fewest = (found / totals).idxmin()
    others = {f"cut off at {max_tokens} tokens" if name == "truncated" else name: n for name, n in statuses.loc[fewest].items()}
    told = ", ".join(f"{n:,} {name}" for name, n in others.items() if n and name != "answered")
    among = f"; fewest: {short(fewest)}" if len(statuses) > 1 and told else ""
    return [f"an answer in {found[fewest]:,} of {totals[fewest]:,} samples" + (f" ({told}{among})" if told else "")]
