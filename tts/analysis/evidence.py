"""What tables and figures are made from, whether it was run just now or is committed: accuracies and token counts per problem."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from itertools import product

import numpy as np
import pandas as pd

from tts.analysis import stats
from tts.generate.grid import Grid
from tts.search import registry
from tts.tasks.selection import Rule


def cells(grid: Grid, policy: str, pool_budgets: Sequence[int]) -> list[tuple[str, str, int]]:
    """PRM (empty where none is used), method and budget of what a grid, or its imported data, say about a policy."""
    methods = [registry.method_of(name) for name in dict.fromkeys(["pass", "majority", *grid.methods])]
    asked = [("", "cot", 1)]
    asked += [("", m.name, n) for n in pool_budgets for m in methods if m.source == "pool" and not m.guided]
    asked += [("", m.name, n) for m in methods if m.source == "own" and not m.guided for n in grid.budgets]
    for prm, m in product(grid.prms, (m for m in methods if m.guided)):
        asked += [(prm, m.name, n) for n in (pool_budgets if m.source == "pool" else grid.budgets)]
    return [(prm, method, n) for prm, method, n in asked if grid.holds(policy, prm or None, method, n)]


class Evidence(ABC):
    """A grid, and how accurate each of its methods is on each problem, at what cost in tokens.

    Methods are those of :mod:`tts.search.registry`, ``cot`` (greedy, n = 1) and ``pass`` (Pass@n) among them. Arrays are
    ``(problems,)``, in the order of the problems.
    """

    grid: Grid

    @abstractmethod
    def accuracy(self, problem_set: str, policy: str, prm: str | None, method: str, n: int, rule: Rule | None = None) -> np.ndarray:
        """Expected accuracy of a method at budget ``n`` on each problem, by a rule or by the grid's."""

    def rules(self, problem_set: str, policy: str, prm: str, method: str, n: int) -> list[Rule]:
        """The rules by which the accuracy of a guided method is known: here the grid's alone."""
        return [self.grid.rule]

    @abstractmethod
    def policy_tokens(self, problem_set: str, policy: str, prm: str | None, method: str, n: int) -> np.ndarray:
        """Expected tokens that the policy generates per problem, pruned branches included."""

    @abstractmethod
    def prm_tokens(self, problem_set: str, policy: str, prm: str | None, method: str, n: int) -> np.ndarray:
        """Tokens that the PRM reads per problem; NaN where they are not known, as for a part of a pool."""

    def seconds(self, problem_set: str, policy: str, prm: str | None, method: str, n: int) -> np.ndarray:
        """Seconds per problem that a method waits for policy and PRM on the machine that it ran on; NaN where no times were kept."""
        return np.full(self.grid.problems[problem_set], np.nan)

    @abstractmethod
    def prompt_tokens(self, problem_set: str, policy: str) -> np.ndarray:
        """Tokens of each problem's prompt."""

    @property
    def pool_budgets(self) -> list[int]:
        """Budgets of what comes from the pool of samples: Pass@N, majority, best-of-N."""
        return sorted(self.grid.budgets)

    def alone(self, problem_set: str, policy: str) -> tuple[str, np.ndarray]:
        """``CoT`` and a policy's accuracy with it; ``Pass@1`` and that where imported data have no greedy solutions."""
        name, method = ("CoT", "cot") if self.grid.holds(policy, None, "cot", 1) else ("Pass@1", "pass")
        return name, self.accuracy(problem_set, policy, None, method, 1)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per problem set, policy, PRM, method and n: problems, accuracy with its interval, mean tokens."""
        return self.at_budget(*self.pool_budgets)

    def at_budget(self, *budgets: int) -> pd.DataFrame:
        """The rows of :attr:`table` of some budgets, and of CoT; those of one budget take a fraction of the whole table's time."""
        rows = []
        for problem_set, policy in product(self.grid.problems, self.grid.policies):
            for prm, method, n in cells(self.grid, policy, self.pool_budgets):
                if n in budgets or method == "cot":
                    asked = (problem_set, policy, prm or None, method, n)
                    accuracy, written, read = self.accuracy(*asked), self.policy_tokens(*asked), self.prm_tokens(*asked)
                    cell = {"problems": problem_set, "policy": policy, "prm": prm, "method": method, "n": n, "count": len(accuracy)}
                    tokens = {"policy_tokens": written.mean(), "prm_tokens": read.mean()}
                    rows.append(cell | stats.of_accuracy(accuracy).columns() | tokens)
        return pd.DataFrame(rows)
