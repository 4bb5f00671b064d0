"""What was found, in sentences: worked out from the tables, printed at the end of a notebook and of the study."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pandas as pd

from tts.analysis import costs, stats
from tts.analysis.evidence import Evidence
from tts.claims.comparisons import CLAIMS, contrast
from tts.claims.finding import Finding
from tts.claims.wording import VERDICTS, formatted, over_rules
from tts.common.names import short
from tts.reward_models import rules
from tts.search.registry import method_of, prm_of


def checked(claims: Mapping[str, np.ndarray | stats.Interval | str]) -> pd.DataFrame:
    """Whether a run shows what it is claimed to, by the 95 % interval, uncorrected: columns claim, this run shows it, by.

    ``claims``: claim -> the paired difference on each problem, ``(problems,)``, in shares of 1, or an interval of it, either of which must
    lie above 0; a Finding, which must lie above its margin; or why there is none.
    """
    rows = []
    for claim, found in claims.items():
        if isinstance(found, np.ndarray):
            found = stats.of_difference(found) if len(found) >= stats.FEWEST_PROBLEMS else f"{len(found)} problems are too few"
        if isinstance(found, str) or np.isnan(found.estimate):
            rows.append((claim, "not tested", found if isinstance(found, str) else "it is unknown"))
            continue
        finding = found if isinstance(found, Finding) else Finding.of(found, "points", "")
        verdict = stats.verdict(replace(finding, low=finding.low - finding.margin, high=finding.high - finding.margin))
        contrast = formatted(asdict(finding) | {"verdict": verdict}) + " points" * (finding.unit == "points")
        rows.append((claim, {"supported": "yes", "contradicted": "no"}.get(verdict, verdict), contrast))
    return pd.DataFrame(rows, columns=["claim", "this run shows it", "by"])


def claims_of(rows: pd.DataFrame, claim: str, problems: float = np.inf, unit: str = "points", margin: float = 0.0) -> dict:
    """Claims for :func:`checked` on a table's rows, which are of so many problems; a claim is the text with a row's columns filled in.

    Its contrast is the columns difference, low and high.
    """
    few = f"{problems} problems are too few" if problems < stats.FEWEST_PROBLEMS else ""
    found = {claim.format_map(row): stats.Interval(row["difference"], row["low"], row["high"], "") for row in rows.to_dict("records")}
    return {told: few or Finding.of(interval, unit, "", margin) for told, interval in found.items()}


def size_claims(pairs: pd.DataFrame, solvers: pd.DataFrame, problems: int) -> dict:
    """Each policy with TTS against the next larger one with CoT; with each PRM the largest policy below its base model against that."""
    tested = solvers[solvers["verdict"] != "not tested"]
    policy, solver = (tested[name].map(lambda model: costs.shape_of(model).parameters) for name in ("policy", "solver"))
    below = tested.assign(size=policy)[policy < solver].sort_values("size").groupby("prm", sort=False).tail(1)
    return next_larger(pairs, problems) | claims_of(below, "{policy} with {prm} beats {solver}, the PRM's base model, with CoT", problems)


def next_larger(pairs: pd.DataFrame, problems: int) -> dict:
    """Each policy with TTS against the next larger one with CoT, of :func:`tts.claims.comparisons.pairs`."""
    nearest = pairs.loc[pairs.groupby("small", sort=False)["times larger"].idxmin()]
    return claims_of(nearest, "{small} with TTS beats {large}, the next larger, with CoT", problems)


def cost_claims(found: pd.DataFrame, pair: tuple[str, str] | None) -> dict:
    """The three claims on cost of one pair of :func:`tts.claims.comparisons.flops_comparisons`, by what is counted; of no pair none."""
    names = ["small with TTS", "large with CoT"]
    rows = found.melt([*names, "counted"], list(CLAIMS), "claim", "difference").set_index(names).loc[[pair] if pair else []]
    rows = rows.reset_index().assign(claim=rows["claim"].str.removeprefix("times ").to_numpy())
    text = "{small with TTS} with TTS: {claim} than {large with CoT} with CoT ({counted} count)"
    return claims_of(rows.assign(low=rows["difference"], high=rows["difference"]), text, unit="ratio", margin=1.0)


def thinking_claims(contrasts: pd.DataFrame, catches: pd.DataFrame, problems: int) -> dict:
    """Internal and external scaling by the contrasts of :mod:`tts.analysis.long_cot`, and whether checks catch most errors."""
    called = catches[catches["what"] == "wrong ones that their check calls wrong"].rename(columns={"share": "difference"}).dropna()
    claims = claims_of(contrasts.replace(" - ", " beats ", regex=True), "{size}: {contrast}", problems)
    return claims | claims_of(called, "{policy}: its checks call most of its wrong operations wrong", problems, "share", 0.5)


def method_claims(evidence: Evidence, n: int, over: str) -> dict[str, np.ndarray]:
    """What each guided method gains over another with each PRM, and more with the last PRM than with the first: paired differences.

    They are of the first problem set, ``(problems,)``, and averaged over the policies; without those that imported data do not hold.
    """
    grid, problem_set, gains = evidence.grid, next(iter(evidence.grid.problems)), {}
    for method, prm in product((m for m in grid.methods if method_of(m).guided and m != over), grid.prms):
        cells = [[(policy, prm_of(name, prm), name, n) for name in (method, over)] for policy in grid.policies]
        if all(grid.holds(*cell) for pair in cells for cell in pair):
            each = [np.subtract(*(evidence.accuracy(problem_set, *cell) for cell in pair)) for pair in cells]
            gains[_label(method), short(prm)] = np.mean(each, 0)
    where = f" ({f'mean of {count} policies, ' if (count := len(grid.policies)) > 1 else ''}{short(problem_set)})"
    claims = {f"{method} beats {_label(over)} with {prm}{where}": gain for (method, prm), gain in gains.items()}
    for method, prm in gains:
        first = short(grid.prms[0])
        if prm == short(grid.prms[-1]) != first and (method, first) in gains:
            more = f"{method} gains more over {_label(over)} with {prm} than with {first}{where}"
            claims[more] = gains[method, prm] - gains[method, first]
    return claims


def methods(evidence: Evidence, n: int) -> list[str]:
    """How the methods of each policy and PRM stand at budget ``n``, CoT among them.

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
        models = f"{short(policy)} with {short(prm)}{rules.in_searches(prm, grid.task)}" if prm else short(policy)
        lines.append(f"{short(problem_set)}, {models}, N = {at}: {told}")
    return lines


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


def _counts(rows: pd.DataFrame, verdicts: Sequence[str] = ("supported", "undecided", "contradicted")) -> str:
    return ", ".join(f"{(rows['verdict'] == verdict).sum()} {verdict}" for verdict in verdicts)


def findings(ledger: pd.DataFrame) -> list[str]:
    """Per scope: how many claims got each verdict; and each decided claim with its contrast, and for how many rules it holds."""
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
