"""A small policy with test-time scaling against a larger one that answers alone: accuracy paired by problem, and FLOPs."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd

from tts.analysis import costs, flops, stats
from tts.analysis.evidence import Evidence
from tts.analysis.stats import Interval
from tts.claims.finding import Finding
from tts.claims.scope import NotTested, Scope
from tts.search.registry import prm_of
from tts.strategy import choices, compute_optimal
from tts.strategy.compute_optimal import Resampled
from tts.tasks.selection import Rule

CLAIMS = ("times fewer total FLOPs", "times fewer inference FLOPs", "times fewer deployed parameters")


@dataclass(frozen=True)
class Answering:
    """One way of answering a problem set."""

    how: str  # CoT, or the method and rule chosen on all problems
    accuracy: Interval
    right: Resampled


def guided(evidence: Evidence, problem_set: str, policy: str, prm: str, n: int, rules: Sequence[Rule] | None = None) -> Answering:
    """A policy with its best TTS method and rule (of ``rules``, or all) at budget ``n``; raises as :func:`.compute_optimal.fit`."""
    candidates = choices.choices(evidence.grid.methods, rules)
    values = choices.values(evidence, problem_set, policy, prm, n, candidates)
    fitted = compute_optimal.fit(values, ["all"] * values.shape[1])  # difficulty is unknown: one choice for all problems
    return Answering(str(candidates[fitted.choice["all"]]), fitted.of_bin["all"], fitted)


def alone(evidence: Evidence, problem_set: str, policy: str) -> Answering:
    """A policy with CoT, on the same resamples as :func:`guided`."""
    values = evidence.accuracy(problem_set, policy, None, "cot", 1)
    return Answering("CoT", stats.of_accuracy(values), Resampled.of(values))


Answers = dict[tuple[str, str], Answering]


def answers(evidence: Evidence, problem_set: str, prm: str, n: int, rules: Sequence[Rule] | None = None) -> Answers:
    """Each policy of the grid with CoT and with TTS, by policy and the name of the way."""
    found = {}
    for policy in evidence.grid.policies:
        found[policy, "CoT"] = alone(evidence, problem_set, policy)
        found[policy, "TTS"] = guided(evidence, problem_set, policy, prm, n, rules)
    return found


def bars(answered: Answers) -> pd.DataFrame:
    """One row per policy and way: columns policy, strategy, how, accuracy, low, high."""
    rows = [{"policy": policy, "strategy": name, "how": way.how} | way.accuracy.columns() for (policy, name), way in answered.items()]
    return pd.DataFrame(rows)


def pairs(answered: Answers, sizes: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Every policy with TTS against every larger one with CoT, one row per pair; ``sizes``: parameters, looked up where not given."""
    sizes = sizes or {policy: costs.shape_of(policy).parameters for policy, _ in answered}
    rows = []
    for small, large in product(sizes, repeat=2):
        if sizes[small] < sizes[large]:
            tts, cot = answered[small, "TTS"], answered[large, "CoT"]
            row = {"small": small, "how": tts.how, "large": large, "times larger": sizes[large] / sizes[small]}
            rows.append(row | _compared(tts, cot))
    return pd.DataFrame(rows, columns=["small", "how", "large", "times larger", *_COMPARED])


def equalled(alone: Mapping[str, float], size: Mapping[str, float]) -> set[str]:
    """The policies that a smaller one equals alone, or passes, of accuracies and sizes by policy: to pass them says nothing about size."""
    return {large for large, small in product(alone, repeat=2) if size[small] < size[large] and alone[small] >= alone[large]}


def size_pairs(scope: Scope) -> pd.DataFrame:
    """:func:`pairs` of a scope on each of its problem sets, TTS by difficulty where that is counted.

    Further columns problems, count (how many), times fewer FLOPs (in total, the study's count, best-of-N), most (Pass@N of the smaller:
    what a perfect verifier of its pool would give), room (that less the larger's CoT), open, where neither outcome is certain
    before: there is room, the smaller is behind alone, the larger at neither end (:func:`.stats.rare`); and p, two-sided and corrected
    over the pairs of a set whose larger policy none smaller equals alone (Holm), NaN of the others.
    """
    tables = []
    for here in map(scope.on, scope.problem_sets):
        answered: Answers = {}
        known, sizes = {}, {}
        for policy in scope.policies:
            with suppress(NotTested):
                cot, fitted = here.values(policy, "cot"), here.with_tts(policy)
                known[policy] = [cot.mean(), here.values(policy, "pass").mean(), *_flops(here, policy)]
                sizes[policy] = here.size(policy)
                answered[policy, "CoT"] = Answering("CoT", stats.of_accuracy(cot), Resampled.of(cot))
                answered[policy, "TTS"] = Answering("compute-optimal", fitted.accuracy, fitted)
        table, ways = pairs(answered, sizes), pd.DataFrame(known, ["alone", "most", "TTS FLOPs", "CoT FLOPs"]).T
        small, large = (ways.loc[table[size]].reset_index(drop=True) for size in ("small", "large"))
        table["times fewer FLOPs"] = large["CoT FLOPs"] / small["TTS FLOPs"]
        table["most"], table["room"] = small["most"], small["most"] - table["CoT"]
        certain = [stats.rare(cot * here.problems, here.problems) for cot in table["CoT"]]
        table["open"] = (table["room"] > 0) & (small["alone"] < table["CoT"]) & ~np.array(certain, bool)
        counted = ~table["large"].isin(equalled(ways["alone"].to_dict(), sizes))
        found = (Interval(*row) for row in table.loc[counted, ["difference", "low", "high"]].assign(method="").to_numpy())
        table.loc[counted, "p"] = stats.holm([Finding.of(difference, "points", "").p for difference in found])
        tables.append(table.assign(problems=here.problem_sets[0], count=here.problems))
    if not sum(map(len, tables)):
        raise NotTested("there are no two policies of different sizes with TTS")
    return pd.concat(tables, ignore_index=True).rename(columns={"times larger": "times"})


def _flops(scope: Scope, policy: str) -> tuple[float, float]:
    """A policy's total FLOPs with best-of-N and with CoT, by the study's count."""
    name, prm = scope.problem_sets[0], scope.good_prm

    def counted() -> tuple[float, float]:
        tts = costs.cost(scope.holder(policy, "best_of_n", prm), name, policy, prm, "best_of_n", scope.n, full=False)
        cot = costs.cost(scope.holder(policy, "cot"), name, policy, None, "cot", 1, full=False)
        return tts.total, cot.total

    return scope.fact(("FLOPs", name, policy, prm, scope.n), counted)


def pairs_of(scopes: Mapping[str, Scope | None]) -> pd.DataFrame:
    """:func:`size_pairs` of every scope that has any, with the column scope."""
    tables = []
    for name, scope in scopes.items():
        with suppress(NotTested):
            tables += [size_pairs(scope).assign(scope=name)] if scope else []
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["scope"])


_COMPARED = ["TTS", "CoT", "difference", "low", "high", "verdict"]


def _compared(first: Answering, second: Answering) -> dict:
    difference = (first.right - second.right).difference
    ends = {"TTS": first.accuracy.estimate, "CoT": second.accuracy.estimate}
    return ends | difference.columns("difference") | {"verdict": stats.verdict(difference)}


def verifier_as_solver(
    guides: Sequence[Evidence], solvers: Evidence, problem_set: str, n: int, rules: Sequence[Rule] | None = None
) -> pd.DataFrame:
    """Each policy of ``guides`` with each PRM against the PRM's base model answering alone with CoT, one row per policy and PRM.

    The verdict is ``not tested`` where a base model is not known or not among the policies of ``solvers``, on the same problems.
    """
    rows = []
    for evidence in guides:
        for prm, policy in product(evidence.grid.prms, evidence.grid.policies):
            solver, way = costs.solver_of(prm), guided(evidence, problem_set, policy, prm, n, rules)
            row = {"policy": policy, "prm": prm, "solver": solver or "unknown", "how": way.how}
            untested = {"TTS": way.accuracy.estimate, "verdict": "not tested"}
            rows.append(row | (_compared(way, alone(solvers, problem_set, solver)) if solver in solvers.grid.policies else untested))
    table = pd.DataFrame(rows, columns=["policy", "prm", "solver", "how", *_COMPARED])
    return table.drop_duplicates(["policy", "prm"]).reset_index(drop=True)


def contrast(first: np.ndarray, second: np.ndarray) -> dict[str, str]:
    """Whether the first is more accurate than the second, paired by problem: the difference in points, and the verdict."""
    difference = stats.of_difference(first - second)
    return {"difference (points)": points(difference.columns("difference")), "verdict": stats.verdict(difference)}


def points(row: Mapping[str, float] | pd.Series) -> str:
    """A difference in points with its interval, from the columns difference, low, high (shares)."""
    return f"{100 * row['difference']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"


def flops_comparisons(evidence: Evidence, problem_set: str, prm: str, method: str, n: int) -> pd.DataFrame:
    """Each smaller policy with a TTS method against each larger one with CoT, both of known size, where the smaller is at least level.

    Two rows per pair, by what is counted, with the columns of :func:`contrast` and :func:`tts.analysis.flops.against`.
    """
    rows = []
    known = [policy for policy in evidence.grid.policies if np.isfinite(costs.shape_of(policy).parameters)]
    for small, large in combinations(costs.by_size(known), 2):
        a = evidence.accuracy(problem_set, small, prm, method, n)
        b = evidence.accuracy(problem_set, large, None, "cot", 1)
        if a.mean() < b.mean():
            continue
        common = {"small with TTS": small, "large with CoT": large} | contrast(a, b)
        for counted, full in (("the study's", False), ("full", True)):
            with_tts, with_cot = ways_of(evidence, problem_set, (small, large), prm, method, n, full).values()
            rows.append({**common, "counted": counted, **flops.against(with_tts, with_cot, len(a))})
    names = ["small with TTS", "large with CoT", "difference (points)", "verdict", "counted", *CLAIMS, "small is cheaper in total"]
    return pd.DataFrame(rows, columns=names)


def ways_of(
    evidence: Evidence, problem_set: str, pair: tuple[str, str], prm: str, method: str, n: int, full: bool
) -> dict[str, flops.Cost]:
    """What a pair's smaller policy with TTS and its larger one with CoT cost, by name."""
    return {
        f"{pair[0]}, TTS": costs.cost(evidence, problem_set, pair[0], prm_of(method, prm), method, n, full),
        f"{pair[1]}, CoT": costs.cost(evidence, problem_set, pair[1], None, "cot", 1, full),
    }


def flops_claims(comparisons: pd.DataFrame) -> pd.DataFrame:
    """In how many of the comparisons, published or not, each of the three claims holds (a ratio above 1), and the ratio's range."""
    ratios = comparisons.melt("counted", list(CLAIMS), "claim", "ratio").astype({"ratio": float})
    ratios["claim"] = ratios["claim"].str.replace("times fewer", "fewer")
    return (
        ratios.assign(holds=ratios["ratio"] > 1)
        .groupby(["claim", "counted"], sort=False, as_index=False)
        .agg(comparisons=("ratio", "count"), holds=("holds", "sum"), least=("ratio", "min"), most=("ratio", "max"))
    )


def widest(comparisons: pd.DataFrame) -> tuple[str, str] | None:
    """The supported pair of the largest difference in deployed parameters, else any that is level; None where there is none."""
    decided = comparisons[comparisons["verdict"] == "supported"]
    among = decided if len(decided) else comparisons
    ratios = among[among["counted"] == "the study's"].set_index(["small with TTS", "large with CoT"])["times fewer deployed parameters"]
    return ratios.idxmax() if ratios.notna().any() else None


def totals(ways: dict[str, flops.Cost], queries: int) -> pd.DataFrame:
    """Total FLOPs of each way of known training over the queries answered; ``ways``: costs by name, measured over ``queries``."""
    known = {name: cost for name, cost in ways.items() if np.isfinite(cost.total)}
    # where inference catches up with training
    centre = np.median([cost.training * queries / cost.inference for cost in known.values()]) if known else 1.0
    grid = max(centre, 1.0) * np.logspace(-3, 3, 61)
    rows = [(name, count, cost.training + cost.inference / queries * count) for name, cost in known.items() for count in grid]
    return pd.DataFrame(rows, columns=["way", "queries", "total"])
