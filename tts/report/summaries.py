"""What was found, in sentences: worked out from the tables, printed at the end of a notebook and of the study."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from tts.analysis import stats
from tts.analysis.evidence import Evidence
from tts.claims.comparisons import contrast, points
from tts.claims.findings import VERDICTS, formatted, over_rules
from tts.common.names import short
from tts.report.tables import NOT_HELD
from tts.search.registry import method_of, prm_of

FEWEST_FOR_A_TREND = 3  # policies
NO_PAIR = "no pair of a smaller and a larger policy: it takes two of different, known sizes"


def methods(evidence: Evidence, contrasts: pd.DataFrame, n: int) -> list[str]:
    """How the methods of each policy and PRM stand at budget ``n``, CoT among them, and how many contrasts are decided.

    Of imported data, which may hold methods at different budgets, at the largest one at which most of them are held.
    """
    grid, lines = evidence.grid, []
    for problem_set, policy, prm in product(grid.problems, grid.policies, grid.prms or [""]):
        rows = evidence.table.query("problems == @problem_set and policy == @policy and prm in [@prm, ''] and n <= @n")
        asked = rows[~rows["method"].isin(["cot", "pass"])]
        if asked.empty:
            continue
        held = asked.groupby("n")["method"].nunique()
        at = held[held == held.max()].index.max()
        alone = set(rows[rows["n"] == 1]["method"]) & {"cot", "pass"}
        ways = dict.fromkeys(asked[asked["n"] == at]["method"], at) | dict.fromkeys(sorted(alone)[:1], 1)  # greedy where there is one
        found = {m: evidence.accuracy(problem_set, policy, prm_of(m, prm or None), m, budget) for m, budget in ways.items()}
        told = _standing({_label(m): values for m, values in found.items()})
        guided = [m for m in found if method_of(m).guided]
        if behind := [_label(m) for m in guided if "majority" in found and _decided(found["majority"], found[m])]:
            told += f"; behind majority voting: {', '.join(behind)}"
        if absent := [_label(m) for m in grid.methods if m not in found]:
            told += f"; not in the data at this N: {', '.join(absent)}"
        models = f"{short(policy)} with {short(prm)}" if prm else short(policy)
        lines.append(f"{short(problem_set)}, {models}, N = {at}: {told}")
    verdicts = ("supported", "contradicted", "undecided", *{NOT_HELD}.intersection(contrasts["verdict"]))
    return [*lines, f"of the paired contrasts, {_counts(contrasts, verdicts)}"]


def _standing(accuracies: Mapping[str, np.ndarray]) -> str:
    """The most accurate of several ways, and where each other stands to it, paired by problem: level, behind, or behind undecidedly.

    It is called best only where it is decidedly ahead of all. ``accuracies``: name -> accuracy on each problem, ``(problems,)``.
    """
    means = {name: values.mean() for name, values in accuracies.items()}
    top, *others = sorted(means, key=lambda name: -means[name])
    if means[top] == 0:
        return f"no problem is solved by {', '.join(means)}"
    interval = stats.of_accuracy(accuracies[top])
    shown = f"{interval.estimate:.1%} [{interval.low:.0%}, {interval.high:.0%}]"
    stand: dict[str, list[str]] = {"level with": [], "not decidedly ahead of": [], "ahead of": []}
    for name in others:
        ahead = "ahead of" if _decided(accuracies[top], accuracies[name]) else "not decidedly ahead of"
        stand[ahead if means[name] < means[top] else "level with"].append(f"{name} {means[name]:.1%}")
    parts = [f"{relation} {', '.join(names)}" for relation, names in stand.items() if names]
    head = f"{top} is best with {shown}" if list(filter(None, stand.values())) == [stand["ahead of"]] else f"{top} {shown}"
    return ", ".join([head, *parts])


def _label(method: str) -> str:
    return {"cot": "CoT", "pass": "Pass@1"}.get(method) or method_of(method).label


def _decided(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the first is more accurate than the second, paired by problem, and problems are enough to say so."""
    return len(first) >= stats.FEWEST_PROBLEMS and contrast(first, second)["verdict"] == "supported"


def scaling(gains: pd.DataFrame) -> list[str]:
    """The gain over CoT of the smallest policy and of the largest, and whether it falls from each policy to the next larger one."""
    lines, outer = [], gains.iloc[[0, -1][: len(gains)]]
    alone = " and ".join(name for column, name in (("cot", "CoT"), ("Pass@1", "Pass@1")) if column in gains)
    for column in ("relative gain", "error reduction"):
        ends = []
        for _, row in outer.iterrows():
            low, high = row[f"{column} low"], row[f"{column} high"]
            undecided = " (undecided)" if low <= 0 <= high else ""
            ends.append(f"{row[column]:+.0%} [{low:+.0%}, {high:+.0%}]{undecided} at {short(row['policy'])}")
        lines.append(f"{column} of compute-optimal TTS over {alone}: {', '.join(ends)}")
    if len(gains) < FEWEST_FOR_A_TREND:
        return [*lines, f"no trend with size: it takes {FEWEST_FOR_A_TREND} policies, and there {'are 2' if len(gains) == 2 else 'is 1'}"]
    steadily = gains["relative gain"].is_monotonic_decreasing
    falls = "falls from each policy to the next larger one" if steadily else "does not fall at each step"
    apart = "overlap" if outer["relative gain low"].max() <= outer["relative gain high"].min() else "lie apart"
    return [*lines, f"the relative gain {falls} of {len(gains)} policies; the intervals of the smallest and the largest {apart}"]


def bins(contrasts: pd.DataFrame) -> list[str]:
    """Search against best-of-N in each difficulty bin."""
    decided = contrasts.dropna(subset=["claim"]).rename(columns={"difference (points)": "difference"}).to_dict("records")
    line = "{bin} ({problems} problems): {claim}? {verdict}, {difference}"
    lines = [f"{short(row['policy'])}, {line.format_map(row)}" for row in decided]
    return lines or ["no bin holds enough problems to compare search with best-of-N"]


def small_against_large(pairs: pd.DataFrame, solvers: pd.DataFrame) -> list[str]:
    """Small with TTS against large with CoT, and against the PRM's base model: how many are decided, and the widest."""
    lines = [f"{len(pairs)} pair{'s' * (len(pairs) != 1)} of a smaller policy with TTS and a larger one with CoT: {_counts(pairs)}"]
    won = pairs[pairs["verdict"] == "supported"]
    if pairs.empty:
        lines = [NO_PAIR]
    elif len(won):
        row = won.loc[won["times larger"].idxmax()]
        lines.append(
            f"the largest ratio of sizes that is decided: {short(row['small'])} with {row['how']} {row['TTS']:.1%} beats "
            f"{short(row['large'])}, {row['times larger']:.1f} times its size, {row['CoT']:.1%} ({points(row)} points)"
        )
    else:
        lines.append("no smaller policy decidedly beats a larger one")
    for prm, part in solvers[solvers["verdict"] != "not tested"].groupby("prm", sort=False):
        most, policies = part.loc[part["difference"].idxmax()], "1 policy" if len(part) == 1 else f"{len(part)} policies"
        lines.append(
            f"policy + {short(prm)} against {short(most['solver'])} alone, {policies}: {_counts(part)}; largest difference "
            f"{points(most)} points for {short(most['policy'])} ({most['verdict']})"
        )
    return lines


def _counts(rows: pd.DataFrame, verdicts: Sequence[str] = ("supported", "undecided", "contradicted")) -> str:
    return ", ".join(f"{(rows['verdict'] == verdict).sum()} {verdict}" for verdict in verdicts)


def flops(comparisons: pd.DataFrame, claims: pd.DataFrame, policies: Sequence[str]) -> list[str]:
    """Small with TTS against large with CoT: how often level or better, and which of the three claims on cost hold."""
    if len(policies) == 1:
        return [NO_PAIR]
    if comparisons.empty:
        return ["no smaller policy with test-time scaling reaches a larger one with CoT"]
    pairs = comparisons.drop_duplicates(["small with TTS", "large with CoT"])
    decided = f"{(pairs['verdict'] == 'supported').sum()} of them decidedly"
    lines = [f"{len(pairs)} pairs in which the smaller policy with TTS is level with the larger with CoT or better, {decided}"]
    for claim, part in claims.groupby("claim", sort=False):
        found = []
        for row in part.itertuples():
            held = f"in {row.holds} of {row.comparisons} ({row.least:.2g} to {row.most:.2g} times)" if row.comparisons else "not known"
            found.append(f"{row.counted}: {held}")
        lines.append(f"{claim}: {'; '.join(found)}")
    return lines


def quality(evidence: Evidence, rows: pd.DataFrame, fit: tuple[float, float, float], policy: str, n: int) -> list[str]:
    """How the PRMs and majority voting stand by best-of-n, and how that goes with the PRMs' F1, by a fit with both in per cent."""
    a, b, r = fit
    asked = (next(iter(evidence.grid.problems)), policy)
    found = {f"{short(row.prm)} (F1 {row.f1:.2f})": evidence.accuracy(*asked, row.prm, "best_of_n", n) for row in rows.itertuples()}
    line = f"{short(policy)}, best-of-{n}: {_standing(found | {'majority voting': evidence.accuracy(*asked, None, 'majority', n)})}"
    if np.isnan(r):
        return [line, "too few PRMs for a fit of accuracy over F1"]
    return [line, f"accuracy = {a:.2f} ln F1 + {b:.2f}, both in per cent, over {len(rows)} PRMs, r = {r:.2f}"]


def long_cot(contrasts: pd.DataFrame, method: str, n: int) -> list[str]:
    """Internal against external scaling, size by size."""
    told = contrasts.assign(text=[f"{row['contrast']} {points(row)} points ({row['verdict']})" for _, row in contrasts.iterrows()])
    external = f"external by {method_of(method).label} with N = {n}"
    return [f"{short(size)}, {external}: {', '.join(texts)}" for size, texts in told.groupby("size", sort=False)["text"]]


def losses(overview: pd.DataFrame) -> list[str]:
    """Per method, how many of a few explored problems it got right, and how it lost the others."""
    lines = []
    for method, rows in overview.groupby("method", sort=False):
        counts = rows["kind"].value_counts()
        lost = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind != "found")
        lines.append(f"{method_of(method).label}: {counts.get('found', 0)} of {len(rows)} explored problems right; lost: {lost or 'none'}")
    return lines


def findings(ledger: pd.DataFrame) -> list[str]:
    """Per scope: how many claims got each verdict; and each decided claim with its contrast, and how many rules agree."""
    lines = []
    for scope, rows in ledger.groupby("scope", sort=False):
        lines.append(f"{scope}: {'nothing tested' if (rows['verdict'] == 'not tested').all() else _counts(rows, VERDICTS)}")
        decided = rows[rows["verdict"].isin(["supported", "contradicted"])].sort_values("verdict", ascending=False, kind="stable")
        for row in decided.to_dict("records"):
            told = "; ".join(filter(None, [formatted(row), over_rules(row)]))
            lines.append(f"{scope}, {row['verdict']}: {row['statement']} ({told})")
    return lines


def answers(statuses: pd.DataFrame, max_tokens: int | None) -> list[str]:
    """In how many samples an answer was found, of the policy with the fewest; ``statuses``: of ``Results``; ``max_tokens``: if known."""
    if statuses.empty:
        return []
    totals = statuses.sum(1)
    found = statuses.filter(regex="^answered").sum(1).astype(int)  # of no column 0.0
    fewest = (found / totals).idxmin()
    cut = "cut off" if max_tokens is None else f"cut off at {max_tokens} tokens"
    others = statuses.loc[fewest].rename({"truncated": cut}).drop("answered", errors="ignore")
    told = ", ".join(f"{n:,} {name}" for name, n in others.items() if n)
    among = f"; fewest: {short(fewest)}" if len(statuses) > 1 and told else ""
    return [f"an answer in {found[fewest]:,} of {totals[fewest]:,} samples" + (f" ({told}{among})" if told else "")]
