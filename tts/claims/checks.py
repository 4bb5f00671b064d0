"""The study's claims as contrasts of measured accuracies, each with its interval.

A check of :data:`CHECKS` takes a :class:`Scope` and its parameters from ``claims.yaml``. Policies are averaged within a problem, so that an
interval is one over problems.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, with_config
from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

from tts.analysis import pathologies, stats
from tts.analysis.stats import FEW, FEWEST_PROBLEMS, Interval
from tts.claims.comparisons import size_pairs
from tts.claims.finding import Finding, least_certain, most_certain
from tts.claims.scope import NotTested, Scope
from tts.common.names import short
from tts.generate import labelled
from tts.models.files import folder_of, read_card, weights_hash
from tts.models.locate import locate
from tts.reward_models import is_model, weights_of
from tts.reward_models.rules import owners
from tts.search.registry import method_of, prm_of
from tts.store.imported import is_imported
from tts.strategy import choices
from tts.strategy.compute_optimal import Resampled, interval, resampled_means
from tts.tasks import task_of
from tts.tasks.selection import RULES, Rule

Size = Literal["small", "middle", "large"]
Bin = Literal["easy", "medium", "hard"]
Share = Annotated[float, Field(gt=0, lt=1)]
Method = Annotated[str, AfterValidator(lambda name: method_of(name).name)]


def _is_rule(given: dict[str, str]) -> dict[str, str]:
    if set(given) != set(Rule._fields) or Rule(**given) not in RULES:
        raise ValueError(f"give {' and '.join(Rule._fields)} of one of the rules {', '.join(map(str, RULES))}")
    return given


SomeRule = Annotated[dict[str, str], AfterValidator(_is_rule)]


@with_config(extra="forbid")
class Where(TypedDict, total=False):
    """A circumstance: policies of a size class, else the searchers; problems of some bins, else all."""

    size: Size
    bins: list[Bin]


def advantage(scope: Scope, method: Method, over: Method, size: Size | None = None, bins: Sequence[Bin] = ()) -> Finding:
    """How much more accurate a method is than another, averaged over the policies and on the problems of :func:`_differences`."""
    columns, named = _differences(scope, method, over, size, bins)
    problems = f" on {' and '.join(bins)} problems" if bins else ""
    contrast = stats.bootstrap(columns, _average, more=_two_each(columns))
    return Finding.of(contrast, "points", f"{method} - {over}{problems}, {named}")


def advantage_in_each(
    scope: Scope, method: Method, over: Method, bins: Annotated[Sequence[Bin], Field(min_length=1)], size: Size | None = None
) -> Finding:
    """As :func:`advantage`, in that of the ``bins`` in which it is least certain."""
    return least_certain([advantage(scope, method, over, size, [name]) for name in bins])


def interaction(scope: Scope, method: Method, over: Method, first: Where, second: Where) -> Finding:
    """By how much more a method is better than another in a first circumstance than in a second."""
    from scipy.linalg import block_diag  # takes a tenth of a second, which other checks need not

    sides, ends = [], []
    for where in (first, second):
        columns, named = _differences(scope, method, over, **where)
        place = f"{named}; {' and '.join(where['bins'])}" if where.get("bins") else named
        sides.append(columns)
        ends.append(f"{_average(columns.mean(0)):+.1%} ({place})")
    cut, more = sides[0].shape[1], block_diag(*map(_two_each, sides))
    contrast = stats.bootstrap(np.hstack(sides), lambda means: _average(means[..., :cut]) - _average(means[..., cut:]), more=more)
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


def _two_each(columns: np.ndarray) -> np.ndarray:
    """Further rows of :func:`_differences` for :func:`.stats.bootstrap`: where few problems count (:func:`.stats.alike`), two a policy.

    Without them an interval covered 19 to 94 % there, with them 94 % and more.
    """
    policies, inside = np.eye(columns.shape[1] // 2), columns[:, 1::2]
    rows = np.vstack([np.stack([sign * policies, policies], 2).reshape(len(policies), -1) for sign in (1, -1)])
    return rows if stats.alike((np.abs(columns[:, ::2]) / inside.mean(0)).sum(1)) else rows[:0]


def _gain(scope: Scope, policy: str, method: str, over: str, prm: str) -> np.ndarray:
    """What a method gains over another on each problem, ``(problems,)``."""
    return scope.values(policy, method, prm_of(method, prm)) - scope.values(policy, over, prm_of(over, prm))


def _average(means: np.ndarray) -> np.ndarray:
    """Mean over policies of the differences on the problems that count, from means of the columns of :func:`_differences`."""
    return (means[..., ::2] / np.maximum(means[..., 1::2], 1e-12)).mean(-1)


def gain_by_size(scope: Scope, method: Method, over: Method) -> Finding:
    """By how much what a method gains over another falls per tenfold size: the slope over all policies, its sign turned."""
    gains, missing = {}, ""
    for policy in scope.policies:
        try:
            gains[policy] = _gain(scope, policy, method, over, scope.good_prm)
        except NotTested as reason:
            missing = str(reason)
    x = _decades(scope, list(gains), missing)
    columns = np.stack(list(gains.values()), 1)
    shown = ", ".join(f"{short(policy)} {gain.mean():+.1%}" for policy, gain in gains.items())
    detail = f"{method} - {over} falls so much per tenfold size: {shown}, with {short(scope.good_prm)}"
    return Finding.of(stats.bootstrap(columns, lambda means: -(means @ x) / (x @ x)), "points", detail)


def _decades(scope: Scope, policies: Sequence[str], missing: str = "") -> np.ndarray:
    """Common logarithms of the sizes, less their mean; for a slope there must be three."""
    if len(policies) < 3:
        raise NotTested(missing or f"a slope over sizes needs three policies; there are {len(policies)}")
    logs = np.log10([scope.size(policy) for policy in policies])
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
    x = _decades(scope, solving, f"a slope needs three policies that solve {FEW} problems alone; there are {len(solving)}")
    ways = {policy: (scope.with_tts(policy).estimates, resampled_means(alone[policy])) for policy in solving}
    shown = ", ".join(f"{short(policy)} {100 * tts[0]:.1f}/{100 * cot[0]:.1f}" for policy, (tts, cot) in ways.items())
    detail = f"TTS/CoT falls so many times per tenfold size, of {len(solving)} policies that solve {FEW} problems alone; in %: {shown}"
    return Finding.of(fall(ways.values(), x, 0.5 / scope.problems), "ratio", detail, 1.0)


def fall(ways: Iterable[tuple[np.ndarray, np.ndarray]], x: np.ndarray, floor: float) -> Interval:
    """By what factor one accuracy over another falls per unit of ``x``, which has the mean 0; each ``(1 + resamples,)``, floored."""
    logs = np.stack([np.log(np.maximum(first, floor) / np.maximum(second, floor)) for first, second in ways], 1)
    return interval(np.exp(-logs @ x / (x @ x)))


def small_over_large(scope: Scope, ratio: Annotated[float, Field(gt=1)], of: Literal["parameters", "flops"] = "parameters") -> Finding:
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
        findings.append(Finding.of(bounds, "points", detail))
    return most_certain(findings)


def compute_optimal_over_majority(scope: Scope) -> Finding:
    """The cross-fitted compute-optimal strategy less majority voting, for the policy for which that is least certain."""
    differences = {p: (scope.with_tts(p) - Resampled.of(scope.values(p, "majority"))).difference for p in scope.policies}
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
        if gain.untested:
            best = f"majority voting of {short(policy)} is at its best with {gain.peak:g} samples"
            peak = f"{best}; the fewest of a search are {gain.fewest:g}"
            continue
        findings.append(Finding.of(gain.interval, "ratio", detail, 1.0, bound=gain.bound or "="))
    if not findings:
        raise NotTested(peak)
    return least_certain(findings)


def gain_by_prm(scope: Scope, method: Method, over: Method | Literal[""] = "") -> Finding:
    """The slope of a method's accuracy, or of its gain over another, over ln F1 of error localisation (Liu et al. 2025, Fig 6)."""
    columns = {prm: _with_prm(scope, prm, method, over) for prm in _quality(scope)}
    return _over_quality(scope, columns, f"{method} - {over}" if over else f"accuracy of {method}")


def voting(scope: Scope, first: SomeRule, second: SomeRule) -> Finding:
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


def poor_prms(scope: Scope, method: Method, over: Method) -> Finding:
    """How much more accurate a method is than another with the PRMs that play the weak part, which are few, averaged over the searchers."""
    poor = scope.poor_prms()
    columns = np.stack([_with_prm(scope, prm, method, over) for prm in poor], 1)
    detail = f"{method} - {over}: {', '.join(f'{short(prm)} {y:+.1%}' for prm, y in zip(poor, columns.mean(0)))}"
    if len(poor) == 1:
        return Finding.of(stats.of_difference(columns[:, 0]), "points", f"{detail}; one PRM")
    return Finding.of(stats.of_few(columns), "points", f"{detail}; {len(poor)} PRMs", df=len(poor) - 1)


def _with_prm(scope: Scope, prm: str, method: str, over: str = "") -> np.ndarray:
    """A method's accuracy with a PRM, or its gain over another method's, averaged over the searchers, ``(problems,)``."""
    values = scope.of_searchers(method, prm)
    return values - scope.of_searchers(over, prm) if over else values


def _quality(scope: Scope) -> dict[str, float]:
    """F1 of error localisation of each PRM that has one above 0; there must be three different ones."""
    if any(map(is_imported, scope.prms)):
        raise NotTested("how well imported PRMs locate errors is not in the data")
    name = task if (task := task_of(scope.problem_sets[0]).name) in labelled.own() else labelled.POCKET
    measured = {prm: scope.fact(("F1", prm, name), partial(localisation_f1, prm, name)) for prm in scope.prms if len(scope.prms) > 2}
    found = {prm: f1 for prm, f1 in measured.items() if f1 > 0}
    if (different := len(set(found.values()))) < 3:
        raise NotTested(f"a slope over PRMs needs three of different F1; there are {different or len(scope.prms)}")
    return found


def localisation_f1(prm: str, solutions: str = labelled.POCKET) -> float:
    """A PRM's F1 of error localisation, from its card where it has one, else measured on a labelled set."""
    if owners(prm):
        return 0.0  # a rule judges no step
    found = on_card(prm, solutions).get("localisation F1")
    return _measured_f1(prm, weights_of(prm), solutions) if found is None else found


def on_card(prm: str, solutions: str) -> dict[str, float]:
    """How well a PRM judges a labelled set, as its card says; empty where that is of another set, or of other weights."""
    return _on_card(prm, weights_of(prm), solutions) if is_model(prm) and prm.rpartition(":")[0] in ("", "implicit") else {}


@lru_cache(256)  # likewise
def _on_card(prm: str, weights: str, solutions: str) -> dict[str, float]:
    card = read_card(folder := locate(prm.rpartition(":")[2]))
    domain = card.get("domain", "arithmetic")
    if "results" not in card or solutions != (labelled.POCKET if domain == "arithmetic" else f"{labelled.POCKET}-{domain}"):
        return {}
    results = card["results"].get("as implicit PRM", {}) if ":" in prm else card["results"]
    return results if card["weights_sha256"] == weights_hash(folder_of(folder)) else {}


@lru_cache  # every reading of a scope asks, and judging takes seconds
def _measured_f1(prm: str, weights: str, name: str) -> float:
    """F1 of a PRM of these weights: other weights under its name are judged anew."""
    return pathologies.judge(prm, labelled.read("test", name), name).f1


def external_over_internal(scope: Scope) -> Finding:
    """Plain policies with test-time scaling less their long-CoT counterparts with CoT, averaged over the pairs."""
    if not scope.long:
        raise NotTested("no policy has a long-CoT counterpart of its size")
    pairs = [scope.with_tts(plain) - Resampled.of(scope.values(other, "cot")) for plain, other in scope.long.items()]
    mean = Resampled(np.mean([pair.values for pair in pairs], 0), np.mean([pair.estimates for pair in pairs], 0))
    detail = f"{', '.join(map(short, scope.long))} with TTS and {short(scope.good_prm)} less their long-CoT counterparts with CoT"
    return Finding.of(mean.difference, "points", detail)


def mostly_solved(scope: Scope, pass_at_1: Share, above: Share) -> Finding:
    """The share of problems that the largest policy solves in more than ``pass_at_1`` of its samples; above a share or not."""
    largest, here = scope.policies[-1], scope.on(scope.problem_sets[0])
    solved = here.counted(largest) > pass_at_1
    if largest not in scope.of_size("large"):
        raise NotTested(f"{short(largest)} is no large policy")
    share = stats.wilson(int(solved.sum()), len(solved))
    return Finding.of(share, "share", f"problems with Pass@1 above {pass_at_1:.0%}, {short(largest)}", above)


CHECKS: dict[str, Callable[..., Finding]] = {
    check.__name__: check
    for check in (
        advantage, advantage_in_each, compute_optimal_over_majority, efficiency, external_over_internal, gain_by_prm, gain_by_size,
        interaction, mostly_solved, poor_prms, relative_gain, small_over_large, voting,
    )
}  # fmt: skip
WITHOUT_RULE = {"mostly_solved", "voting"}
"""Checks that no selection rule changes, or that name their own."""
