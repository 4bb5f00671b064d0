"""Methods at equal cost in policy tokens: how accurate each is, against sampling as many tokens more plainly, and which to use when."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tts.analysis import costs, stats
from tts.analysis.evidence import Evidence
from tts.claims.finding import Finding
from tts.search.registry import method_of, prm_of

SPARE = 1.05  # how many times its tokens a budget may cost


def by_cost(evidence: Evidence, problem_set: str, policy: str, prm: str) -> pd.DataFrame:
    """The rows of :attr:`Evidence.table` of a policy, of the methods that were asked for and CoT, with what they cost.

    Columns ``tokens`` (of the policy per problem, the mean) and ``FLOPs`` (of inference per problem, PRM, prompts and attention counted;
    NaN where the tokens that the PRM read are not known).
    """
    rows = evidence.table.query("problems == @problem_set and policy == @policy and prm in ('', @prm)")
    rows = rows[rows["method"].isin(["cot", *evidence.grid.methods])].rename(columns={"policy_tokens": "tokens", "method": "strategy"})
    spent = [
        costs.cost(evidence, problem_set, policy, prm_of(row.strategy, prm), row.strategy, row.n, full=True).inference / row.count
        for row in rows.itertuples(index=False)
    ]
    return rows.assign(prm=prm, FLOPs=spent)


@dataclass(frozen=True)
class Contrast:
    """A method at a budget against a plain one that costs the same."""

    method: str
    tokens: float  # of the policy per problem, the mean
    plain: str  # best-of-N, or majority voting for a method without a PRM
    count: int  # its samples
    plain_tokens: float
    difference: np.ndarray  # of accuracies, (problems,)


def contrasts(evidence: Evidence, problem_set: str, policy: str, prm: str, n: int) -> Iterator[Contrast]:
    """Each method of the grid at budget ``n`` against as many samples of the pool as cost most nearly the same, at most all.

    None where token counts are not known.
    """
    pool = evidence.grid.samples
    for method in evidence.grid.methods:
        plain = "best_of_n" if method_of(method).guided else "majority"
        if method == plain:
            continue
        tokens = evidence.policy_tokens(problem_set, policy, prm, method, n).mean()
        each = evidence.policy_tokens(problem_set, policy, prm, plain, pool).mean() / pool
        if not np.isfinite(tokens / each):  # imported samples without token counts
            continue
        count = int(np.clip(round(tokens / each), 1, pool))
        first, second = (evidence.accuracy(problem_set, policy, prm, *side) for side in ((method, n), (plain, count)))
        yield Contrast(method, tokens, plain, count, count * each, first - second)


def against_plain(evidence: Evidence, problem_set: str, policy: str, prm: str, n: int) -> pd.DataFrame:
    """:func:`contrasts`, one row each: ``difference``, ``low`` and ``high``, and ``p``, two-sided and corrected over the rows (Holm)."""
    rows = []
    for found in contrasts(evidence, problem_set, policy, prm, n):
        finding = Finding.of(stats.of_difference(found.difference), "points", "")
        sides = {
            "method": found.method,
            "tokens": found.tokens,
            "plain": found.plain,
            "plain N": found.count,
            "plain tokens": found.plain_tokens,
        }
        rows.append(sides | finding.columns("difference") | {"p": finding.p})
    table = pd.DataFrame(rows)
    return table.assign(p=stats.holm(table["p"])) if rows else table


def when(evidence: Evidence, problem_set: str, policy: str, prm: str) -> pd.DataFrame:
    """What to use when: for the tokens of each budget of majority voting the most accurate method that they pay for.

    Without a PRM and with it; behind it the methods of which the paired 95 % interval, uncorrected, does not say that they are worse.
    """
    rows = []
    for n in sorted(evidence.grid.budgets):
        tokens = evidence.policy_tokens(problem_set, policy, None, "majority", n).mean()
        paid, row = SPARE * tokens, {"tokens": tokens, "samples": n}
        for column, guided in (("without a PRM", False), ("with the PRM", True)):
            best: dict[str, tuple[np.ndarray, int]] = {}  # of each method at its best affordable budget
            for method in (m for m in evidence.grid.methods if method_of(m).guided == guided):
                for k in evidence.grid.budgets:
                    if evidence.policy_tokens(problem_set, policy, prm, method, k).mean() <= paid:
                        right = evidence.accuracy(problem_set, policy, prm, method, k)
                        best[method] = max(best.get(method, (right, k)), (right, k), key=lambda found: found[0].mean())
            if best:
                first, *others = sorted(best, key=lambda method: -best[method][0].mean())
                level = [m for m in others if stats.of_difference(best[first][0] - best[m][0]).low <= 0]
                named = f"{method_of(first).label}, N = {best[first][1]}: {100 * best[first][0].mean():.1f} %"
                row[column] = named + (f"; not decidedly behind: {', '.join(method_of(m).label for m in level)}" if level else "")
        rows.append(row)
    return pd.DataFrame(rows).set_index("samples")


def summary(evidence: Evidence, problem_set: str, policy: str, prm: str, n: int) -> tuple[list[str], dict[str, np.ndarray]]:
    """What a run shows: a line on what the votes that stop save, and the differences of :func:`contrasts` by what is compared."""
    found = list(contrasts(evidence, problem_set, policy, prm, n))
    whole = evidence.policy_tokens(problem_set, policy, prm, "majority", n).mean()
    saved = [f"{method_of(one.method).label} {1 - one.tokens / whole:.0%}" for one in found if method_of(one.method).stop]
    lines = [f"tokens saved against majority of N = {n}: {', '.join(saved)}"] if saved else []
    named = "{}, N = {}, is more accurate than {}, N = {}, at equal tokens"
    labels = {one.method: (method_of(one.method).label, n, method_of(one.plain).label, one.count) for one in found}
    return lines, {named.format(*labels[one.method]): one.difference for one in found}
