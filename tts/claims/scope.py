"""What the checks of claims ask: how accurate a scope's policies are, and which PRM plays which part."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from tts.analysis import costs
from tts.analysis.evidence import Evidence, cells
from tts.analysis.stats import FEWEST_PROBLEMS
from tts.common.names import short
from tts.search.registry import compared, method_of, prm_of
from tts.store.imported import is_imported
from tts.strategy import choices, compute_optimal
from tts.tasks.problems import Split
from tts.tasks.selection import Rule


class NotTested(Exception):
    """A claim that a scope cannot test; the message says why."""


class Roles(BaseModel, extra="forbid"):
    """What plays which part in a scope."""

    problem_sets: list[str]  # the main one first
    split: Split = "test"
    n: int | None = Field(None, ge=1)  # the budget; None where it is the ledger's
    policies: list[str]  # smallest first
    searchers: list[str]  # policies that ran with every PRM
    prms: list[str]
    rules: list[str] = []  # rule verifiers, by which every policy ran best-of-N
    good_prm: str
    weak_prms: list[str] = []  # empty where none is known to be weak
    long: dict[str, str] = {}  # each plain policy's long-CoT counterpart

    @field_validator("problem_sets", "policies", "searchers", "prms", "rules", "weak_prms")
    @classmethod
    def _once_each(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if len(set(value)) < len(value) or not (value or info.field_name in ("rules", "weak_prms")):
            raise ValueError(f"name each once, and at least one; given {value}")
        return value


class Scope(Roles, frozen=True, arbitrary_types_allowed=True):
    """The roles with the evidence for them, read under one rule or under each method's own best one.

    Arrays over problems are ``(problems,)``, the problem sets one after the other. What is asked and not there raises :class:`NotTested`.
    """

    n: int
    evidence: Sequence[Evidence]  # the first grid that holds a cell answers for it, and for smaller budgets; so it should have all
    pass_at_1: dict[tuple[str, str], np.ndarray] = {}  # each problem's Pass@1 from separate samples, by problem set and policy
    rule: Rule | None = None  # of all methods with a PRM; None for each method's own best one
    # The best rule on development problems, by policy, PRM and method. A method that is not there has its rule chosen on other problems
    # of the same set (cross-fitted).
    chosen: dict[tuple[str, str, str], Rule] = {}
    kept: dict[str, Any] = {}  # what several checks ask of this very scope, by name
    facts: dict[tuple, Any] = {}  # likewise, what neither rules nor roles change: a ledger asks for it under each of thirty rules

    def changed(self, **fields: Any) -> Self:
        """The scope with other values of some fields, and nothing kept; facts only of the same evidence."""
        return self.model_copy(update=fields | {"kept": {}} | ({"facts": {}} if "evidence" in fields else {}))

    def on(self, problem_set: str) -> Self:
        """The same scope with one of its problem sets only."""
        return self.keep(f"on {problem_set}", lambda: self.changed(problem_sets=[problem_set]))

    def keep(self, name: str, make: Callable[[], Any]) -> Any:
        """What was made under a name before, else what is made now."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def fact(self, about: tuple, make: Callable[[], Any]) -> Any:
        """What was made for the same question to this evidence before, else what is made now."""
        if about not in self.facts:
            self.facts[about] = make()
        return self.facts[about]

    def size(self, model: str) -> float:
        """A model's parameters."""
        return self.fact(("size", model), lambda: costs.shape_of(model).parameters)

    def count(self, problem_set: str) -> int:
        """Problems of a set that all of the evidence that has it holds, the first ones of the set."""
        return min(held.grid.problems[problem_set] for held in self.evidence if problem_set in held.grid.problems)

    @property
    def problems(self) -> int:
        return sum(map(self.count, self.problem_sets))

    def poor_prms(self) -> list[str]:
        """The PRMs that play the weak part, which the good one cannot play too."""
        if not (others := [weak for weak in self.weak_prms if weak != self.good_prm]):
            raise NotTested(f"no other PRM than {short(self.good_prm)} plays the weak one" if self.weak_prms else "no PRM known to be weak")
        return others

    def holder(self, policy: str, method: str, prm: str | None = None, problem_set: str = "") -> Evidence:
        """The first evidence that holds a policy with a method and a PRM, at the scope's budget, on a problem set or the main one."""
        problem_set = problem_set or self.problem_sets[0]
        asked = (prm or "", method, self._budget(method))
        for held in self.evidence:
            if policy in held.grid.policies and problem_set in held.grid.problems:
                if asked in self.fact(("cells", id(held), policy), partial(cells, held.grid, policy, held.grid.budgets)):
                    return held
        raise NotTested(f"no run of {method} for {short(policy)}" + (f" with {short(prm)}" if prm else "") + f" at N = {self.n}")

    def values(self, policy: str, method: str, prm: str | None = None) -> np.ndarray:
        """A method's accuracy on each problem, at the scope's budget and under its rule; of too few problems there is none."""
        if self.problems < FEWEST_PROBLEMS:
            raise NotTested(f"{self.problems} problems are too few for a verdict; give at least {FEWEST_PROBLEMS}")
        return np.concatenate([self._of_set(name, policy, method, prm) for name in self.problem_sets])

    def _of_set(self, problem_set: str, policy: str, method: str, prm: str | None) -> np.ndarray:
        held = self.holder(policy, method, prm, problem_set)
        accuracy = partial(held.accuracy, problem_set, policy, prm, method, self._budget(method))
        shown = slice(self.count(problem_set))
        if prm is None or method_of(method).select != "rule":
            return accuracy()[shown]
        rules = self.rules_of(held, problem_set, policy, prm, method)
        if not self.rule and (best := self.chosen.get((policy, prm, method))) in rules:
            rules = [best]
        of_rules = [accuracy(rule)[shown] for rule in rules]
        return of_rules[0] if len(rules) == 1 else compute_optimal.crossed(np.stack(of_rules))

    def rules_of(self, held: Evidence, problem_set: str, policy: str, prm: str, method: str) -> list[Rule]:
        """The rules from which a reading may take one: the scope's own, or all that the evidence has."""
        known = held.rules(problem_set, policy, prm, method, self._budget(method))
        if self.rule and self.rule not in known:
            raise NotTested(f"no outcomes for {short(policy)} with {short(prm)} under the rule {self.rule}")
        return [self.rule] if self.rule else known

    def _budget(self, method: str) -> int:
        return 1 if method == "cot" else self.n

    def candidates(self, policy: str) -> np.ndarray:
        """What a compute-optimal strategy may choose from, ``(candidates, problems)``: methods that ran with the good PRM, with rules.

        Each method under the scope's rule, or under every rule.
        """
        found: list[np.ndarray] = []
        guided = False
        for method in compared(study=True):
            with suppress(NotTested):
                found += [scope.values(policy, method, prm_of(method, self.good_prm)) for scope in self._readings(policy, method)]
                guided |= method_of(method).guided
        if not guided:  # a majority vote alone is no choice, and is the same under every rule
            under = f" under the rule {self.rule}" if self.rule else ""
            raise NotTested(f"no run of {short(policy)} with {short(self.good_prm)} at N = {self.n}{under}")
        return np.stack(found)

    def _readings(self, policy: str, method: str) -> Iterator["Scope"]:
        if not method_of(method).guided:
            yield self
        else:
            held, name = self.holder(policy, method, self.good_prm), self.problem_sets[0]
            yield from (self.changed(rule=rule) for rule in self.rules_of(held, name, policy, self.good_prm, method))

    def with_tts(self, policy: str) -> compute_optimal.Fitted:
        """Accuracy with the best of :meth:`candidates`, cross-fitted, by difficulty where counted."""
        bins: Sequence[str] | np.ndarray = ["all"] * self.problems
        with suppress(NotTested):
            bins = self.bins(policy)
        return self.keep(f"{policy} with TTS", lambda: compute_optimal.fit(self.candidates(policy), bins))

    def of_searchers(self, method: str, prm: str) -> np.ndarray:
        """:meth:`values` averaged over the searchers."""
        return np.mean([self.values(policy, method, prm_of(method, prm)) for policy in self.searchers], 0)

    def of_size(self, size: str) -> list[str]:
        """Policies of a size class by the study's thresholds, as shares of the largest policy (Liu et al. 2025, section 4.2).

        Imported policies, which may be one or two of a family, and a single policy are shares of the study's largest.
        """
        alone = len(self.policies) == 1 or all(map(is_imported, self.policies))
        sizes = {p: self.size(p) for p in self.policies}
        shares = {p: costs.study_share(p) if alone else size / max(sizes.values()) for p, size in sizes.items()}
        if np.isnan(list(shares.values())).any():
            raise NotTested("the size of a policy is unknown")
        return [p for p in self.policies if size_class(shares[p]) == size]

    def counted(self, policy: str) -> np.ndarray:
        """Each problem's Pass@1 from separate samples."""
        if missing := [name for name in self.problem_sets if (name, policy) not in self.pass_at_1]:
            raise NotTested(f"the difficulty of the problems of {missing[0]} for {short(policy)} was not counted")
        return np.concatenate([self.pass_at_1[name, policy][: self.count(name)] for name in self.problem_sets])

    def bins(self, policy: str) -> np.ndarray:
        """Each problem's difficulty, ``(problems,)``."""
        return choices.absolute_bins(self.counted(policy))


def size_class(share: float) -> str:
    """``small`` below 7B of 72B, ``large`` above 32B of 72B, else ``middle``."""
    return "small" if share < 7 / 72 else "large" if share > 32 / 72 else "middle"
