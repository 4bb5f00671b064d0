"""The study's claims as contrasts of accuracies, measured or published, each with its interval.

A check of :data:`CHECKS` takes a :class:`Scope` and its parameters from ``claims.yaml``, and returns a :class:`Finding`. Policies are
averaged within a problem, so that the interval is one over problems. A check of :data:`PUBLISHED` takes parameters only; its
accuracies count as :func:`tts.claims.published.combination` says.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from functools import partial
from statistics import NormalDist
from typing import Any, Self

import numpy as np

from tts.analysis import costs, pathologies, stats
from tts.analysis.stats import FEWEST_PROBLEMS, Interval
from tts.claims import published
from tts.claims.scope import NotTested, Scope
from tts.common.names import short
from tts.generate import labelled
from tts.models.files import read_card
from tts.models.locate import locate
from tts.search.registry import compared, prm_of
from tts.store.imported import is_imported
from tts.strategy import choices
from tts.strategy.compute_optimal import fit, interval, resampled_means
from tts.tasks.selection import Rule


@dataclass(frozen=True)
class Finding(Interval):
    """The contrast of a check with its interval, whose method is ``exact`` for a ratio of known numbers."""

    unit: str  # points (of accuracy, as a share of 1), ratio or share
    detail: str  # what was compared
    margin: float = 0.0  # the claim is that the contrast lies above it
    bound: str = "="  # > or < where the contrast is only known to lie beyond the estimate

    @classmethod
    def of(cls, interval: Interval, unit: str, detail: str, margin: float = 0.0, bound: str = "=") -> Self:
        return cls(*astuple(interval), unit, detail, margin, bound)


def advantage(scope: Scope, method: str, over: str, **where: Any) -> Finding:
    """How much more accurate a method is than another, averaged over the policies and on the problems of :func:`_differences`."""
    columns, named = _differences(scope, method, over, **where)
    problems = f" on {' and '.join(where['bins'])} problems" if where.get("bins") else ""
    return Finding.of(stats.bootstrap(columns, _average), "points", f"{method} - {over}{problems}, {named}")


def interaction(scope: Scope, method: str, over: str, first: dict, second: dict) -> Finding:
    """By how much more a method is better than another in a first circumstance than in a second, each as in :func:`_differences`."""
    sides, ends = [], []
    for where in (first, second):
        columns, named = _differences(scope, method, over, **where)
        place = f"{named}; {' and '.join(where['bins'])}" if where.get("bins") else named
        sides.append(columns)
        ends.append(f"{_average(columns.mean(0)):+.1%} ({place})")
    cut = sides[0].shape[1]
    contrast = stats.bootstrap(np.hstack(sides), lambda means: _average(means[..., :cut]) - _average(means[..., cut:]))
    return Finding.of(contrast, "points", f"{method} - {over}: {' less '.join(ends)}")


def _differences(
    scope: Scope, method: str, over: str, size: str | None = None, prm: str = "good", bins: Sequence[str] = ()
) -> tuple[np.ndarray, str]:
    """Accuracy of a method less another's, for the policies of a size class or else the searchers, with the PRM of a part.

    ``(problems, 2 * policies)``: of each policy its differences, 0 on problems of other bins, and whether the problem counts for it,
    1 or 0; and the policies and the PRM in words.
    """
    name = scope.prm(prm)
    columns, used, missing = [], [], ""
    for policy in scope.of_size(size) if size else scope.searchers:
        try:
            difference = scope.values(policy, method, prm_of(method, name)) - scope.values(policy, over, prm_of(over, name))
            inside = np.isin(scope.bins(policy), bins) if bins else np.ones(len(difference), bool)
        except NotTested as reason:
            missing = str(reason)
            continue
        if inside.sum() >= FEWEST_PROBLEMS:
            columns += [difference * inside, inside]
            used.append(short(policy))
    if not used:
        raise NotTested(missing or f"fewer than {FEWEST_PROBLEMS} problems in {' and '.join(bins or ['all'])} for any policy")
    return np.stack(columns, 1), f"{', '.join(used)} with {short(name)}"


def _average(means: np.ndarray) -> np.ndarray:
    """Mean over policies of the differences on the problems that count, from means of the columns of :func:`_differences`."""
    return (means[..., ::2] / np.maximum(means[..., 1::2], 1e-12)).mean(-1)


def small_over_large(scope: Scope, ratio: float, of: str = "parameters") -> Finding:
    """The largest policy of ``ratio`` times fewer ``parameters`` or total ``flops`` than the largest, with TTS, less that one with CoT."""
    *smaller, large = scope.policies
    times = {policy: _times(scope, policy, large, of) for policy in smaller}
    fitting = [policy for policy in smaller if times[policy] >= ratio]
    if not fitting:
        raise NotTested(f"no policy has {ratio:g} times fewer {of} than {short(large)}; the most is {max(times.values(), default=1):.3g}")
    small = fitting[-1]
    tts = _with_tts(scope, small)
    detail = f"{short(small)} with TTS {tts[0]:.1%} less {short(large)} with CoT, {times[small]:.3g} times the {of}"
    return Finding.of(interval(tts - resampled_means(scope.values(large, "cot"))), "points", detail)


def _times(scope: Scope, small: str, large: str, of: str) -> float:
    """How many times more of ``of`` the larger policy with CoT takes than the smaller, of FLOPs with best-of-N."""
    if of == "parameters":
        return costs.shape_of(large).parameters / costs.shape_of(small).parameters
    prm = scope.good_prm
    tts = costs.cost(scope.holder(small, "best_of_n", prm), scope.problem_set, small, prm, "best_of_n", scope.n, full=False)
    cot = costs.cost(scope.holder(large, "cot"), scope.problem_set, large, None, "cot", 1, full=False)
    return cot.total / tts.total


def _with_tts(scope: Scope, policy: str) -> np.ndarray:
    """Accuracy with the best method that ran with the good PRM, cross-fitted, by difficulty where counted, ``(1 + resamples,)``."""
    values = []
    for method in compared(study=True):
        with suppress(NotTested):
            values.append(scope.values(policy, method, prm_of(method, scope.good_prm)))
    if not values:
        raise NotTested(f"no run of {short(policy)} with {short(scope.good_prm)} at N = {scope.n}")
    bins = scope.bins(policy) if policy in scope.pass_at_1 else ["all"] * scope.count
    return fit(np.stack(values), bins).estimates


def compute_optimal_over_majority(scope: Scope) -> Finding:
    """The cross-fitted compute-optimal strategy less majority voting, for the policy for which that is least certain."""
    differences = {p: interval(_with_tts(scope, p) - resampled_means(scope.values(p, "majority"))) for p in scope.policies}
    among = f"least certain of {len(differences)} policies"
    findings = [Finding.of(difference, "points", f"{among}: {short(p)}") for p, difference in differences.items()]
    return min(findings, key=certainty)


def certainty(finding: Finding) -> float:
    """How many standard errors a contrast lies above its margin; the error is that of the interval's side towards the margin."""
    above = finding.estimate - finding.margin
    if above == 0:
        return 0.0
    error = (finding.estimate - finding.low if above > 0 else finding.high - finding.estimate) / NormalDist().inv_cdf(0.975)
    return above / error if error > 0 else np.inf * np.sign(above)


def relative_gain(scope: Scope) -> Finding:
    """The relative gain of compute-optimal test-time scaling over CoT, of the smallest policy less that of the largest."""
    if len(scope.policies) < 2:
        raise NotTested(f"there is one policy, {short(scope.policies[0])}")
    gains = {}
    for policy in (scope.policies[0], scope.policies[-1]):
        cot = resampled_means(scope.values(policy, "cot"))
        gains[policy] = _with_tts(scope, policy) / np.maximum(cot, 0.5 / scope.count) - 1  # half a problem where CoT solves none
    detail = ", ".join(f"{gain[0]:+.0%} for {short(policy)}" for policy, gain in gains.items())
    return Finding.of(interval(np.subtract(*gains.values())), "share", detail)


def efficiency(scope: Scope) -> Finding:
    """How many times fewer samples than majority voting, for the searcher for which that is least certain; above 1 or not."""
    findings = []
    for policy in scope.searchers:
        grid = scope.holder(policy, "majority").grid
        candidates, at = choices.choices(grid.methods, [grid.rule]), choices.Setting(scope.problem_set, policy, scope.good_prm, scope.n)
        gain = choices.efficiency(scope.holder(policy, "best_of_n", scope.good_prm), at, candidates, scope.bins(policy))["in samples"]
        detail = f"{short(policy)} with {short(scope.good_prm)}: {gain}"
        findings.append(Finding.of(gain.interval, "ratio", detail, 1.0, gain.bound or "="))
    return min(findings, key=certainty)


def prm_quality(scope: Scope, method: str) -> Finding:
    """The slope of accuracy over ln F1 of error localisation, averaged over the searchers (Liu et al. 2025, Fig 6)."""
    if any(map(is_imported, scope.prms)):
        raise NotTested("how well imported PRMs locate errors is not in the data")
    if len(scope.prms) < 3:
        raise NotTested(f"a fit needs three PRMs; there are {len(scope.prms)}")
    f1 = np.array([localisation_f1(prm) for prm in scope.prms])
    if (different := len(set(f1[f1 > 0]))) < 3:
        raise NotTested(f"a fit needs three PRMs of different F1; there are {different}")
    columns = np.stack([scope.of_searchers(method, prm) for prm in scope.prms], 1)
    x = np.log(f1) - np.log(f1).mean()
    slope = stats.bootstrap(columns, lambda means: means @ x / (x @ x))
    named = ", ".join(f"{short(prm)} {value:.2f}" for prm, value in zip(scope.prms, f1))
    return Finding.of(slope, "points", f"accuracy per unit of ln F1; F1: {named}")


def localisation_f1(prm: str) -> float:
    """A PRM's F1 of error localisation, from its card where it has one, else measured."""
    family, _, name = prm.rpartition(":")
    results = read_card(locate(name)).get("results", {}) if family in ("", "implicit") else {}
    results = results.get("as implicit PRM", {}) if family else results
    return results["localisation F1"] if "localisation F1" in results else pathologies.judge(prm, labelled.read("test")).f1


def voting(scope: Scope, against: dict) -> Finding:
    """How far best-of-N moves between two rules with the weak PRM, less how far with the good one (Liu et al. 2025, Table 2)."""
    if not scope.other_rule:
        raise NotTested(f"no outcomes under the rule {Rule(**against)}")
    other = scope.model_copy(update={"evidence": scope.other_rule, "other_rule": scope.evidence})
    prms = scope.prm("weak"), scope.good_prm
    moves = np.stack([scope.of_searchers("best_of_n", prm) - other.of_searchers("best_of_n", prm) for prm in prms], 1)
    contrast = stats.bootstrap(moves, lambda means: np.abs(means[..., 0]) - np.abs(means[..., 1]))
    moved = " and ".join(f"{short(prm)} {move:+.1%}" for prm, move in zip(prms, moves.mean(0)))
    return Finding.of(contrast, "points", f"the rule instead of {Rule(**against)} moves best-of-N by: {moved}")


def external_over_internal(scope: Scope) -> Finding:
    """Plain policies with test-time scaling less their long-CoT counterparts with CoT, averaged over the pairs."""
    if not scope.long:
        raise NotTested("no policy has a long-CoT counterpart of its size")
    differences = [_with_tts(scope, plain) - resampled_means(scope.values(other, "cot")) for plain, other in scope.long.items()]
    detail = f"{', '.join(map(short, scope.long))} with TTS and {short(scope.good_prm)} less their long-CoT counterparts with CoT"
    return Finding.of(interval(np.mean(differences, 0)), "points", detail)


def mostly_solved(scope: Scope, pass_at_1: float, above: float) -> Finding:
    """The share of problems that the largest policy solves in more than ``pass_at_1`` of its samples; above a share or not."""
    largest = scope.policies[-1]
    solved = scope.counted(largest) > pass_at_1
    share = stats.wilson(int(solved.sum()), len(solved))
    return Finding.of(share, "share", f"problems with Pass@1 above {pass_at_1:.0%}, {short(largest)}", above)


def published_difference(name: str, first: str, second: str, column: str) -> Finding:
    """The difference of two rows of a table, in the column of a problem set; the detail says so where its sign is against the claim."""
    table = published.read(name).set_index("model")
    a, b = table.loc[first, column], table.loc[second, column]
    against = "" if a > b else "; the printed numbers themselves say the opposite" if a < b else "; the printed numbers are equal"
    detail = f"{first} {a:g} less {second} {b:g}, {published.PROBLEMS[column]} problems of {column}{against}"
    return Finding.of(published.combination([a, b], [1, -1], column), "points", detail)


def published_voting(first: str, second: str, high: str, low: str) -> Finding:
    """How far two rules lie apart under a first PRM, less how far under a second."""
    table = published.read("table2").set_index("method")
    values = [table.loc[rule, prm] for prm in (first, second) for rule in (high, low)]
    detail = f"{high} - {low}: {first} {values[0] - values[1]:.1f}, {second} {values[2] - values[3]:.1f} points"
    return Finding.of(published.combination(values, [1, -1, -1, 1], "MATH-500"), "points", detail)


def published_flops(first: str, second: str, times: float, column: str) -> Finding:
    """Whether a policy is more accurate than another and takes ``times`` fewer total FLOPs: of these two halves the less certain one.

    The accuracies are those of Table 3 in the column of a problem set; the FLOPs, of Table 4, are known exactly.
    """
    total = published.read("table4").set_index("model")["total_flops"]
    ratio = float(total[second] / total[first])
    accuracy = published_difference("table3", first, second, column)
    counted = f"{second} {total[second]:.3g} over {first} {total[first]:.3g} FLOPs, {ratio:.3g} times"
    flops = Finding(ratio, ratio, ratio, "exact", "ratio", "", times)
    return replace(min(accuracy, flops, key=certainty), detail=f"{accuracy.detail}; {counted}; of these two halves the less certain one")


def published_gain(first: str, second: str) -> Finding:
    """The difference of two columns of Table 5 for the policy for which it is least certain."""
    table, findings = published.read("table5"), []
    for _, row in table.iterrows():
        detail = f"least certain of {len(table)} policies: {row['model']} {row[first]} less {row[second]}"
        findings.append(Finding.of(published.combination([row[first], row[second]], [1, -1], "MATH-500"), "points", detail))
    return min(findings, key=certainty)


def published_relative_gain(first: str, second: str) -> Finding:
    """The relative gain over CoT of a first policy of Table 5 less that of a second; interval by the delta method."""
    table = published.read("table5").set_index("model").loc[[first, second]]
    cot, tts = table["cot"].to_numpy() / 100, table["compute_optimal_tts"].to_numpy() / 100
    gains = tts / cot - 1
    variances = (tts / cot) ** 2 * ((1 - tts) / (500 * tts) + (1 - cot) / (500 * cot))
    estimate, half = gains[0] - gains[1], 1.96 * np.sqrt(variances.sum())
    detail = f"{gains[0]:+.1%} for {first}, {gains[1]:+.1%} for {second}"
    return Finding(estimate, estimate - half, estimate + half, "delta method, as of independent samples", "share", detail)


def published_share(value: float, problems: int, above: float) -> Finding:
    """A published share of problems, in per cent; above another or not."""
    return Finding.of(stats.wilson(value / 100 * problems, problems), "share", f"{value:g} % of {problems} problems", above / 100)


CHECKS: dict[str, Callable[..., Finding]] = {
    check.__name__: check
    for check in (
        advantage, compute_optimal_over_majority, efficiency, external_over_internal, interaction, mostly_solved, prm_quality,
        relative_gain, small_over_large, voting,
    )
}  # fmt: skip
PUBLISHED: dict[str, Callable[..., Finding]] = {
    "relative_gain": published_relative_gain, "share": published_share, "table2": published_voting,
    "table3": partial(published_difference, "table3"), "table4": published_flops, "table5_all": published_gain,
    "table6": partial(published_difference, "table6"),
}  # fmt: skip
