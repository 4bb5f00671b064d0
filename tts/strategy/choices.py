"""Difficulty of a problem for a policy, and which method is best for it."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from tts.analysis import stats
from tts.analysis.evidence import Evidence
from tts.common.names import short
from tts.search.registry import method_of
from tts.strategy import compute_optimal
from tts.tasks.selection import MAJORITY, SCORED, Rule

BINS = ("easy", "medium", "hard")
THRESHOLDS = (0.5, 0.1)
PRICES = [1e-6 * 2.0**i for i in range(12)]  # of a token, in accuracy: from one point for 10,000 tokens to one for five


def absolute_bins(pass_at_1: Sequence[float] | np.ndarray) -> np.ndarray:
    """Difficulty of each problem by Pass@1 (Liu et al. 2025, section 3.2), ``(problems,)``: easy from 50 %, hard below 10 %."""
    values = np.asarray(pass_at_1)
    return np.select([values >= threshold for threshold in THRESHOLDS], BINS[:2], BINS[2])


def quantile_bins(pass_at_1: Sequence[float]) -> np.ndarray:
    """Difficulty by thirds of the problems, the alternative that the study argues against; ties keep their order."""
    values = np.asarray(pass_at_1)
    ranks = np.argsort(np.argsort(-values, kind="stable"), kind="stable")
    return np.array(BINS)[ranks * len(BINS) // len(values)]


class Choice(NamedTuple):
    """What a strategy chooses among: a method, and how its candidates become one answer."""

    method: str
    rule: Rule

    def __str__(self) -> str:
        return self.method if method_of(self.method).select != "rule" else f"{self.method} {self.rule}"


def choices(methods: Sequence[str], rules: Sequence[Rule] | None = None) -> list[Choice]:
    """Every method with every rule: by default each aggregate with PRM-Max and PRM-Vote, and one majority vote for all aggregates."""
    candidates = []
    for method in map(method_of, methods):
        votes = [] if method.source == "pool" and method.select == "rule" else [MAJORITY]  # of a pool that is a method of its own
        allowed = (rules or [*SCORED, *votes]) if method.select == "rule" and method.guided else votes
        candidates += [Choice(method.name, rule) for rule in allowed]
    return candidates


def values(evidence: Evidence, problem_set: str, policy: str, prm: str, n: int, candidates: Sequence[Choice]) -> np.ndarray:
    """``(candidates, problems)``, each candidate's expected accuracy on each problem."""
    return np.stack([evidence.accuracy(problem_set, policy, prm, c.method, n, c.rule) for c in candidates])


def study_method(share: float, difficulty: str) -> str:
    """The method that the study's authors used on MATH-500 (Liu et al. 2025, section 4.2), for a policy's share of the largest, 72B."""
    if share < 7 / 72:
        return "beam_search"
    if share <= 32 / 72:
        return "beam_search" if difficulty == "hard" else "dvts"
    return "best_of_n"


class Setting(NamedTuple):
    """Where strategies are compared: a problem set, a policy, a PRM, a budget, and the policy's share of the largest."""

    problem_set: str
    policy: str
    prm: str
    n: int
    share: float = 0.0


def compare(
    evidence: Evidence, at: Setting, candidates: Sequence[Choice], oracle: np.ndarray, predicted: np.ndarray | None = None
) -> pd.DataFrame:
    """Strategies side by side: how each knows the difficulty, what it was chosen on, its accuracy with a 95 % interval and its method.

    Difficulty, ``(problems,)``, is by Pass@1 in ``oracle``, which needs the answers: an upper bound; and by the PRM's scores of a few
    samples in ``predicted``, where it is known.
    """
    table = values(evidence, *at[:4], candidates)
    alone, by_itself = evidence.alone(at.problem_set, at.policy)
    rows = {
        alone: stats.of_accuracy(by_itself),
        "majority": stats.of_accuracy(evidence.accuracy(at.problem_set, at.policy, None, "majority", at.n)),
        "best fixed, cross-fitted": compute_optimal.fit(table, ["all"] * len(oracle)).accuracy,
        "optimal, oracle difficulty, cross-fitted": compute_optimal.fit(table, oracle).accuracy,
        "optimal, oracle difficulty, in-sample": compute_optimal.fit(table, oracle, crossed=False).accuracy,
    }
    if predicted is not None:
        rows["optimal, predicted difficulty, cross-fitted"] = compute_optimal.fit(table, predicted).accuracy
    rule = [study_method(at.share, name) for name in oracle] if np.isfinite(at.share) else []
    if rule and set(rule) <= set(evidence.grid.methods):
        by_method = {m: evidence.accuracy(at.problem_set, at.policy, at.prm, m, at.n) for m in set(rule)}
        rows["the study's rule"] = stats.of_accuracy(np.array([by_method[m][i] for i, m in enumerate(rule)]))
    common = {"policy": at.policy, "prm": at.prm, "n": at.n}
    return pd.DataFrame({"strategy": name} | common | i.columns() | {"interval": i.method} for name, i in rows.items())


def over_majority(
    evidence: Evidence, places: Sequence[Setting], candidates: Sequence[Choice], bins: Mapping[tuple[str, str], np.ndarray]
) -> dict[str, stats.Interval | str]:
    """Claim -> the cross-fitted strategy less majority voting, or why not, with difficulty predicted for each policy and PRM."""
    found: dict[str, stats.Interval | str] = {}
    for at in places:
        difficulty, majority = bins[at.policy, at.prm], evidence.accuracy(at.problem_set, at.policy, None, "majority", at.n)
        gain = compute_optimal.fit(values(evidence, *at[:4], candidates), difficulty) - compute_optimal.Resampled.of(majority)
        who = f"for {short(at.policy)} with {short(at.prm)} (predicted difficulty, N = {at.n})"
        found[f"Compute-optimal test-time scaling beats majority voting {who}"] = (
            gain.difference if len(majority) >= stats.FEWEST_PROBLEMS else f"{len(majority)} problems are too few"
        )
    return found


def chosen(evidence: Evidence, at: Setting, candidates: Sequence[Choice], bins: np.ndarray) -> pd.DataFrame:
    """What is best in each bin, on all problems; its accuracy cross-fitted; and in which share of resamples it is chosen again."""
    fitted = compute_optimal.fit(values(evidence, *at[:4], candidates), bins)
    common = {"policy": at.policy, "prm": at.prm, "n": at.n}
    return pd.DataFrame(
        common
        | {"difficulty": name, "problems": int((bins == name).sum()), "choice": str(candidates[fitted.choice[name]])}
        | fitted.of_bin[name].columns()
        | {"chosen again": fitted.stability[name]}
        for name in BINS
        if name in fitted.choice
    )


def at_equal_tokens(evidence: Evidence, at: Setting, bins: np.ndarray, peek: int) -> pd.DataFrame:
    """Accuracy against policy tokens: each method with the grid's rule at every budget, and the adaptive strategy.

    The adaptive strategy chooses method, rule and N per predicted difficulty, cross-fitted, by accuracy less a price of
    tokens; it has a row for each price. The tokens of the samples from which difficulty is predicted count. Where tokens are not
    known (NaN) it goes without that method, and there is none without those of the samples.
    """
    asked, common = (at.problem_set, at.policy, at.prm), {"policy": at.policy, "prm": at.prm}
    rows, worth, spent = [], [], []
    budgets = sorted(evidence.grid.budgets)
    for method, n in product(evidence.grid.methods, budgets):
        tokens = evidence.policy_tokens(*asked, method, n)
        interval = stats.of_accuracy(evidence.accuracy(*asked, method, n))
        rows.append(common | {"strategy": method, "n": n, "tokens": tokens.mean()} | interval.columns())
        if np.isfinite(tokens).all():
            worth.append(values(evidence, *asked, n, choices([method])))
            spent.append(np.broadcast_to(tokens, worth[-1].shape))
    peeked = evidence.policy_tokens(*asked, "majority", budgets[-1]).mean() * peek / budgets[-1]
    for price in PRICES if np.isfinite(peeked) and worth else ():
        fitted = compute_optimal.fit(np.concatenate(worth), bins, costs=np.concatenate(spent), price=price)
        rows.append(common | {"strategy": "adaptive", "n": pd.NA, "tokens": fitted.cost + peeked} | fitted.accuracy.columns())
    return pd.DataFrame(rows)


def efficiency(evidence: Evidence, at: Setting, candidates: Sequence[Choice], bins: np.ndarray) -> dict:
    """The efficiency gain of the cross-fitted strategy over majority voting, in samples and in policy tokens.

    Tokens of the strategy are those of the methods chosen on all problems; what the PRM reads is not counted. Unknown stays ``unknown``.
    """
    asked = (at.problem_set, at.policy)
    budgets, searched = evidence.pool_budgets, sorted(evidence.grid.budgets)
    votes = [evidence.accuracy(*asked, None, "majority", n) for n in budgets]
    majority = np.stack([compute_optimal.resampled_means(v) for v in votes])
    error = np.std(votes[int(majority[:, 0].argmax())]) / np.sqrt(len(bins))
    fits = {n: compute_optimal.fit(values(evidence, *asked, at.prm, n, candidates), bins) for n in searched}
    tts = np.stack([fits[n].estimates for n in searched])
    of_majority = [evidence.policy_tokens(*asked, None, "majority", n).mean() for n in budgets]
    of_tts = []
    for n in searched:
        spent = {b: evidence.policy_tokens(*asked, at.prm, candidates[number].method, n) for b, number in fits[n].choice.items()}
        of_tts.append(np.select([bins == b for b in spent], list(spent.values())).mean())
    known = np.isfinite([*of_majority, *of_tts]).all()
    samples = compute_optimal.efficiency_gain(budgets, majority, error, searched, tts)
    return {
        "policy": at.policy,
        "prm": at.prm,
        "in samples": samples,
        "in tokens": compute_optimal.efficiency_gain(of_majority, majority, error, of_tts, tts) if known else "unknown",
        "why not tested": samples.untested,
    }
