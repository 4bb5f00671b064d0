"""Evidence for the checks of claims that was written down: which policy with which method is right on which problem."""

from __future__ import annotations

import numpy as np

from tts.analysis.evidence import Evidence
from tts.claims.scope import Scope
from tts.generate.grid import Grid
from tts.tasks.selection import RULES, Rule

SMALL, MIDDLE, LARGE = "policy-6k", "policy-51k", "policy-668k"
WEAK, FAIR, GOOD = "prm-shepherd-terse", "prm-qwen-328k", "implicit:policy-216k"
F1 = {WEAK: 0.3892, FAIR: 0.615, GOOD: 0.8513}  # of their cards
MIN_MAX, LAST_VOTE = Rule("min", "max"), Rule("last", "vote")


class Typed(Evidence):
    """Evidence that was written down: accuracies per (policy, PRM, method), or (…, rule); zero where nothing is said."""

    def __init__(self, values, problems=20, name="set"):
        methods = ["majority", "best_of_n", "beam_search", "dvts"]
        policies, prms = [SMALL, MIDDLE, LARGE], [WEAK, FAIR, GOOD]
        self.grid = Grid(problems={name: problems}, policies=policies, prms=prms, methods=methods, samples=4, budgets=[4])
        self.values, self.problems = values, problems

    def accuracy(self, problem_set, policy, prm, method, n, rule=None):
        key = (policy, prm, method)
        return np.array(self.values.get((*key, rule), self.values.get(key, np.zeros(self.problems))), float)

    def rules(self, problem_set, policy, prm, method, n):
        return list(RULES)

    def policy_tokens(self, problem_set, policy, prm, method, n):
        return np.full(self.problems, 10.0 * n)

    prm_tokens = policy_tokens

    def prompt_tokens(self, problem_set, policy):
        return np.full(self.problems, 5.0)


def scope(values, problems=20, **changes):
    parts = {"problem_sets": ["set"], "n": 4, "policies": [SMALL, MIDDLE, LARGE], "searchers": [SMALL], "prms": [WEAK, FAIR, GOOD]}
    parts |= {"good_prm": GOOD, "weak_prms": [WEAK], "evidence": [Typed(values, problems)]}
    return Scope(**(parts | changes))
