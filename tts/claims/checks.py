"""The study's claims as contrasts of accuracies, measured or published, each with its interval.

A check of :data:`CHECKS` takes a :class:`Scope` and its parameters from ``claims.yaml``, one of :data:`PUBLISHED` the parameters only.
Policies are averaged within a problem, so that an interval is one over problems.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from functools import lru_cache, partial
from itertools import combinations
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import with_config
from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

from tts.analysis import costs, pathologies, stats
from tts.analysis.stats import FEW, FEWEST_PROBLEMS, Interval
from tts.claims import published
from tts.claims.scope import NotTested, Scope
from tts.common.names import short
from tts.generate import labelled
from tts.models.files import read_card
from tts.models.locate import locate
from tts.reward_models import weights_of
from tts.search.registry import prm_of
from tts.store.imported import is_imported
from tts.strategy import choices
from tts.strategy.compute_optimal import fit, interval, resampled_means
from tts.tasks.selection import Rule

Size = Literal["small", "middle", "large"]
Bin = Literal["easy", "medium", "hard"]


@with_config(extra="forbid")
class Where(TypedDict, total=False):
    """A circumstance: policies of a size class, else the searchers; problems of some bins, else all."""

    size: Size
    bins: list[Bin]


@dataclass(frozen=True)
class Finding(Interval):
    """The contrast of a check with its interval, whose method is ``exact`` for a ratio of known numbers."""

    unit: str  # points (of accuracy, as a share of 1), ratio or share
    detail: str  # what was compared
    margin: float = 0.0  # the claim is that the contrast lies above it
    bound: str = "="  # > or < where the contrast is only known to lie beyond the estimate
    tests: int = 1  # contrasts of which this is the one most certain to lie above the margin; below 0, the least certain of so many
    df: float = np.inf  # degrees of freedom of the interval, where it rests on few PRMs

    @classmethod
    def of(cls, interval: Interval, unit: str, detail: str, margin: float = 0.0, **more: Any) -> Self:
        return cls(*astuple(interval), unit, detail, margin, **more)

    @property
    def p(self) -> float:
        """Two-sided, from :func:`certainty`; on the side on which one of several suffices, times their number (Bonferroni)."""
        from scipy.special import stdtr  # takes a tenth of a second, and readers of a ledger need none

        beyond = certainty(self)
        return min(1.0, 2 * float(stdtr(self.df, -abs(beyond))) * max(1, self.tests * np.sign(beyond)))


def certainty(finding: Finding) -> float:
    """How many standard errors a contrast lies above its margin; the error is that of the interval's side towards the margin."""
    above = finding.estimate - finding.margin
    if above == 0:
        return 0.0
    ends = np.array([finding.margin, finding.estimate, finding.low, finding.high])
    if finding.unit == "ratio" and ends.min() > 0:
        ends = np.log(ends)  # on which a ratio's interval is even
    margin, estimate, low, high = ends
    error = (estimate - low if above > 0 else high - estimate) / stats.quantile(finding.df)
    return (estimate - margin) / error if error > 0 else np.inf * np.sign(above)


def advantage(scope: Scope, method: str, over: str, size: Size | None = None, bins: Sequence[Bin] = ()) -> Finding:
    """How much more accurate a method is than another, averaged over the policies and on the problems of :func:`_differences`."""
    columns, named = _differences(scope, method, over, size, bins)
    problems = f" on {' and '.join(bins)} problems" if bins else ""
    return Finding.of(stats.bootstrap(columns, _average), "points", f"{method} - {over}{problems}, {named}")


def advantage_in_each(scope: Scope, method: str, over: str, bins: Sequence[Bin], size: Size | None = None) -> Finding:
    """As :func:`advantage`, in that of the ``bins`` in which it is least certain."""
    return least_certain([advantage(scope, method, over, size, [name]) for name in bins])


def least_certain(findings: Sequence[Finding]) -> Finding:
    """Of contrasts that must all lie above their margins the one that is least certain to."""
    return replace(min(findings, key=certainty), tests=-len(findings))


def interaction(scope: Scope, method: str, over: str, first: Where, second: Where) -> Finding:
    """By how much more a method is better than another in a first circumstance than in a second."""
    sides, ends = [], []
    for where in (first, second):
        columns, named = _differences(scope, method, over, **where)
        place = f"{named}; {' and '.join(where['bins'])}" if where.get("bins") else named
        sides.append(columns)
        ends.append(f"{_average(columns.mean(0)):+.1%} ({place})")
    cut = sides[0].shape[1]
    contrast = stats.bootstrap(np.hstack(sides), lambda means: _average(means[..., :cut]) - _average(means[..., cut:]))
    return Finding.of(contrast, "points", f"{method} - {over}: {' less '.join(ends)}")


def _differences(scope: Scope, method: str, over: str, size: str | None = None, bins: Sequence[str] = ()) -> tuple[np.ndarray, str]:
    """Accuracy of a method less another's, for the policies of a size class or else the searchers, with the good PRM.

    ``(problems, 2 * policies)``: of each policy its differences, 0 on problems of other bins, and whether the problem counts for it,
    1 or 0; and the policies and the PRM in words.
    """
    columns, used, missing = [], [], ""
    asked = scope.of_size(size) if size else scope.searchers
    if not asked:
        raise NotTested(f"no policy of size {size}")
    for policy in asked:
        try:
            difference = _gain(scope, policy, method, over, scope.good_prm)
            inside = np.isin(scope.bins(policy), bins) if bins else np.ones(len(difference), bool)
        except NotTested as reason:
            missing = str(reason)
            continue
        if inside.sum() >= FEWEST_PROBLEMS:
            columns += [difference * inside, inside]
            used.append(short(policy))
    if not used:
        raise NotTested(missing or f"fewer than {FEWEST_PROBLEMS} problems in {' and '.join(bins or ['all'])} for any policy")
    return np.stack(columns, 1), f"{', '.join(used)} with {short(scope.good_prm)}"


def _gain(scope: Scope, policy: str, method: str, over: str, prm: str) -> np.ndarray:
    """What a method gains over another on each problem, ``(problems,)``."""
    return scope.values(policy, method, prm_of(method, prm)) - scope.values(policy, over, prm_of(over, prm))


def _average(means: np.ndarray) -> np.ndarray:
    """Mean over policies of the differences on the problems that count, from means of the columns of :func:`_differences`."""
    return (means[..., ::2] / np.maximum(means[..., 1::2], 1e-12)).mean(-1)


def gain_by_size(scope: Scope, method: str, over: str) -> Finding:
    """By how much what a method gains over another falls per tenfold size: the slope over all policies, its sign turned."""
    gains, missing = {}, ""
    for policy in scope.policies:
        try:
            gains[policy] = _gain(scope, policy, method, over, scope.good_prm)
        except NotTested as reason:
            missing = str(reason)
    x = _decades(list(gains), missing)
    columns = np.stack(list(gains.values()), 1)
    shown = ", ".join(f"{short(policy)} {gain.mean():+.1%}" for policy, gain in gains.items())
    detail = f"{method} - {over} falls so much per tenfold size: {shown}, with {short(scope.good_prm)}"
    return Finding.of(stats.bootstrap(columns, lambda means: -(means @ x) / (x @ x)), "points", detail)


def _decades(policies: Sequence[str], missing: str = "") -> np.ndarray:
    """Common logarithms of the sizes, less their mean; for a slope there must be three."""
    if len(policies) < 3:
        raise NotTested(missing or f"a slope over sizes needs three policies; there are {len(policies)}")
    logs = np.log10([costs.shape_of(policy).parameters for policy in policies])
    if np.isnan(logs).any():
        raise NotTested("the size of a policy is unknown")
    return logs - logs.mean()


def relative_gain(scope: Scope) -> Finding:
    """By what factor compute-optimal TTS over CoT falls per tenfold size: the slope of the logarithm; above 1 or not.

    Over all policies that solve :data:`FEW` problems with CoT: with those that solve fewer the interval covered 88 to 92 % of simulated
    runs of 100 and 300 problems, without them 94 to 96. Where one solves none of a resample, half a problem counts.
    """
    alone = {policy: scope.values(policy, "cot") for policy in scope.policies}
    solving = [policy for policy, values in alone.items() if values.sum() >= FEW]
    x = _decades(solving, f"a slope needs three policies that solve {FEW} problems alone; there are {len(solving)}")
    ways = {policy: (_with_tts(scope, policy), resampled_means(alone[policy])) for policy in solving}
    shown = ", ".join(f"{short(policy)} {100 * tts[0]:.1f}/{100 * cot[0]:.1f}" for policy, (tts, cot) in ways.items())
    detail = f"TTS/CoT falls so many times per tenfold size, of {len(solving)} policies that solve {FEW} problems alone; in %: {shown}"
    return Finding.of(fall(ways.values(), x, 0.5 / scope.problems), "ratio", detail, 1.0)


def fall(ways: Iterable[tuple[np.ndarray, np.ndarray]], x: np.ndarray, floor: float) -> Interval:
    """By what factor one accuracy over another falls per unit of ``x``, which has the mean 0; each ``(1 + resamples,)``, floored."""
    logs = np.stack([np.log(np.maximum(first, floor) / np.maximum(second, floor)) for first, second in ways], 1)
    return interval(np.exp(-logs @ x / (x @ x)))


def small_over_large(scope: Scope, ratio: float, of: Literal["parameters", "flops"] = "parameters") -> Finding:
    """Of the open pairs of :func:`size_pairs` that differ ``ratio`` times or more in size, or FLOPs, the one most certain to be above 0."""
    table = scope.keep("pairs", lambda: size_pairs(scope))
    times = "times" if of == "parameters" else "times fewer FLOPs"
    asked = table[table[times] >= ratio]
    if asked.empty:
        raise NotTested(f"no policy has {ratio:g} times fewer {of} than another; the most is {table[times].max():.3g}")
    if (among := asked[asked["open"]]).empty:
        best = asked.loc[asked["room"].idxmax()]
        raise NotTested(
            f"no outcome is open: at best {short(best['small'])} solves {best['most']:.0%} of {best['problems']} in any of {scope.n} "
            f"samples, {short(best['large'])} {best['CoT']:.0%} alone; fewer than {FEW} right or wrong decide nothing"
        )
    findings = []
    for row in among.to_dict("records"):
        pair = f"{short(row['small'])} with TTS {row['TTS']:.1%} less {short(row['large'])} with CoT {row['CoT']:.1%}, {row['problems']}"
        room = f"a perfect verifier of its pool would give {row['room']:+.1%}"
        detail = f"{pair}, {row[times]:.3g} times the {of}; {room}; most certain of {len(among)} open pairs of {len(asked)}"
        bounds = Interval(row["difference"], row["low"], row["high"], "bootstrap over problems, the choice repeated in each resample")
        findings.append(Finding.of(bounds, "points", detail, tests=len(among)))
    return max(findings, key=certainty)


def size_pairs(scope: Scope) -> pd.DataFrame:
    """Every policy with TTS against every larger one with CoT, on each problem set; one row per set and pair.

    Columns problems, small, large, times (in size), times fewer FLOPs (in total, the study's count, best-of-N), TTS, CoT, difference, low,
    high, most (Pass@N of the smaller: what a perfect verifier of its pool would give), room (that less the larger's CoT), and open, where
    neither outcome is certain before: there is room, the smaller is behind alone, the larger at neither end (:func:`.stats.rare`).
    """
    rows = []
    for here in map(scope.on, scope.problem_sets):
        name, ways = here.problem_sets[0], {}
        for policy in scope.policies:
            with suppress(NotTested):
                alone = resampled_means(here.values(policy, "cot"))
                ways[policy] = _with_tts(here, policy), alone, here.values(policy, "pass").mean(), *_sizes(here, policy)
        for small, large in combinations(ways, 2):
            (tts, alone, most, size, spent, _), (_, cot, _, larger, _, once) = ways[small], ways[large]
            row = {"problems": name, "small": small, "large": large, "times": larger / size, "times fewer FLOPs": once / spent}
            room = most - cot[0]
            row |= {"TTS": tts[0], "CoT": cot[0]} | interval(tts - cot).columns("difference") | {"most": most, "room": room}
            rows.append(row | {"open": bool(room > 0 and alone[0] < cot[0] and not stats.rare(cot[0] * here.problems, here.problems))})
    if not rows:
        raise NotTested("there are no two policies of different sizes with TTS")
    return pd.DataFrame(rows)


def pairs_of(scopes: Mapping[str, Scope | None]) -> pd.DataFrame:
    """:func:`size_pairs` of every scope that has any, with the column scope."""
    tables = []
    for name, scope in scopes.items():
        with suppress(NotTested):
            tables += [size_pairs(scope).assign(scope=name)] if scope else []
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["scope"])


def _sizes(scope: Scope, policy: str) -> tuple[float, float, float]:
    """A policy's parameters, and its total FLOPs with best-of-N and with CoT, by the study's count."""
    name, prm = scope.problem_sets[0], scope.good_prm
    tts = costs.cost(scope.holder(policy, "best_of_n", prm), name, policy, prm, "best_of_n", scope.n, full=False)
    cot = costs.cost(scope.holder(policy, "cot"), name, policy, None, "cot", 1, full=False)
    return costs.shape_of(policy).parameters, tts.total, cot.total


def _with_tts(scope: Scope, policy: str) -> np.ndarray:
    """Accuracy with the best of :meth:`Scope.candidates`, cross-fitted, by difficulty where counted, ``(1 + resamples,)``."""
    bins: Sequence[str] | np.ndarray = ["all"] * scope.problems
    with suppress(NotTested):
        bins = scope.bins(policy)
    return scope.keep(f"{policy} with TTS", lambda: fit(scope.candidates(policy), bins).estimates)


def compute_optimal_over_majority(scope: Scope) -> Finding:
    """The cross-fitted compute-optimal strategy less majority voting, for the policy for which that is least certain."""
    differences = {p: interval(_with_tts(scope, p) - resampled_means(scope.values(p, "majority"))) for p in scope.policies}
    among = f"least certain of {len(differences)} policies"
    return least_certain([Finding.of(difference, "points", f"{among}: {short(p)}") for p, difference in differences.items()])


def efficiency(scope: Scope) -> Finding:
    """How many times fewer samples than majority voting, for the searcher for which that is least certain; above 1 or not."""
    findings, here, peak = [], scope.on(scope.problem_sets[0]), ""
    for policy in scope.searchers:
        held = here.holder(policy, "best_of_n", scope.good_prm)
        candidates = choices.choices(held.grid.methods, here.rules_of(held, here.problem_sets[0], policy, scope.good_prm, "best_of_n"))
        at = choices.Setting(here.problem_sets[0], policy, scope.good_prm, scope.n)
        gain = choices.efficiency(held, at, candidates, here.bins(policy))["in samples"]
        detail = f"{short(policy)} with {short(scope.good_prm)}: {gain}"
        if gain.peak <= (fewest := min(held.grid.budgets)):  # it could not come out above 1
            peak = f"majority voting of {short(policy)} is at its best with {gain.peak:g} samples; the fewest of a search are {fewest}"
            continue
        findings.append(Finding.of(gain.interval, "ratio", detail, 1.0, bound=gain.bound or "="))
    if not findings:
        raise NotTested(peak)
    return least_certain(findings)


def gain_by_prm(scope: Scope, method: str, over: str = "") -> Finding:
    """The slope of a method's accuracy, or of its gain over another, over ln F1 of error localisation (Liu et al. 2025, Fig 6)."""
    columns = {prm: _with_prm(scope, prm, method, over) for prm in _quality(scope)}
    return _over_quality(scope, columns, f"{method} - {over}" if over else f"accuracy of {method}")


def voting(scope: Scope, first: dict[str, str], second: dict[str, str]) -> Finding:
    """By how much less best-of-N moves between two rules, whichever way, per unit of ln F1 of the PRM (Liu et al. 2025, Table 2)."""
    one, other = (scope.changed(rule=Rule(**rule)) for rule in (first, second))
    moves = {prm: _with_prm(one, prm, "best_of_n") - _with_prm(other, prm, "best_of_n") for prm in _quality(scope)}
    columns = {prm: move * np.sign(move.mean()) for prm, move in moves.items()}
    return _over_quality(scope, columns, f"{one.rule} instead of {other.rule} moves best-of-N so much less", -1)


def _over_quality(scope: Scope, columns: Mapping[str, np.ndarray], what: str, sign: int = 1) -> Finding:
    """The slope over ln F1 of error localisation of what each PRM gives, ``(problems,)``; or that slope with its sign turned.

    All PRMs of the scope, which are few: the interval is for other PRMs and other problems.
    """
    f1, values = _quality(scope), np.stack(list(columns.values()), 1)
    named = ", ".join(f"{short(prm)} {f1[prm]:.2f} {y:+.1%}" for prm, y in zip(columns, values.mean(0)))
    detail = f"{what} per unit of ln F1, {len(columns)} PRMs: {named}"
    return Finding.of(stats.of_few(sign * values, np.log(list(f1.values()))), "points", detail, df=len(columns) - 2)


def poor_prms(scope: Scope, method: str, over: str) -> Finding:
    """How much more accurate a method is than another with the PRMs that play the weak part, which are few, averaged over the searchers."""
    poor = scope.poor_prms()
    columns = np.stack([_with_prm(scope, prm, method, over) for prm in poor], 1)
    detail = f"{method} - {over}: {', '.join(f'{short(prm)} {y:+.1%}' for prm, y in zip(poor, columns.mean(0)))}"
    if len(poor) == 1:
        return Finding.of(stats.bootstrap(columns[:, 0]), "points", f"{detail}; one PRM")
    return Finding.of(stats.of_few(columns), "points", f"{detail}; {len(poor)} PRMs", df=len(poor) - 1)


def _with_prm(scope: Scope, prm: str, method: str, over: str = "") -> np.ndarray:
    """A method's accuracy with a PRM, or its gain over another method's, averaged over the searchers, ``(problems,)``."""
    values = scope.of_searchers(method, prm)
    return values - scope.of_searchers(over, prm) if over else values


def _quality(scope: Scope) -> dict[str, float]:
    """F1 of error localisation of each PRM that has one above 0; there must be three different ones."""
    if any(map(is_imported, scope.prms)):
        raise NotTested("how well imported PRMs locate errors is not in the data")
    found = {prm: f1 for prm in scope.prms if (f1 := localisation_f1(prm)) > 0} if len(scope.prms) > 2 else {}
    if (different := len(set(found.values()))) < 3:
        raise NotTested(f"a slope over PRMs needs three of different F1; there are {different or len(scope.prms)}")
    return found


def localisation_f1(prm: str) -> float:
    """A PRM's F1 of error localisation, from its card where it has one, else measured."""
    family, _, name = prm.rpartition(":")
    results = read_card(locate(name)).get("results", {}) if family in ("", "implicit") else {}
    results = results.get("as implicit PRM", {}) if family else results
    return results["localisation F1"] if "localisation F1" in results else _measured_f1(prm, weights_of(prm))


@lru_cache  # every reading of a scope asks, and judging takes seconds
def _measured_f1(prm: str, weights: str) -> float:
    """F1 of a PRM of these weights: other weights under its name are judged anew."""
    return pathologies.judge(prm, labelled.read("test")).f1


def external_over_internal(scope: Scope) -> Finding:
    """Plain policies with test-time scaling less their long-CoT counterparts with CoT, averaged over the pairs."""
    if not scope.long:
        raise NotTested("no policy has a long-CoT counterpart of its size")
    differences = [_with_tts(scope, plain) - resampled_means(scope.values(other, "cot")) for plain, other in scope.long.items()]
    detail = f"{', '.join(map(short, scope.long))} with TTS and {short(scope.good_prm)} less their long-CoT counterparts with CoT"
    return Finding.of(interval(np.mean(differences, 0)), "points", detail)


def mostly_solved(scope: Scope, pass_at_1: float, above: float) -> Finding:
    """The share of problems that the largest policy solves in more than ``pass_at_1`` of its samples; above a share or not."""
    largest, here = scope.policies[-1], scope.on(scope.problem_sets[0])
    solved = here.counted(largest) > pass_at_1
    if largest not in scope.of_size("large"):
        raise NotTested(f"{short(largest)} is no large policy")
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
    return least_certain(findings)


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
        advantage, advantage_in_each, compute_optimal_over_majority, efficiency, external_over_internal, gain_by_prm, gain_by_size,
        interaction, mostly_solved, poor_prms, relative_gain, small_over_large, voting,
    )
}  # fmt: skip
WITHOUT_RULE = {"mostly_solved", "voting"}
"""Checks that no selection rule changes, or that name their own."""
PUBLISHED: dict[str, Callable[..., Finding]] = {
    "relative_gain": published_relative_gain, "share": published_share, "table2": published_voting,
    "table3": partial(published_difference, "table3"), "table4": published_flops, "table5_all": published_gain,
    "table6": partial(published_difference, "table6"),
}  # fmt: skip
