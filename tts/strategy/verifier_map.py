"""How good must a verifier be? Which method wins where, with error rates dialled in on an exact step checker.

The map is made from dialled checkers (:mod:`tts.reward_models.dial`); a real PRM is placed on it by its measured rates, and the map
then says which method should win with it.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from scipy.interpolate import RegularGridInterpolator

from tts.analysis import committed, costs, stats
from tts.analysis.evidence import Evidence
from tts.generate.grid import Grid
from tts.models.files import pocket_models
from tts.reward_models.dial import rates
from tts.search.registry import METHODS, compared
from tts.strategy import choices

FALSE_POSITIVES = (0.0, 0.15, 0.3, 0.5, 0.7)
FALSE_NEGATIVES = (0.0, 0.05, 0.1, 0.2, 0.4)
AXES = ("false positive", "false negative")
POLICIES = ("policy-10k", "policy-32k", "policy-94k")


def committed_map(grid: Grid, n: int = 16) -> Evidence | None:
    """The dialled checkers' committed outcomes, with a grid's settings; None where there are none."""
    dials = [f"dial:{fp:g},{fn:g}" for fp, fn in product(FALSE_POSITIVES, FALSE_NEGATIVES)]
    return _held(grid, policies=list(POLICIES), prms=dials, methods=compared(study=True), samples=n, budgets=[4, n])


def real_cells(grid: Grid, prms: Sequence[str], n: int = 16) -> list[Evidence]:
    """Committed outcomes of real PRMs, one by one: of policies that ran every method, then all but those with a run for each budget."""
    every, outcomes = compared(study=True), []
    for prm, methods in product(prms, (every, [name for name in every if METHODS[name].part])):
        outcomes.append(_held(grid, policies=pocket_models("policy", "arithmetic"), prms=[prm], methods=methods, samples=n, budgets=[n]))
    return [evidence for evidence in outcomes if evidence]


def _held(grid: Grid, **changed: object) -> Evidence | None:
    return committed.committed(Grid(**(grid.model_dump() | changed)))


def winners(evidence: Evidence, problem_set: str, n: int) -> pd.DataFrame:
    """Accuracies at each point of the map, the best method, its lead over the second, and whether its 95 % interval lies above 0."""
    rows = []
    for policy, prm in product(evidence.grid.policies, evidence.grid.prms):
        values = {m: evidence.accuracy(problem_set, policy, prm, m, n) for m in evidence.grid.methods}
        first, second = sorted(values, key=lambda m: -values[m].mean())[:2]
        lead = stats.of_difference(values[first] - values[second])
        place = dict(zip(AXES, rates(prm)))
        accuracies = {m: v.mean() for m, v in values.items()}
        of = {"problems": problem_set, "count": len(values[first]), "policy": policy, "n": n}
        rows.append(of | place | accuracies | {"best": first, "lead": lead.estimate, "decided": lead.low > 0})
    return pd.DataFrame(rows)


class Prediction:
    """Accuracies read off the map: between its points linearly, by error rates and by the policy's own accuracy with CoT."""

    def __init__(self, evidence: Evidence, problem_set: str, n: int):
        skills = {p: evidence.accuracy(problem_set, p, None, "cot", 1).mean() for p in evidence.grid.policies}
        table = winners(evidence, problem_set, n).assign(skill=lambda t: t["policy"].map(skills))
        axes = [np.unique(table[name]) for name in ("skill", *AXES)]
        ordered = table.sort_values(["skill", *AXES])[evidence.grid.methods]
        self._methods, self._of = evidence.grid.methods, RegularGridInterpolator(axes, ordered.to_numpy().reshape(*map(len, axes), -1))

    def accuracies(self, skill: float, false_positive: float, false_negative: float) -> dict[str, float]:
        """Expected accuracy of each method; beyond the map's ends, that at its end."""
        point = [np.clip(x, axis[0], axis[-1]) for x, axis in zip((skill, false_positive, false_negative), self._of.grid)]
        return dict(zip(self._methods, self._of(point)[0].tolist()))


def regrets(
    evidence: Sequence[Evidence], problem_set: str, n: int, prediction: Prediction, places: dict[str, tuple[float, float]]
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """What choosing by the map costs against the best method, policy by policy and PRM by PRM, beside the study's rule.

    The map goes by ``places``, the error rates of real PRMs; the study's rule by the policy's size, difficulty unknown. Columns policy,
    prm, predicted, rule, best, regret of map, regret of rule, regret of always DVTS (in accuracy); and per strategy its regret on each
    problem, averaged over the cells.
    """
    rows, lost = [], []
    holders: dict[tuple[str, str], Evidence] = {}  # the first evidence that holds a policy and a PRM
    for held in evidence:
        for cell in product(held.grid.policies, (prm for prm in held.grid.prms if prm in places)):
            holders.setdefault(cell, held)
    for (policy, prm), held in holders.items():
        values = {m: held.accuracy(problem_set, policy, prm, m, n) for m in held.grid.methods}
        skill = held.accuracy(problem_set, policy, None, "cot", 1).mean()
        expected = prediction.accuracies(skill, *places[prm])
        wanted = choices.study_method(costs.study_share(policy), "medium")
        if wanted not in values:
            continue
        chosen = {"map": max(values, key=expected.get), "rule": wanted, "always DVTS": "dvts"}
        best = max(values, key=lambda m: values[m].mean())
        lost.append({name: values[best] - values[method] for name, method in chosen.items()})
        means = {f"regret of {name}": regret.mean() for name, regret in lost[-1].items()}
        rows.append({"policy": policy, "prm": prm, "predicted": chosen["map"], "rule": wanted, "best": best} | means)
    shortest = min((len(regret["map"]) for regret in lost), default=0)  # cells may hold different numbers of problems
    return pd.DataFrame(rows), {name: np.mean([regret[name][:shortest] for regret in lost], 0) for name in (lost[0] if lost else ())}
