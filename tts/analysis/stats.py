"""Statistics of test-time scaling: pool estimators for every n, and intervals paired by problem.

The estimators are of subsets of ``n`` samples of one problem's pool: ``correct`` says which samples are right, ``groups`` numbers
their answers, -1 for none, which neither wins nor votes. Ties are broken at random. All raise ``ValueError`` unless 1 <= n <= len(correct).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import comb, sqrt
from statistics import NormalDist

import numpy as np

FEWEST_PROBLEMS = 10  # for a verdict
LEVEL = 0.95  # of every interval
FEW = 8  # right or wrong answers, below which a bootstrap covers too little


def pass_at_k(correct: np.ndarray, k: int) -> float:
    """Probability that a random subset of ``k`` samples holds a right one (Chen et al. 2021, equation 1)."""
    n, right = _checked(len(correct), k), int(np.sum(correct))
    return 1.0 - comb(n - right, k) / comb(n, k)


def best_of_n_accuracy(correct: np.ndarray, scores: np.ndarray, groups: np.ndarray, n: int) -> float:
    """Expected accuracy of PRM-Max over all subsets of ``n`` samples, exactly.

    With the answered samples ranked by score, the one of rank r is selected by the C(N-1-r, n-1) subsets that hold it and none ranked
    above it. Equal scores share what their ranks select: of the ranks r to s the sum, C(N-r, n) - C(N-1-s, n).
    """
    total = _checked(len(correct), n)
    # Python's numbers: the products below are too large for numpy's.
    given = zip(*(np.asarray(values).tolist() for values in (scores, correct, groups)))
    ranked = sorted(((score, right) for score, right, group in given if group >= 0), key=lambda answered: -answered[0])
    rank, chosen = 0, 0.0
    for _, equal in groupby(ranked, key=lambda answered: answered[0]):
        tied = [right for _, right in equal]
        chosen += (comb(total - rank, n) - comb(total - rank - len(tied), n)) * sum(tied) / len(tied)
        rank += len(tied)
    return float(chosen / comb(total, n))


def vote_accuracy(correct: np.ndarray, weights: np.ndarray, groups: np.ndarray, n: int, draws: int = 100, seed: int = 0) -> float:
    """Expected accuracy of a vote over subsets of ``n`` samples: exact for ``n = N``, else by seeded draws of subsets.

    The weights are the samples' votes, ones for a majority. A subset counts as the share of right answers among those that tie, and an
    answer as the share of right ones among its samples in the subset, should the vote not tell them apart.
    """
    total = _checked(len(correct), n)
    groups, correct, weights = np.asarray(groups), np.asarray(correct, bool), np.asarray(weights, float)
    if n == 1:
        return float((correct & (groups >= 0)).mean())
    member = (groups[:, None] == np.arange(groups.max(initial=-1) + 1)).astype(float)  # (samples, answers)
    if not (correct @ member).any():
        return 0.0
    chosen = np.ones((1, total), bool) if n == total else _subsets(total, n, draws, seed)
    totals = (chosen * weights) @ member
    votes = chosen @ member
    totals[votes == 0] = -np.inf
    most = totals.max(1, keepdims=True)
    leading = totals >= most - 1e-12 * np.abs(most)  # sums of equal weights may differ in their last digits
    right = ((chosen & correct) @ member) / np.maximum(votes, 1)
    share = (leading * right).sum(1) / leading.sum(1)
    return float(np.where(np.isfinite(most[:, 0]), share, 0.0).mean())


def votes_from_each(correct: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Accuracy of a majority over the samples from each one on, the first following the last, ``(samples, samples)``: by start and number.

    Ties, and answers that are right in some samples only, count as in :func:`vote_accuracy`.
    """
    groups, correct = np.asarray(groups), np.asarray(correct, bool)
    member = groups[:, None] == np.arange(groups.max(initial=-1) + 1)  # (samples, answers)
    found = np.empty((len(groups), len(groups)))
    for start in range(len(groups)):  # one by one, or large pools would not fit into memory
        order = np.roll(np.arange(len(groups)), -start)
        votes, right = (of[order].cumsum(0) for of in (member, member & correct[:, None]))  # (numbers, answers)
        leading = (votes == votes.max(1, keepdims=True, initial=1)) & (votes > 0)
        found[start] = (leading * right / np.maximum(votes, 1)).sum(1) / np.maximum(leading.sum(1), 1)
    return found


def stopped_votes(
    groups: np.ndarray, correct: np.ndarray, stop: Callable[[Sequence[int]], int], first: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Of a vote that stops by a rule of :mod:`tts.search.adaptive`, from each sample of a pool on, the first following the last.

    How many samples it draws, ``(starts,)``, and the accuracy of a majority over each number of them, ``(starts, samples)``; with ``first``
    from the first sample only. What comes later has no part in where it stops.
    """
    twice = [*groups.tolist(), *groups.tolist()]
    drawn = np.array([stop(twice[start : start + len(groups)]) for start in range(1 if first else len(groups))])
    return drawn, votes_from_each(correct, groups)[: len(drawn)]


def up_to(n: int, drawn: np.ndarray, votes: np.ndarray) -> tuple[float, float]:
    """Mean accuracy of :func:`stopped_votes` of at most ``n`` samples, and how many are drawn."""
    drawn = np.minimum(drawn, n)
    return float(votes[np.arange(len(drawn)), drawn - 1].mean()), float(drawn.mean())


@lru_cache(maxsize=64)
def _subsets(total: int, n: int, draws: int, seed: int) -> np.ndarray:
    """``(draws, total)``, true for the ``n`` members of each random subset."""
    noise = np.random.default_rng(seed).random((draws, total))
    return noise.argsort(1).argsort(1) < n


def _checked(total: int, n: int) -> int:
    if not 1 <= n <= total:
        raise ValueError(f"a pool of {total} samples has no subsets of {n}")
    return total


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval and the method that gave it."""

    estimate: float
    low: float
    high: float
    method: str

    def columns(self, name: str = "accuracy") -> dict[str, float]:
        """The columns of a table's row: the estimate under a name, low and high."""
        return {name: self.estimate, "low": self.low, "high": self.high}


def auc(scores: np.ndarray, right: np.ndarray) -> float | None:
    """Chance that a right one scores above a wrong one, ties half; None where all are alike."""
    if right.all() or not right.any():
        return None
    from scipy.stats import mannwhitneyu  # takes half a second

    pairs = mannwhitneyu(scores[right], scores[~right], method="asymptotic").statistic
    return round(float(pairs / (right.sum() * (~right).sum())), 4)


def wilson(successes: float, trials: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927; Brown et al. 2001, equation 4); raises ``ValueError`` without trials."""
    if trials < 1:
        raise ValueError("a proportion of no trials has no interval")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, widened = successes / trials, trials + z**2
    centre = (successes + z**2 / 2) / widened
    half = z * sqrt(trials * share * (1 - share) + z**2 / 4) / widened
    return Interval(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)), "Wilson")


def bootstrap(
    values: np.ndarray,  # (problems,) or (problems, columns); of a paired difference the per-problem differences
    of_means: Callable[[np.ndarray], np.ndarray] = lambda means: means,  # from (..., columns) to (...)
    clusters: Sequence[object] | None = None,  # each problem's, whose problems are drawn together; by default one for each
    more: Sequence[float] | np.ndarray = (),  # problems that resamples draw from too, and that the estimate is without
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The 95 % percentile bootstrap over problems, of a mean or of any function of several columns' means.

    Raises ``ValueError`` with fewer than two clusters, where there is no interval to give.
    """
    estimate = float(of_means(np.mean(values, 0)))
    values = np.concatenate([np.asarray(values, float), np.asarray(more, float)]) if len(more) else np.asarray(values, float)
    sums, sizes = values, np.ones(len(values))
    if clusters is not None:
        names, numbers = np.unique(np.asarray(clusters), return_inverse=True)
        member = np.eye(len(names))[:, numbers]
        sums, sizes = member @ values, member.sum(1)
    if len(sizes) < 2:
        raise ValueError(f"an interval needs at least two problems; given {len(sizes)}: give more in the parameter problems")
    drawn = _drawn(len(sizes), resamples, seed)
    means = ((drawn @ sums).T / (drawn @ sizes)).T
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(of_means(means), [tail, 100 - tail])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), "bootstrap over problems")


def of_difference(values: np.ndarray) -> Interval:
    """The interval of a mean difference of two accuracies, ``(problems,)``: a bootstrap, where :func:`alike` with two problems more."""
    return bootstrap(values, more=(1, -1) if alike(values) else ())


def alike(differences: np.ndarray) -> bool:
    """Whether so few problems, by Kish's effective number, tell two ways apart that resamples of them cover too little.

    With 0.2 to 6 differing problems in expectation a bootstrap's 95 % interval covered 19 to 100 % (it is [0, 0] where none differs), and
    94 to 100 % where resamples draw from two problems more, one won and one lost, as Bonett and Price (2012) count of proportions.
    """
    size = np.abs(differences)
    return size.sum() ** 2 < 2 * FEW * (size**2).sum() or not size.any()


@lru_cache(maxsize=8)  # many intervals are of the same problems
def _drawn(count: int, resamples: int, seed: int) -> np.ndarray:
    """How often each of ``count`` is drawn with replacement in each resample, ``(resamples, count)``, read-only."""
    picks = np.random.default_rng(seed).integers(count, size=(resamples, count))
    places = picks + count * np.arange(resamples)[:, None]
    drawn = np.bincount(places.ravel(), minlength=resamples * count).reshape(resamples, count).astype(float)
    drawn.flags.writeable = False
    return drawn


def of_few(values: np.ndarray, x: np.ndarray | None = None) -> Interval:
    """The mean of few columns' means, or their slope over ``x``, with the 95 % interval for other columns and other problems.

    ``values`` are ``(problems, columns)``, ``x`` is ``(columns,)``. Raises ``ValueError`` where they leave no degree of freedom.

    Two half-widths whose squares add: that of the columns around their mean or line, by Student's distribution, and that of the problems,
    which are many, by the normal one. The first holds a part of the second, so that the interval is rather too wide: it covered 95 to 99 %
    with 2 to 8 columns (a test repeats it), where by Satterthwaite's degrees of freedom one covered 87 % with three.
    """
    values = np.asarray(values, float)
    means, ones = values.mean(0), np.ones(values.shape[1])
    design = ones[:, None] if x is None else np.column_stack([ones, np.asarray(x, float) - np.mean(x)])
    left = len(means) - design.shape[1]
    if left < 1:
        raise ValueError(f"{len(means)} columns are too few for an interval over them")
    solved = np.linalg.pinv(design)
    residuals, weights = means - design @ (solved @ means), solved[-1]
    of_columns = residuals @ residuals / left * (weights @ weights)
    of_problems = (values @ weights).var(ddof=1) / len(values)
    half = sqrt(quantile(left) ** 2 * of_columns + quantile() ** 2 * of_problems)
    estimate = float(weights @ means)
    return Interval(estimate, estimate - half, estimate + half, f"Student's t over {len(means)} columns, and problems")


def holm(p: Sequence[float]) -> np.ndarray:
    """The p values of several tests, each corrected over all of them, ``(tests,)`` (Holm 1979).

    As statsmodels' ``multipletests`` gives them, which first collects Python's garbage: a quarter of a second where pandas is loaded.
    """
    values = np.asarray(p, float)
    order, corrected = np.argsort(values), np.empty_like(values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return corrected


def quantile(freedom: float = np.inf, tests: int = 1) -> float:
    """The 97.5 % quantile of Student's distribution, of the normal one for infinite freedom; for one of so many tests (Bonferroni)."""
    from scipy.special import stdtrit  # takes a tenth of a second, which few intervals need

    share = 1 - 0.025 / tests
    return NormalDist().inv_cdf(share) if np.isinf(freedom) else float(stdtrit(freedom, share))


def of_accuracy(values: np.ndarray) -> Interval:
    """The interval of a mean accuracy: Wilson's where right or wrong answers are :func:`rare`, else a bootstrap over problems."""
    values = np.asarray(values, float)
    if len(values) == 1:
        return Interval(float(values[0]), 0.0, 1.0, "one problem")
    return wilson(values.sum(), len(values)) if rare(values.sum(), len(values)) else bootstrap(values)


def rare(right: float, count: float) -> bool:
    """Whether so few of ``count`` problems are right, or wrong, in expectation that resamples of them cover too little.

    A bootstrap's 95 % interval covered 87 to 93 % with 3 or 5 of 30 to 300, 92 to 95 % with 8 (beta-distributed rates); Wilson's, which
    counts as if each problem were right or wrong, 97 % and more. So both ends of a curve have intervals by one rule.
    """
    return min(right, count - right) < FEW


def log_fit(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Least squares of ``y = a ln x + b`` (Liu et al. 2025, Fig 6): a, b, and the correlation of y with ln x.

    All NaN with fewer than three different ``x`` above 0, which are all that count.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    logs, y = np.log(x[x > 0]), y[x > 0]
    if len(set(logs)) < 3:
        return np.nan, np.nan, np.nan
    a, b = np.polyfit(logs, y, 1)
    return float(a), float(b), float(np.corrcoef(logs, y)[0, 1])


def verdict(difference: Interval) -> str:
    """``supported`` where the whole interval lies above 0, ``contradicted`` below, else ``undecided``."""
    return "supported" if difference.low > 0 else "contradicted" if difference.high < 0 else "undecided"
