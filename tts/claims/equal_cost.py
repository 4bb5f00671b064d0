"""Methods at equal cost: how accurate each is, against spending as much on plain samples, and which to use when.

A cost is counted per problem: in policy tokens; in FLOPs of inference, with PRM, prompts and attention; or in seconds of waiting for policy
and PRM, on the machine that a run was made on and at its batch. Scores of a part of a pool cost their part of the whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tts.analysis import costs, stats
from tts.analysis.evidence import Evidence
from tts.claims.finding import Finding
from tts.search.registry import method_of, prm_of

SPARE = 1.05  # how many times as much still counts as equal


COSTS = {"tokens": "policy tokens", "FLOPs": "FLOPs of inference, PRM included", "seconds": "seconds of policy and PRM"}  # in words


def spent(evidence: Evidence, problem_set: str, policy: str, prm: str, method: str, n: int, cost: str = "tokens") -> float:
    """What a method costs per problem at budget ``n``, the mean, by one of :data:`COSTS`; NaN where it is not known."""
    asked = problem_set, policy, prm_of(method, prm), method
    if cost == "tokens":
        return float(evidence.policy_tokens(*asked, n).mean())
    if cost == "seconds":
        return float(evidence.seconds(*asked, n).mean())
    whole = evidence.grid.samples if method_of(method).part and method_of(method).guided else n
    found = costs.cost(evidence, *asked, whole, full=True)
    share = evidence.policy_tokens(*asked, n).sum() / evidence.policy_tokens(*asked, whole).sum()
    return (found.prefill + share * (found.inference - found.prefill)) / evidence.grid.problems[problem_set]


def by_cost(evidence: Evidence, problem_set: str, policy: str, prm: str) -> pd.DataFrame:
    """The rows of :attr:`Evidence.table` of a policy, of the methods that were asked for and CoT, with each of :data:`COSTS`."""
    rows = evidence.table.query("problems == @problem_set and policy == @policy and prm in ('', @prm)")
    rows = rows[rows["method"].isin(["cot", *evidence.grid.methods])].rename(columns={"method": "strategy"})
    asked = [(row.strategy, row.n) for row in rows.itertuples(index=False)]
    return rows.assign(prm=prm, **{cost: [spent(evidence, problem_set, policy, prm, *one, cost) for one in asked] for cost in COSTS})


@dataclass(frozen=True)
class Contrast:
    """A method at a budget against a plain one that costs the same."""

    method: str
    cost: float  # per problem, the mean
    plain: str  # best-of-N, or majority voting for a method without a PRM, and where best-of-N was not asked for
    count: int  # its samples
    plain_cost: float
    difference: np.ndarray  # of accuracies, (problems,)


def contrasts(evidence: Evidence, problem_set: str, policy: str, prm: str, n: int, cost: str = "tokens") -> Iterator[Contrast]:
    """Each method of the grid at budget ``n`` against as many samples of the pool as cost most nearly the same, at most all.

    None where the cost is not known.
    """
    at, grid = (evidence, problem_set, policy, prm), evidence.grid
    for method in (m for m in grid.methods if grid.holds(policy, prm_of(m, prm), m, n)):
        plain = "best_of_n" if method_of(method).guided and "best_of_n" in grid.methods else "majority"
        if method in (plain, "best_of_n"):
            continue
        pool, _ = grid.parts(plain, policy, prm, 1) or (1, 1)  # an import may hold fewer than were asked for
        own, single, whole = (spent(*at, *one, cost) for one in ((method, n), (plain, 1), (plain, pool)))
        each = (whole - single) / max(1, pool - 1)  # of one more: the prompt is read once, however many samples there are
        if not np.isfinite(own + each):  # imported samples without token counts, or times
            continue
        count = int(np.clip(round(1 + (own - single) / each), 1, pool)) if each else 1
        first, second = (evidence.accuracy(problem_set, policy, prm, *side) for side in ((method, n), (plain, count)))
        yield Contrast(method, own, plain, count, single + (count - 1) * each, first - second)


def against_plain(evidence: Evidence, problem_set: str, policy: str, prm: str, n: int, cost: str = "tokens") -> pd.DataFrame:
    """:func:`contrasts`, one row each: ``difference``, ``low`` and ``high``, and ``p``, two-sided and corrected over the rows (Holm)."""
    rows = []
    for found in contrasts(evidence, problem_set, policy, prm, n, cost):
        finding = Finding.of(stats.of_difference(found.difference), "points", "")
        sides = {"method": found.method, cost: found.cost, "plain": found.plain, "plain N": found.count, f"plain {cost}": found.plain_cost}
        sides |= {"times the cost": found.cost / found.plain_cost}
        rows.append(sides | finding.columns("difference") | {"p": finding.p})
    table = pd.DataFrame(rows)
    return table.assign(p=stats.holm(table["p"])) if rows else table


def when(evidence: Evidence, problem_set: str, policy: str, prm: str, cost: str = "tokens") -> pd.DataFrame:
    """What to use when: for the cost of each budget of majority voting the most accurate method that it pays for.

    Without a PRM and with it; behind it the methods of which the paired 95 % interval, uncorrected, does not say that they are worse.
    """
    at, rows = (evidence, problem_set, policy, prm), []
    for n in sorted(evidence.grid.budgets):
        paid = spent(*at, "majority", n, cost)
        row: dict[str, object] = {cost: paid, "samples": n}
        for column, guided in (("without a PRM", False), ("with the PRM", True)):
            best: dict[str, tuple[np.ndarray, int]] = {}  # of each method at its best affordable budget
            for method in (m for m in evidence.grid.methods if method_of(m).guided == guided):
                for k in (k for k in evidence.grid.budgets if evidence.grid.holds(policy, prm_of(method, prm), method, k)):
                    if spent(*at, method, k, cost) <= SPARE * paid:
                        right = evidence.accuracy(problem_set, policy, prm, method, k)
                        best[method] = max(best.get(method, (right, k)), (right, k), key=lambda found: found[0].mean())
            if best:
                first, *others = sorted(best, key=lambda method: -best[method][0].mean())
                level = [m for m in others if stats.of_difference(best[first][0] - best[m][0]).low <= 0]
                named = f"{method_of(first).label}, N = {best[first][1]}: {100 * best[first][0].mean():.1f} %"
                row[column] = named + (f"; not decidedly behind: {', '.join(method_of(m).label for m in level)}" if level else "")
        rows.append(row)
    return pd.DataFrame(rows).set_index("samples").fillna("nothing at that cost")


def summary(
    evidence: Evidence, problem_set: str, policy: str, prm: str, n: int, cost: str = "tokens"
) -> tuple[list[str], dict[str, np.ndarray]]:
    """What a run shows: a line on what the votes that stop save, and the differences of :func:`contrasts` by what is compared.

    A method that costs more than all samples of the pool is compared with these, and what they cost of it is said.
    """
    found, unit = list(contrasts(evidence, problem_set, policy, prm, n, cost)), "policy tokens" if cost == "tokens" else cost
    if not found and len(evidence.grid.methods) > 1:
        return [f"{unit} are not known of these runs, so that nothing is compared"], {}
    whole = spent(evidence, problem_set, policy, prm, "majority", n, cost)
    saved = [f"{method_of(one.method).label} {1 - one.cost / whole:.0%}" for one in found if method_of(one.method).stop]
    lines = [f"{unit} saved against majority of N = {n}: {', '.join(saved)}"] if saved else []
    named = {}
    for one in found:
        equal = f"at equal {unit}" if one.cost <= SPARE * one.plain_cost else f"which costs {one.plain_cost / one.cost:.2f} of its {unit}"
        plain = f"{method_of(one.plain).label}, N = {one.count}"
        named[f"{method_of(one.method).label}, N = {n}, is more accurate than {plain}, {equal}"] = one.difference
    return lines, named
