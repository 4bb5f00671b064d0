"""The compute-optimal strategy: which choice at which difficulty, made on other problems than it is judged on.

Liu et al. 2025, section 3: for a policy, a PRM, a difficulty and a budget, the method with the best expected accuracy. The
study chooses and reports on the same problems; cross-fitting chooses on four fifths and reports on the fifth that is left.

A small case: two candidates, four problems of one bin, two folds in place of five::

    problem        1  2  3  4        sums per fold    0  1
    fold           0  1  0  1
    candidate a    1  0  1  1        a                2  1
    candidate b    0  1  0  1        b                0  2

In-sample, a is chosen with 3 against 2, and its accuracy is 3/4. Cross-fitted, fold 0 gets what is best on fold 1, which is b and solves
nothing there, and fold 1 gets a, which solves one problem: 1/4. Nothing but the sums is needed. A resample weighs each problem by how
often it was drawn; sums, choices and accuracy then follow in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from tts.analysis.stats import Interval, alike, of_difference, rare, wilson

FOLDS = 5
RESAMPLES = 1000
EQUAL = 1e-9  # sums of accuracies that differ by no more are equal


@dataclass(frozen=True)
class Resampled:
    """An accuracy, or a difference of two, on the resamples that all share, so that differences are paired."""

    values: np.ndarray  # (problems,)
    estimates: np.ndarray  # (1 + resamples,), their mean on the problems as they are, then on each resample of them

    @classmethod
    def of(cls, values: np.ndarray) -> "Resampled":
        return Resampled(values, resampled_means(values))

    def __sub__(self, other: "Resampled") -> "Resampled":
        return Resampled(self.values - other.values, self.estimates - other.estimates)

    @property
    def difference(self) -> Interval:
        """The interval of a cross-fitted accuracy less another.

        A resample holds fewer different problems to choose on, so that its estimate is lower: by the percentiles alone up to 7 % of
        simulated truths lay above. The interval also holds them moved up by what the resamples lie too low; and where few problems differ
        (:func:`.stats.alike`), of which it covered 80 to 91 %, :func:`.stats.of_difference`. So it covered 96 % and more, of 100 problems.
        """
        found = interval(self.estimates)
        moved = found.estimate - float(self.estimates[1:].mean())
        low, high = found.low + min(moved, 0), found.high + max(moved, 0)
        if alike(self.values):
            few = of_difference(self.values)
            low, high = min(low, few.low), max(high, few.high)
        return Interval(found.estimate, low, high, found.method)


@dataclass(frozen=True)
class Fitted(Resampled):
    """A strategy that was chosen, and how accurate it is."""

    of_bin: dict[str, Interval]  # accuracy on each bin's problems alone
    choice: dict[str, int]  # number of the candidate chosen for each bin on all problems: what to use on new ones
    stability: dict[str, float]  # share of resamples in which a bin's choice is the same
    cost: float  # mean over the problems of what the chosen candidates cost, chosen as for the accuracy

    @property
    def accuracy(self) -> Interval:
        return interval(self.estimates)


def interval(estimates: np.ndarray) -> Interval:
    """The 95 % percentile interval of an estimate (the first entry) and its resamples (the others)."""
    low, high = np.percentile(estimates[1:], [2.5, 97.5])
    return Interval(float(estimates[0]), float(low), float(high), "bootstrap over problems, the choice repeated in each resample")


@lru_cache(8)  # many strategies are fitted on the same problems
def resampled_problems(problems: int, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each problem is drawn, ``(1 + resamples, problems)``, read-only; once each in the first row."""
    drawn = np.random.default_rng(0).multinomial(problems, np.full(problems, 1 / problems), size=resamples)
    weights = np.asfortranarray(np.vstack([np.ones((1, problems)), drawn]))  # as fit takes it, problem by problem
    weights.flags.writeable = False
    return weights


def resampled_means(values: np.ndarray) -> np.ndarray:
    """The mean of ``(problems,)`` values, ``(1 + resamples,)``, on the resamples of :func:`fit`, so that differences are paired."""
    return resampled_problems(len(values)) @ values / len(values)


def folds_of(bins: Sequence[str] | np.ndarray) -> np.ndarray:
    """The fold of each problem, ``(problems,)``, read-only: random, and as even as can be within each bin."""
    return _folds(tuple(bins))


@lru_cache(64)  # a ledger asks thousands of times for those of a few problem sets
def _folds(named: tuple[str, ...]) -> np.ndarray:
    bins, rng = np.asarray(named), np.random.default_rng(0)
    fold, dealt = np.zeros(len(bins), int), 0
    for name in dict.fromkeys(named):
        inside = rng.permutation(np.flatnonzero(bins == name))
        fold[inside] = (np.arange(len(inside)) + dealt) % FOLDS
        dealt += len(inside)
    fold.flags.writeable = False
    return fold


def crossed(values: np.ndarray) -> np.ndarray:
    """Each problem's accuracy with the candidate that is best on the other folds, ``(problems,)``; ``values`` as in :func:`fit`."""
    fold = folds_of(["all"] * values.shape[1])
    best = np.array([first_best(values[:, fold != number].sum(1)) for number in range(FOLDS)])
    return values[best[fold], np.arange(values.shape[1])]


def fit(
    values: np.ndarray,  # (candidates, problems), each candidate's expected accuracy on each problem
    bins: Sequence[str] | np.ndarray,  # (problems,), each problem's difficulty; all the same gives the best fixed method
    crossed: bool = True,  # judge on problems that the choice was not made on; else on the same ones, as the study does
    costs: np.ndarray | None = None,  # (candidates, problems), what each candidate costs, say in tokens; nothing by default
    price: float = 0.0,  # accuracy that a unit of cost must bring; the choice is by accuracy less price times cost
    resamples: int = RESAMPLES,
) -> Fitted:
    """Chooses the best candidate of each bin, anew in every resample of the problems.

    Copies of a problem share its fold, so that none is both chosen on and judged on. Fewer problems than folds raise ``ValueError``.
    """
    values, bins = np.asarray(values, float), np.asarray(bins)
    costs = np.zeros_like(values) if costs is None else np.asarray(costs, float)
    if values.shape[1] < FOLDS:
        raise ValueError(f"choosing a strategy needs at least {FOLDS} problems of a set; given {values.shape[1]}: ask for more")
    worths = values - price * costs
    # Of candidates that are worth the same on every problem only the first can be chosen.
    first = sorted({row.tobytes(): place for place, row in reversed([*enumerate(worths)])}.values())
    values, costs, worths = values[first], costs[first], worths[first]
    weights = resampled_problems(values.shape[1], resamples).T
    numbers, names = pd.factorize(bins)
    fold = folds_of(bins)
    cells = [np.flatnonzero((numbers == i) & (fold == j)) for i in range(len(names)) for j in range(FOLDS)]
    worth = _sums(worths, cells, weights)
    best = _best(worth, crossed)
    right = np.take_along_axis(_sums(values, cells, weights) if price else worth, best, 0).sum((0, 2))  # (bins, 1 + resamples)
    spent = np.take_along_axis(_sums(costs, cells, weights[:, :1]), best[..., :1], 0)
    chosen = first_best(worth.sum(2))  # (bins, 1 + resamples)
    return Fitted(
        values[best[0, numbers, fold, 0], np.arange(len(bins))],
        right.sum(0) / values.shape[1],
        {name: _of_bin(right[i], weights[numbers == i].sum(0)) for i, name in enumerate(names)},
        {name: first[i] for name, i in zip(names, chosen[:, 0])},
        dict(zip(names, (chosen[:, 1:] == chosen[:, :1]).mean(1).tolist())),
        float(spent.sum()) / values.shape[1],
    )


def _sums(values: np.ndarray, cells: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Sums of ``(candidates, problems)`` values over the problems of each bin and fold, ``(candidates, bins, folds, resamples)``.

    ``cells`` holds the problems of each bin's folds, ``weights`` is ``(problems, resamples)``. Resamples come last, since NumPy reduces
    over a short first axis several times faster than over a short one in the midst.
    """
    sums = np.empty((len(values), len(cells), weights.shape[1]))
    for place, inside in enumerate(cells):
        sums[:, place] = values[:, inside] @ weights[inside]
    return sums.reshape(len(values), -1, FOLDS, weights.shape[1])


def _best(sums: np.ndarray, crossed: bool) -> np.ndarray:
    """The candidate to use in each bin and fold, ``(1, bins, folds, resamples)``, chosen on the other folds or on all."""
    whole = sums.sum(2, keepdims=True)
    seen = whole - sums if crossed else np.broadcast_to(whole, sums.shape)
    # Where the other folds cannot tell a bin's candidates apart, what is best over all their bins.
    unknown = (np.abs(seen - seen[:1]) <= EQUAL).all(0)
    return first_best(np.where(unknown, seen.sum(1, keepdims=True), seen))[None]


def first_best(sums: np.ndarray) -> np.ndarray:
    """The first candidate, along the first axis, with the highest sum. Sums that differ only by the order of their addends are equal:
    processors add in different orders, and none may change a result."""
    return (sums >= sums.max(0) - EQUAL).argmax(0)


def _of_bin(right: np.ndarray, count: np.ndarray) -> Interval:
    """The interval of a bin's accuracy, by the rule of :func:`tts.analysis.stats.of_accuracy`."""
    if rare(right[0], count[0]):
        return wilson(right[0], int(count[0]))
    held = count > 0  # a resample may hold no problem of a small bin
    return interval(right[held] / count[held])


@dataclass(frozen=True)
class Gain:
    """How many times less compute-optimal TTS needs."""

    bound: str  # "", ">" where TTS is that accurate at its smallest budget already, "<" where it never is
    interval: Interval  # the gain with its 95 % interval; censored resamples enter with their bound
    peak: float  # budget at which majority voting is at its best
    fewest: float  # smallest budget of TTS; where it is no smaller, the gain cannot come out above 1

    @property
    def untested(self) -> str:
        """Why the gain says nothing, if so; no longer than a notebook's cell shows."""
        return f"majority is at its best with {self.peak:.4g}, the fewest are {self.fewest:.4g}" if self.peak <= self.fewest else ""

    def __str__(self) -> str:
        told = f"{self.bound}{self.interval.estimate:.3g} [{self.interval.low:.3g}, {self.interval.high:.3g}]"
        return "not tested" if self.untested else told


def efficiency_gain(
    budgets: Sequence[float], majority: np.ndarray, standard_error: float, tts_budgets: Sequence[float], tts: np.ndarray
) -> Gain:
    """Budget at which majority voting peaks, over the one at which compute-optimal TTS is as accurate (Liu et al. 2025, Table 5).

    Budgets of both are in samples or in tokens, rising; accuracies are ``(budgets, 1 + resamples)``, on the same resamples. The peak is
    the smallest budget within one standard error of majority's maximum, since a curve that has flattened peaks anywhere; TTS is
    interpolated over the logarithm of the budget.

    The interval is the union of those given each peak that occurs in one resample of 200 or more, which are of 96 % where there are
    several: percentiles over resamples with different peaks lie in the midst of the gains given one, and covered one truth of eight less.
    """

    logarithms = np.log(tts_budgets)
    peaks = (majority >= majority.max(0) - standard_error).argmax(0)

    def gains(peak: int) -> np.ndarray:
        """The gain where majority peaks at this budget, ``(1 + resamples,)``."""
        target = majority[peak]
        enough = tts >= target
        at, every = enough.argmax(0), np.arange(tts.shape[1])
        before = np.maximum(at - 1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):  # of those whose gain is a bound
            share = np.clip((target - tts[before, every]) / (tts[at, every] - tts[before, every]), 0, 1)
        needed = np.exp(logarithms[before] + share * (logarithms[at] - logarithms[before]))
        needed = np.where(enough[0], tts_budgets[0], np.where(enough.any(0), needed, tts_budgets[-1]))
        return budgets[peak] / needed

    reached = tts[:, 0] >= majority[peaks[0], 0]
    bound = ">" if reached[0] else "" if reached.any() else "<"
    estimate = float(gains(peaks[0])[0])
    often = [peak for peak in np.unique(peaks) if (peaks == peak).mean() >= 0.005]
    given = [gains(peak)[1:] for peak in often]
    ends = np.percentile(given, [2, 98] if len(often) > 1 else [2.5, 97.5], axis=1)
    method = "bootstrap over problems, majority's peak and the choice of a strategy repeated in each resample"
    return Gain(bound, Interval(estimate, float(ends.min()), float(ends.max()), method), budgets[peaks[0]], tts_budgets[0])
