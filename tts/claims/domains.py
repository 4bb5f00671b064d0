"""When does small beat large? How far a policy reaches with each verifier, beside how well that verifier tells right solutions from wrong.

A domain is a scope of the ledger whose task has labelled solutions. A verifier's *gap* is how well it tells right solutions from wrong ones
(AUC) over how often the policy that it was made from is right alone: where checking is as hard as making, both are good together.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from tts.analysis import committed, costs, flops, pathologies, stats
from tts.claims import checks, findings, released
from tts.claims.comparisons import CLAIMS, equalled
from tts.claims.finding import Finding
from tts.claims.scope import NotTested, Scope
from tts.claims.wording import formatted
from tts.generate import labelled
from tts.generate.grid import Grid
from tts.models.files import pocket_models
from tts.reward_models.rules import owners
from tts.search.registry import prm_of
from tts.strategy import verifier_map
from tts.strategy.compute_optimal import Resampled
from tts.tasks import task_named, task_of

DIAL, NONE = "verifier dial", "none (majority voting)"
COLUMNS = [
    "domain",
    "verifier",
    "problems",
    "count",
    "parameters",
    "AUC",
    "made from",
    "alone",
    "gap",
    "pairs",
    "decided",
    "small",
    "large",
    "times",
]
COLUMNS += ["TTS", "CoT", "difference", "low", "high", *CLAIMS]


def telling(prm: str, name: str, kept: Path | None = None) -> float:
    """How well a PRM tells right solutions from wrong ones: the area under the ROC curve of the product of its step scores.

    Of the test solutions of a labelled set, those of all the domain's policies: from the PRM's card where it has one, else measured;
    ``kept``: as in :func:`tts.generate.labelled.step_scores`.
    """
    if (found := checks.on_card(prm, name).get("AUC")) is None:
        solutions, task = labelled.read("test", name), task_named(name)
        by_rule = ((task.rule(prm, s.problem, task.join(s.steps)),) for s in solutions)  # of a whole solution
        found = pathologies.telling([*by_rule] if owners(prm) else labelled.step_scores(prm, solutions, kept=kept)[0], solutions)
    return found


def pairs(scope: Scope, method: str = "") -> pd.DataFrame:
    """Each policy with TTS against each larger one with CoT, on the main problem set, paired by problem.

    A larger policy that some smaller one equals alone is left out: to pass it says nothing about size. TTS is the best of all methods and
    rules with the scope's good PRM, cross-fitted, or one method, with it or without a PRM.

    Columns small, large, times (the size), TTS, CoT, difference, low, high, and p, two-sided and corrected over the pairs (Holm).
    """
    here, rows = scope.on(scope.problem_sets[0]), []
    size = {policy: scope.size(policy) for policy in scope.policies}
    alone = {policy: float(here.values(policy, "cot").mean()) for policy in scope.policies}
    passed = equalled(alone, size)
    for small, large in product(alone, (policy for policy in alone if policy not in passed)):
        with suppress(NotTested):
            if size[small] < size[large]:
                tts = Resampled.of(here.values(small, method, prm_of(method, scope.good_prm))) if method else here.with_tts(small)
                cot = Resampled.of(here.values(large, "cot"))
                found = Finding.of((tts - cot).difference, "points", "")
                sides = {"small": small, "large": large, "times": size[large] / size[small]}
                rows.append(sides | {"TTS": tts.values.mean(), "CoT": cot.values.mean()} | found.columns("difference") | {"p": found.p})
    table = pd.DataFrame(rows, columns=["small", "large", "times", "TTS", "CoT", "difference", "low", "high", "p"])
    return table.assign(p=stats.holm(table["p"]))


def reach(scope: Scope, method: str = "") -> dict:
    """Of :func:`pairs` the decided one of the largest ratio of sizes, with what it costs as :func:`tts.analysis.flops.against` says.

    Costs are the full ones, PRM and its training among them, of the method, else best-of-N, and of CoT. ``pairs`` and ``decided`` count
    pairs; only they are there where no pair is decided for the smaller policy.
    """
    table = pairs(scope, method)
    won = table[(table["p"] < 1 - stats.LEVEL) & (table["difference"] > 0)]
    counted = {"pairs": len(table), "decided": len(won)}
    if won.empty:
        return counted
    best = won.loc[won["times"].idxmax()]
    name, method = scope.problem_sets[0], method or "best_of_n"
    prm = prm_of(method, scope.good_prm)
    with_tts = costs.cost(scope.holder(best["small"], method, prm), name, best["small"], prm, method, scope.n, full=True)
    with_cot = costs.cost(scope.holder(best["large"], "cot"), name, best["large"], None, "cot", 1, full=True)
    return counted | best.drop("p").to_dict() | flops.against(with_tts, with_cot, scope.count(name))


def by_verifier(scopes: Mapping[str, Scope | None], kept: Path | None = None) -> pd.DataFrame:
    """One row for each PRM and rule of each domain among the scopes: :func:`telling`, the gap, :func:`reach`; columns :data:`COLUMNS`.

    The first row of a domain is of majority voting, which has no verifier.

    With a PRM that only the scope's searchers ran with, only they are the smaller ones of pairs.
    """
    rows = []
    for domain, scope in scopes.items():
        if not scope or (task := task_of(scope.problem_sets[0]).name) not in labelled.own():
            continue
        here = scope.on(scope.problem_sets[0])
        common = {"domain": domain, "problems": scope.problem_sets[0], "count": here.problems}
        rows.append(common | {"verifier": NONE} | reach(scope, "majority"))
        for prm in (*scope.prms, *scope.rules):
            base = costs.solver_of(prm)
            row = common | {"verifier": prm, "parameters": costs.shape_of(prm).parameters, "AUC": telling(prm, task, kept)}
            if base and base in scope.policies:
                row |= {
                    "made from": base,
                    "alone": (alone := here.values(base, "cot").mean()),
                    "gap": row["AUC"] / alone if alone else np.inf,
                }
            rows.append(row | reach(scope.changed(good_prm=prm), "best_of_n" if prm in scope.rules else ""))
    return pd.DataFrame(rows, columns=COLUMNS)


def dialled(grid: Grid, n: int = 16) -> dict[str, Scope | None]:
    """The committed outcomes of dialled checkers as a scope named :data:`DIAL`, with those of larger policies alone beside them."""
    arithmetic = grid.model_dump() | {"problems": {"pocket-main": 1}, "prms": [], "methods": ["majority"]}
    held = verifier_map.committed_map(Grid(**arithmetic), n)
    family = {"policies": costs.by_size(pocket_models("policy", "arithmetic"))}
    alone = committed.committed(Grid(**arithmetic | family | {"samples": 64, "budgets": [64]}))
    if not (held and alone):
        return {DIAL: None}
    roles = {"problem_sets": ["pocket-main"], "policies": alone.grid.policies, "searchers": held.grid.policies, "prms": held.grid.prms}
    return {DIAL: Scope(**roles, good_prm=held.grid.prms[0], n=n, evidence=[held, alone])}


def real(n: int = 10) -> pd.DataFrame:
    """Released pairs in the columns of :func:`by_verifier`: of GSM8K with a verifier, and of HumanEval's programs by their public tests.

    How well these verifiers tell, what they cost, and the size of gpt-3.5-turbo are not known. ``n``: programs a task.
    """
    solved = released.outcomes(released.table("gsm8k"), maths := ("6B with verifier", "175B"))
    rows, programs = released.table("programs"), ("codellama-34b-instruct", "gpt-3.5-turbo")
    passed, best = (
        released.of_programs(rows, k).pivot(index="task", columns="model", values=name) for name, k in (("passed", 1), ("best", n))
    )
    found = []
    for problems, verifier, (small, large), tts, cot in (
        ("GSM8K", "fine-tuned verifier", maths, solved[maths[0]], solved[maths[1]]),
        ("HumanEval", "tests:public", programs, best[programs[0]], passed[programs[1]]),
    ):
        contrast = Finding.of(stats.of_difference((tts - cot).to_numpy()), "points", "")
        row = {"domain": f"{problems} (released)", "verifier": verifier, "problems": problems, "count": len(tts), "pairs": 1}
        row |= {"decided": int(contrast.low > 0), "small": small, "large": large, "TTS": tts.mean(), "CoT": cot.mean()}
        found.append(row | contrast.columns("difference"))
    table = pd.DataFrame(found, columns=COLUMNS)
    small_size, large_size = (float(name.split("B")[0]) for name in maths)
    return table.assign(times=[large_size / small_size, np.nan])


def furthest(rows: pd.DataFrame) -> pd.DataFrame:
    """Of the rows of :func:`by_verifier` that of each domain's largest ratio, one column per domain."""
    largest = rows.loc[rows.dropna(subset="times").groupby("domain", sort=False)["times"].idxmax()]
    return largest.set_index("domain").drop(columns=["parameters", "made from"]).round(3).T


def ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation of the reach with the AUC, and with the gap, over the verifiers of :func:`by_verifier` that have both.

    A verifier that passes no larger policy reaches 1 time.
    """
    known = rows.dropna(subset=["AUC", "gap"])
    reached = known["times"].fillna(1)
    found = {name: {"rank correlation": known[name].corr(reached, "spearman"), "verifiers": len(known)} for name in ("AUC", "gap")}
    return pd.DataFrame(found).T


def everywhere(scopes: Mapping[str, Scope | None], grid: Grid, kept: Path | None = None) -> pd.DataFrame:
    """:func:`by_verifier` of the scopes and of :func:`dialled`, and :func:`real`."""
    return pd.concat([by_verifier({**scopes, **dialled(grid)}, kept), real().dropna(subset="times")], ignore_index=True)


def judged(ledger: findings.Ledger, scopes: Mapping[str, Scope | None], among: Iterable[str]) -> pd.DataFrame:
    """:func:`side_by_side` of the scopes among the names, judged now, without what other rules would say."""
    here = {name: scopes[name] for name in dict.fromkeys(among) if scopes.get(name)}
    return side_by_side(findings.judge(ledger, here, findings.by_rule(ledger, {})), [*here])


def side_by_side(ledger: pd.DataFrame, domains: Sequence[str]) -> pd.DataFrame:
    """Verdict and contrast of each claim in each domain, indexed by statement; of claims that at least two of them test, or one alone."""
    rows = ledger[ledger["scope"].isin(domains)]
    told = rows.assign(text=[f"{row['verdict']} {formatted(row)}".strip() for row in rows.to_dict("records")])
    table = told.pivot(index="statement", columns="scope", values="text").loc[rows["statement"].unique(), list(domains)]
    return table[(table != "not tested").sum(axis=1) >= min(2, len(domains))]
