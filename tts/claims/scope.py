"""What the checks of claims ask: how accurate a scope's policies are, and which PRM plays which part."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from tts.analysis import costs
from tts.analysis.evidence import Evidence, cells
from tts.analysis.stats import FEWEST_PROBLEMS
from tts.common.names import short
from tts.store.imported import is_imported
from tts.strategy import choices


class NotTested(Exception):
    """A claim that a scope cannot test; the message says why."""


class Roles(BaseModel, extra="forbid"):
    """What plays which part in a scope."""

    problem_set: str
    split: str = "test"
    n: int | None = None  # the budget; None where it is the ledger's
    policies: list[str]  # smallest first
    searchers: list[str]  # policies that ran with every PRM
    prms: list[str]
    good_prm: str
    weak_prm: str = ""  # empty where none is known to be weak
    long: dict[str, str] = {}  # each plain policy's long-CoT counterpart


class Scope(Roles, frozen=True, arbitrary_types_allowed=True):
    """The roles with the evidence for them. What is asked and not there raises :class:`NotTested`."""

    n: int
    evidence: Sequence[Evidence]  # the first grid that holds a cell answers for it
    pass_at_1: dict[str, np.ndarray] = {}  # each problem's Pass@1 from separate samples, by policy
    other_rule: Sequence[Evidence] = ()  # evidence under another rule, for the voting claim

    @property
    def count(self) -> int:
        """Problems that all of the evidence holds, the first ones of the set."""
        return min(held.grid.problems[self.problem_set] for held in (*self.evidence, *self.other_rule))

    def prm(self, role: str) -> str:
        """The PRM that plays the ``good`` or the ``weak`` part, which the good one cannot play too."""
        good, weak = self.good_prm, self.weak_prm
        if role == "weak" and weak in ("", good):
            raise NotTested(f"no other PRM than {short(good)} plays the weak one" if weak else "no weak PRM in this scope")
        return {"good": good, "weak": weak}[role]

    def holder(self, policy: str, method: str, prm: str | None = None) -> Evidence:
        """The first evidence that holds a policy with a method and a PRM, at the scope's budget."""
        for held in self.evidence:
            if policy in held.grid.policies and (prm or "", method, self._budget(method)) in cells(held.grid, policy, held.grid.budgets):
                return held
        raise NotTested(f"no run of {method} for {short(policy)}" + (f" with {short(prm)}" if prm else "") + f" at N = {self.n}")

    def values(self, policy: str, method: str, prm: str | None = None) -> np.ndarray:
        """A method's accuracy on each problem, ``(problems,)``, at the scope's budget; of too few problems there is none."""
        if self.count < FEWEST_PROBLEMS:
            raise NotTested(f"{self.count} problems are too few for a verdict; give at least {FEWEST_PROBLEMS}")
        held = self.holder(policy, method, prm)
        return held.accuracy(self.problem_set, policy, prm, method, self._budget(method))[: self.count]

    def _budget(self, method: str) -> int:
        return 1 if method == "cot" else self.n

    def of_searchers(self, method: str, prm: str) -> np.ndarray:
        """:meth:`values` averaged over the searchers."""
        return np.mean([self.values(policy, method, prm) for policy in self.searchers], 0)

    def of_size(self, size: str) -> list[str]:
        """Policies of a size class by the study's thresholds, as shares of the largest policy (Liu et al. 2025, section 4.2).

        Imported policies, which may be one or two of a family, and a single policy are shares of the study's largest.
        """
        alone = len(self.policies) == 1 or all(map(is_imported, self.policies))
        largest = max(costs.shape_of(p).parameters for p in self.policies)
        shares = {p: costs.study_share(p) if alone else costs.shape_of(p).parameters / largest for p in self.policies}
        if np.isnan(list(shares.values())).any():
            raise NotTested("the size of a policy is unknown")
        return [p for p in self.policies if size_class(shares[p]) == size]

    def counted(self, policy: str) -> np.ndarray:
        """Each problem's Pass@1 from separate samples, ``(problems,)``."""
        if policy not in self.pass_at_1:
            raise NotTested(f"the difficulty of the problems for {short(policy)} was not counted")
        return self.pass_at_1[policy][: self.count]

    def bins(self, policy: str) -> np.ndarray:
        """Each problem's difficulty, ``(problems,)``."""
        return choices.absolute_bins(self.counted(policy))


def size_class(share: float) -> str:
    """``small`` below 7B of 72B, ``large`` above 32B of 72B, else ``middle``."""
    return "small" if share < 7 / 72 else "large" if share > 32 / 72 else "middle"
