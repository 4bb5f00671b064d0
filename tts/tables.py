"""The tables that notebooks show, from results; each is also what the figure beside it plots."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from tts import stats, strategy
from tts.evidence import Evidence
from tts.grid import SEARCHES
from tts.selection import AGGREGATES, Rule

FEWEST_PROBLEMS = 10
"""Below this a bootstrap over problems decides more often than it should."""


def at_budget(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """Accuracy at one budget, methods as columns, in per cent with the interval; CoT is greedy, without budget."""
    rows = table[(table["n"] == n) | (table["method"] == "cot")].copy()
    rows["text"] = [f"{100 * a:.1f} [{100 * lo:.0f}, {100 * hi:.0f}]" for a, lo, hi in zip(rows["accuracy"], rows["low"], rows["high"])]
    prms = [p for p in dict.fromkeys(rows["prm"]) if p]
    parts = [rows[rows["prm"].isin([prm, ""])].assign(prm=prm) for prm in prms] or [rows]
    wide = pd.concat(parts).pivot(index=["problems", "policy", "prm"], columns="method", values="text")
    order = [m for m in ("cot", "majority", "best_of_n", *SEARCHES, "pass") if m in wide]
    return wide[order]


def method_contrasts(evidence: Evidence, n: int) -> pd.DataFrame:
    """Search against best-of-N, and everything guided by a PRM against majority voting, paired by problem."""
    guided = [m for m in evidence.grid.methods if m != "majority"]
    pairs = [(m, "best_of_n") for m in guided if m in SEARCHES and "best_of_n" in guided]
    pairs += [(m, "majority") for m in guided]
    rows = []
    for problem_set in evidence.grid.problems:
        for policy in evidence.grid.policies:
            for prm in evidence.grid.prms:
                for first, second in pairs:
                    a, b = (evidence.accuracy(problem_set, policy, prm, m, n) for m in (first, second))
                    rows.append({"problems": problem_set, "policy": policy, "prm": prm} | contrast(first, second, a, b))
    return pd.DataFrame(rows)


def bin_contrasts(evidence: Evidence, problem_set: str, prm: str, n: int, bins: dict[str, np.ndarray]) -> pd.DataFrame:
    """Search against best-of-N within each difficulty bin of each policy, paired by problem."""
    rows = []
    for policy, of_problem in bins.items():
        for name in strategy.BINS:
            inside = of_problem == name
            for method in (m for m in evidence.grid.methods if m in SEARCHES and "best_of_n" in evidence.grid.methods):
                a, b = (evidence.accuracy(problem_set, policy, prm, m, n)[inside] for m in (method, "best_of_n"))
                found = {"verdict": "too few problems"} if len(a) < FEWEST_PROBLEMS else contrast(method, "best_of_n", a, b)
                rows.append({"policy": policy, "bin": name, "problems": int(inside.sum())} | found)
    return pd.DataFrame(rows, columns=["policy", "bin", "problems", "claim", "difference (points)", "verdict"])


def contrast(first: str, second: str, a: np.ndarray, b: np.ndarray) -> dict:
    """Whether the first is more accurate than the second, paired by problem: claim, difference with interval, verdict."""
    difference = strategy.paired_difference(a, b)
    return {
        "claim": f"{first} > {second}",
        "difference (points)": f"{100 * difference.estimate:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]",
        "verdict": stats.verdict(difference),
    }


def by_bin(evidence: Evidence, problem_set: str, prm: str, n: int, bins: dict[str, np.ndarray]) -> pd.DataFrame:
    """:func:`tts.strategy.by_bin` for each policy."""
    return pd.concat(
        [strategy.by_bin(evidence, problem_set, policy, prm, n, of_problem) for policy, of_problem in bins.items()], ignore_index=True
    )


def long(columns: dict[str, np.ndarray], value: str) -> pd.DataFrame:
    """One row per policy and problem."""
    return pd.concat([pd.DataFrame({"policy": name, value: values}) for name, values in columns.items()], ignore_index=True)


def at_size(table: pd.DataFrame, problem_set: str, prm: str, n: int) -> pd.DataFrame:
    """One row per policy and method at one budget, CoT among them."""
    rows = table[(table["problems"] == problem_set) & table["prm"].isin([prm, ""])]
    return rows[(rows["n"] == n) | (rows["method"] == "cot")].reset_index(drop=True)


def gains(evidence: Evidence, problem_set: str, prm: str, n: int) -> pd.DataFrame:
    """CoT, majority and the best TTS method per policy, with the gain relative and as error reduction.

    The relative gain is TTS / CoT - 1 (Liu et al. 2025, Table 5); error reduction is (TTS - CoT) / (1 - CoT). The best
    method is chosen on the problems it is reported on, as in the study, so the gain is optimistic. Intervals are paired
    bootstraps over problems. Where CoT solves nothing, in a resample too, the relative gain takes half a problem for it, so
    that it stays finite; where CoT makes no error, the error reduction is 0.
    """
    rows = []
    for policy in evidence.grid.policies:
        cot = evidence.accuracy(problem_set, policy, None, "cot", 1)
        candidates = {m: evidence.accuracy(problem_set, policy, prm, m, n) for m in evidence.grid.methods}
        method = max(candidates, key=lambda m: candidates[m].mean())
        pairs = np.stack([cot, candidates[method]], axis=1)
        reduction = stats.bootstrap(pairs, _error_reduction)
        relative = stats.bootstrap(pairs, partial(_relative_gain, least=0.5 / len(pairs)))
        rows.append(
            {
                "policy": policy,
                "cot": cot.mean(),
                "majority": evidence.accuracy(problem_set, policy, None, "majority", n).mean(),
                "best method": method,
                "tts": candidates[method].mean(),
                "relative gain": relative.estimate,
                "relative gain low": relative.low,
                "relative gain high": relative.high,
                "error reduction": reduction.estimate,
                "error reduction low": reduction.low,
                "error reduction high": reduction.high,
            }
        )
    return pd.DataFrame(rows)


def _error_reduction(means: np.ndarray) -> np.ndarray:
    """Of means of CoT and TTS, ``(..., 2)``."""
    cot, tts = means[..., 0], means[..., 1]
    return np.where(cot < 1, (tts - cot) / np.where(cot < 1, 1 - cot, 1.0), 0.0)


def _relative_gain(means: np.ndarray, least: float) -> np.ndarray:
    """Of means of CoT and TTS, ``(..., 2)``; CoT counts as ``least`` at least."""
    return means[..., 1] / np.maximum(means[..., 0], least) - 1


def score_by_vote(evidence: Evidence, problem_set: str, policy: str, n: int) -> pd.DataFrame:
    """Best-of-n under every aggregate and vote, PRMs as columns, with the spread over the rules (Liu et al. 2025, Table 2)."""
    rows = {"Majority": dict.fromkeys(evidence.grid.prms, evidence.accuracy(problem_set, policy, None, "majority", n).mean())}
    for how in AGGREGATES:
        for vote in ("max", "vote"):
            rule, name = Rule(how, vote), f"PRM-{how.title()}-{vote.title()}"
            rows[name] = {prm: evidence.accuracy(problem_set, policy, prm, "best_of_n", n, rule).mean() for prm in evidence.grid.prms}
    table = pd.DataFrame(rows).T * 100
    scored = table.drop(index="Majority")
    table.loc["spread of the rules"] = scored.max() - scored.min()
    return table


def as_n_grows(evidence: Evidence, problem_set: str, policy: str, rule: Rule) -> pd.DataFrame:
    """Best-of-n with one rule for each PRM and every n of the pool: columns prm, n, accuracy, low, high."""
    rows = []
    for prm in evidence.grid.prms:
        for n in evidence.pool_budgets:
            interval = stats.of_accuracy(evidence.accuracy(problem_set, policy, prm, "best_of_n", n, rule))
            rows.append({"prm": prm, "n": n, "accuracy": interval.estimate, "low": interval.low, "high": interval.high})
    return pd.DataFrame(rows)
