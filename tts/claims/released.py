"""The study's claims on what others measured on real models, from the tables ``data/published/released_*.csv``.

Where outcomes are known problem by problem, contrasts are paired. Of the search methods only the rates of some seeds are known.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from tts.analysis import stats
from tts.claims import published
from tts.claims.finding import Finding
from tts.claims.published import PublishedError
from tts.search.registry import METHODS, Settings, method_of
from tts.strategy import compute_optimal

DRAWS = 2000
PAIRED = "bootstrap over problems, paired"
RATES = "normal, as if unpaired; variance over seeds, s²/seeds, plus over problems, p(1 - p)/problems, an upper bound"
VOTES = {"prm_max": "PRM-Max", "prm_vote": "PRM-Vote", "majority": "majority"}
_COLUMNS = {
    "pass_at_1": ["model", "problem_set", "low", "high", "problems", "at_low"],
    "curves": ["model", "problem_set", "series", "n", "accuracy", "low", "high", "problems", "samples"],
    "methods": ["method", "n", "seed", "prm_max", "prm_vote", "majority", "problem_set", "problems"],
    "gsm8k": ["6B", "6B with verifier", "175B", "175B with verifier", "problems"],
    "coder": ["problem_set", "tests", "1.5B", "7B", "problems"],
    "programs": ["model", "task", "programs", "right", "public", "public_right", "answers", "passed"],
}


def table(name: str) -> pd.DataFrame:
    """A table by its name after ``released_``; PublishedError where it is missing or lacks columns."""
    rows = published.read(f"released_{name}")
    if missing := [column for column in _COLUMNS[name] if column not in rows]:
        raise PublishedError(f"released_{name}.csv is damaged (it lacks {', '.join(missing)}); restore it, say with git checkout")
    return rows


def problems() -> dict[str, int]:
    """How many problems of each set the contrasts below are of."""
    counts = {"GSM8K": table("gsm8k")["problems"].sum(), "MATH-500": table("methods")["problems"].iloc[0]}
    return counts | {"MATH": table("pass_at_1").query("problem_set == 'MATH'").groupby("model")["problems"].sum().max()}


def outcomes(patterns: pd.DataFrame, systems: Sequence[str]) -> pd.DataFrame:
    """Whether each system was right, one row per problem, from counts of patterns."""
    published.known(systems, patterns.columns, "the released table")
    return patterns.loc[patterns.index.repeat(patterns["problems"]), list(systems)].reset_index(drop=True)


def gsm8k(first: str, second: str) -> Finding:
    """Accuracy on GSM8K of one system less that of another, which their sizes name, paired by problem."""
    rows = outcomes(table("gsm8k"), (first, second))
    a, b = rows[first], rows[second]
    small, large = (float(system.split("B")[0]) for system in (first, second))
    won = f"by {(a > b).sum()} against {(a < b).sum()} of {len(rows)} problems of GSM8K"
    detail = f"{first} {a.mean():.1%} less {second} {b.mean():.1%}, {won}; {large / small:.0f} times the size"
    return Finding.of(replace(stats.of_difference(a - b), method=PAIRED), "points", detail)


def of_programs(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """Per task and model of the table ``programs``: the columns passed (Pass@n), and best (of n by public tests, ties at random)."""
    found = []
    for row in rows.itertuples():
        rest = row.right - row.public_right, row.programs - row.public - row.right + row.public_right  # that fail a public test
        right = np.repeat([1, 0, 1, 0], [row.public_right, row.public - row.public_right, *rest])
        public = np.repeat([1.0, 0.0], [row.public, sum(rest)])
        best = stats.best_of_n_accuracy(right, public, np.zeros(row.programs, int), n)
        found.append((row.model, row.task, stats.pass_at_k(right, n), best))
    return pd.DataFrame(found, columns=["model", "task", "passed", "best"])


def stopping(rows: pd.DataFrame, n: int = 10) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What votes that stop buy on the table ``programs``, a real pool of ten a task: votes by behaviour on the public inputs.

    First, one row per model, method and budget up to ``n``: policy, prm (none), strategy, n, samples (drawn per task, the mean), accuracy
    with low and high. Then each method at ``n`` less a majority of as many samples as it draws, paired by task: model, method, samples,
    majority N, difference, low, high, and p, two-sided and corrected over the rows (Holm).
    """
    methods = {method: method.stop for method in METHODS.values() if method.stop}
    found, contrasts = [], []
    for model, part in rows.groupby("model", sort=False):
        pools = [(np.array(a.split(), int), np.array(b.split(), int)) for a, b in zip(part["answers"], part["passed"])]
        at: dict[tuple[str, int], np.ndarray] = {}  # (tasks, 2): accuracy, and samples drawn
        for method, stop in ((method_of("majority"), None), *methods.items()):
            settings = Settings(constants=method.values({}))
            rule: Callable[[Sequence[int]], int] = partial(_drawn, stop, settings) if stop else len
            votes = [stats.stopped_votes(*pool, rule) for pool in pools]
            at |= {(method.name, k): np.array([stats.up_to(k, *vote) for vote in votes]) for k in range(1, n + 1)}
        for (name, k), held in at.items():
            row = {"policy": model, "prm": "", "strategy": name, "n": k, "samples": held[:, 1].mean(), "count": len(held)}
            found.append(row | stats.of_accuracy(held[:, 0]).columns())
        for name in (method.name for method in methods):
            drawn = at[name, n][:, 1].mean()
            plain = int(np.clip(round(drawn), 1, n))
            finding = Finding.of(stats.of_difference(at[name, n][:, 0] - at["majority", plain][:, 0]), "points", "")
            sides = {"model": model, "method": name, "samples": drawn, "majority N": plain}
            contrasts.append(sides | finding.columns("difference") | {"p": finding.p})
    table = pd.DataFrame(contrasts)
    return pd.DataFrame(found), table.assign(p=stats.holm(table["p"]))


def _drawn(stop: Callable[[Sequence[int], Settings], int], settings: Settings, answers: Sequence[int]) -> int:
    return stop(answers, settings)


def relative_gain(first: str, second: str) -> Finding:
    """The relative gain of a verifier over the model alone on GSM8K, of a first size less that of a second; paired by problem."""
    rows = outcomes(table("gsm8k"), [system for size in (first, second) for system in (f"{size} with verifier", size)])

    def gains(means: np.ndarray) -> np.ndarray:
        return means[..., ::2] / np.maximum(means[..., 1::2], 0.5 / len(rows)) - 1  # half a problem where a model solves none

    of_first, of_second = gains(rows.mean().to_numpy())
    interval = stats.bootstrap(rows.to_numpy(), lambda means: gains(means)[..., 0] - gains(means)[..., 1])
    detail = f"{of_first:+.0%} for {first}, {of_second:+.0%} for {second}, with a verifier, {len(rows)} problems of GSM8K"
    return Finding.of(replace(interval, method=PAIRED), "share", detail)


def mostly_solved(model: str, problem_set: str, pass_at_1: float, above: float) -> Finding:
    """The share of problems that a model solves in more than ``pass_at_1`` of its samples; above a share or not."""
    rows = table("pass_at_1").query("model == @model and problem_set == @problem_set")
    if not (rows["low"] == pass_at_1).any():
        raise PublishedError(f"released_pass_at_1.csv has no bin from {pass_at_1:g} of {model} on {problem_set}")
    solved = int(rows.loc[rows["low"] >= pass_at_1, "problems"].sum() - rows.loc[rows["low"] == pass_at_1, "at_low"].sum())
    total = int(rows["problems"].sum())
    detail = f"{solved} of {total} problems of {problem_set} have Pass@1 above {pass_at_1:.0%}, {model}"
    return Finding.of(stats.wilson(solved, total), "share", detail, above)


class Rate(NamedTuple):
    """A mean accuracy over seeds, as a share, with its standard error."""

    mean: float
    error: float
    seeds: int
    name: str


def rate(method: str, vote: str, n: int) -> Rate:
    """The accuracy of a method with a vote of :data:`VOTES` and N samples, with its error as :data:`RATES` says."""
    rows = table("methods").query("method == @method and n == @n")
    if len(rows) < 2 or vote not in VOTES:
        raise PublishedError(f"released_methods.csv has no two seeds of {method} by {vote} at N = {n}")
    shares, problems = rows[vote] / 100, rows["problems"].iloc[0]
    mean = float(shares.mean())
    # The variance over problems is that of one answer a problem; a mean over seeds varies less.
    error = float(np.sqrt(shares.var() / len(shares) + mean * (1 - mean) / problems))
    return Rate(mean, error, len(shares), f"{method_of(method).label} by {VOTES[vote]}, N = {n}, {mean:.1%}")


def methods(first: Sequence[str], second: Sequence[str], n: int) -> Finding:
    """Accuracy of one method and vote less that of another, for the 1B policy; from rates of seeds, unpaired."""
    a, b = (rate(method, vote, n) for method, vote in (first, second))
    half = 1.96 * np.hypot(a.error, b.error)
    detail = f"{a.name}, less {b.name}; one policy, {a.seeds} seeds"
    return Finding(a.mean - b.mean, a.mean - b.mean - half, a.mean - b.mean + half, RATES, "points", detail)


def efficiency(search: Sequence[str], n: int) -> Finding:
    """How many times fewer samples than majority voting's ``n`` a search needs to be as accurate; above 1 or not.

    As :func:`tts.strategy.compute_optimal.efficiency_gain`, on draws of the rates from normal distributions in place of resamples. The
    rates of a search move together over its budgets, which solve the same problems; drawn apart they would look more certain.
    """
    method, vote = search
    budgets = sorted({n, *table("methods").query("method == @method and n < @n")["n"]})
    target, reached = rate("best_of_n", "majority", n), [rate(method, vote, budget) for budget in budgets]
    of_target, of_search = np.random.default_rng(0).standard_normal((2, DRAWS))
    majority = np.append(target.mean, target.mean + target.error * of_target)
    searched = np.stack([np.append(r.mean, r.mean + r.error * of_search) for r in reached])
    gain = compute_optimal.efficiency_gain([n], majority[None], 0.0, budgets, searched)
    interval = replace(gain.interval, method=f"{DRAWS} draws of the rates; {RATES}")
    detail = f"{reached[0].name}; {target.name}; one policy, {target.seeds} seeds"
    return Finding.of(interval, "ratio", detail, 1.0, bound=gain.bound or "=")


RELEASED: dict[str, Callable[..., Finding]] = {
    check.__name__: check for check in (efficiency, gsm8k, methods, mostly_solved, relative_gain)
}
