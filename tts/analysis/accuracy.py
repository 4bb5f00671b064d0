"""From stored trajectories to per-problem accuracies: graded, selected, for every method and budget of a grid."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tts.analysis import stats
from tts.analysis.evidence import Evidence
from tts.analysis.grades import Grades, Judges
from tts.generate.grid import Grid
from tts.search.confidence import KINDS
from tts.search.registry import POOL, Method, method_of
from tts.store.clock import together
from tts.store.run_spec import RunSpec
from tts.store.store import Store, StoreError
from tts.tasks.selection import AGGREGATES, MAJORITY, RULES, Rule, aggregates


@dataclass(frozen=True)
class Graded:
    """One problem's candidates, graded."""

    group: np.ndarray  # this, correct and status as in :class:`tts.analysis.grades.Grades`
    correct: np.ndarray
    status: list[str]
    scores: dict[str, np.ndarray]  # each candidate's score, by aggregate; empty where unscored
    subtree: np.ndarray  # first index of each candidate's path
    tokens: dict[str, int | None]  # of the whole search: prompt_tokens, policy_tokens, prm_tokens; None where they are not recorded
    confidence: np.ndarray | None = None  # of each candidate, of tts.search.confidence.KINDS, ``(candidates, 4)``; None where none was kept


def graded_row(row: dict, grades: Grades) -> Graded:
    candidates = row["trajectories"]
    scored = AGGREGATES if candidates and all(c["scores"] for c in candidates if c["steps"]) else ()
    return Graded(
        np.array(grades.group, int),
        np.array(grades.correct, bool),
        grades.status,
        {how: aggregates([c["scores"] for c in candidates], how) for how in scored},
        np.array([c["path"][0] if c["path"] else 0 for c in candidates], int),
        {name: row[name] for name in ("prompt_tokens", "policy_tokens", "prm_tokens")},
        _confidence(row.get("confidences")),
    )


def _confidence(held: list[list[float]] | None) -> np.ndarray | None:
    return None if held is None else np.array([values or [np.nan] * len(KINDS) for values in held])


class Results(Evidence):
    """Evidence from the stored runs of a grid."""

    def __init__(self, grid: Grid, store: Store):
        self.grid, self.store = grid, store
        self._graded: dict[tuple, list[Graded]] = {}
        self._accuracies: dict[tuple, np.ndarray] = {}
        self._stops: dict[tuple, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._judges = Judges(programs=True)

    def graded(self, problem_set: str, spec: RunSpec) -> list[Graded]:
        """A run's candidates for each problem of a set, in their order; raises ``StoreError`` where the run is not stored."""
        run = self.store.run(spec)
        key = (problem_set, run.key)
        if key not in self._graded:
            chunks = [self._judges.of_chunk(run, chunk, self.grid.task) for chunk in self.grid.chunks(problem_set)]
            self._graded[key] = [graded_row(row, grades) for chunk in chunks for row, grades in chunk]
        return self._graded[key]

    def accuracy(self, problem_set: str, policy: str, prm: str | None, method: str, n: int, rule: Rule | None = None) -> np.ndarray:
        """A method whose search falls into independent parts is drawn from its largest run, part by part; another was run at ``n``."""
        asked = (problem_set, policy, prm, method, n, rule or self.grid.rule)
        if asked not in self._accuracies:
            self._accuracies[asked] = self._accuracy(*asked)
            self._accuracies[asked].flags.writeable = False  # everyone who asks gets the same
        return self._accuracies[asked]

    def _accuracy(self, problem_set: str, policy: str, prm: str | None, method: str, n: int, rule: Rule) -> np.ndarray:
        asked, runs = method_of(method), self._runs(problem_set, policy, prm, method, n)
        first = self.grid.subsets == "first"
        if asked.select == "oracle":
            return np.array([float(g.correct[:n].any()) if first else stats.pass_at_k(g.correct, n) for g in runs])
        rule = MAJORITY if asked.select == "majority" or asked.source == "greedy" else rule
        parts = self.grid.parts(method, policy, prm, n)
        if parts is None:
            return np.array([vote_of(g, rule) for g in runs])
        if asked.stop:
            return self._stopped(problem_set, policy, method, n)[:, 0]
        if asked.weigh:
            return np.array([self._weighed(g, asked, n) for g in runs])
        total, each = parts
        return np.array([vote_of(by_part(g, total, each), rule, n // each, first) for g in runs])

    def rules(self, problem_set: str, policy: str, prm: str, method: str, n: int) -> list[Rule]:
        """The grid's rule and the majority, and where all candidates have scores every other one that says something of them."""
        scored = all(g.scores or not len(g.group) for g in self._runs(problem_set, policy, prm, method, n))
        known = {self.grid.rule, *(RULES if scored else [MAJORITY])}
        return [rule for rule in dict.fromkeys([*RULES, self.grid.rule]) if rule in known and self.grid.fits(policy, prm, rule)]

    def mean_score(self, problem_set: str, policy: str, prm: str, samples: int) -> np.ndarray:
        """Mean score that the PRM gives to each problem's first ``samples`` solutions of the pool, ``(problems,)``."""
        runs = self._runs(problem_set, policy, prm, "best_of_n", self.grid.samples)
        return np.array([g.scores[self.grid.aggregate][:samples].mean() for g in runs])

    def policy_tokens(self, problem_set: str, policy: str, prm: str | None, method: str, n: int) -> np.ndarray:
        runs = self._runs(problem_set, policy, prm, method, n)
        tokens = np.array([g.tokens["policy_tokens"] for g in runs], float)
        if method_of(method).stop:
            return tokens * self._stopped(problem_set, policy, method, n)[:, 1] / [len(g.group) for g in runs]
        return tokens * self._share(policy, prm, method, n)

    def _stopped(self, problem_set: str, policy: str, method: str, n: int) -> np.ndarray:
        """Accuracy of a majority over the samples that a method draws before it stops, of ``n`` at most, and how many: ``(problems, 2)``.

        Both are means over the sequences of ``n`` that begin at each sample of the pool, the first following the last; with ``subsets``
        first of the one that begins at the first sample.
        """
        if (problem_set, policy, method) not in self._stops:
            assert (rule := method_of(method).stop), method
            settings, first = self.grid.settings, self.grid.subsets == "first"
            self._stops[problem_set, policy, method] = [
                stats.stopped_votes(g.group, g.correct, lambda answers: rule(answers, settings), first)
                for g in self._runs(problem_set, policy, None, method, n)
            ]
        return np.array([stats.up_to(n, *found) for found in self._stops[problem_set, policy, method]])

    def _weighed(self, graded: Graded, method: Method, n: int) -> float:
        """Accuracy of a vote whose weights are confidences, the mean over the sequences of ``n`` as for votes that stop."""
        size = len(graded.group)
        starts = range(1 if self.grid.subsets == "first" else size)
        found = []
        for start in starts:
            drawn = np.arange(start, start + n) % size
            assert method.weigh
            weights = np.array([]) if graded.confidence is None else method.weigh(graded.confidence[drawn], self.grid.settings)
            if not len(weights) or np.isnan(weights).any():
                kept = "no confidence" if graded.confidence is None else "only log-probabilities"
                raise StoreError(
                    f"{method.name} needs more than is kept of the samples, {kept}: an engine keeps what it tells; leave it out of methods"
                )
            found.append(weighed_vote(graded.group[drawn], graded.correct[drawn], weights))
        return float(np.mean(found))

    def prompt_tokens(self, problem_set: str, policy: str) -> np.ndarray:
        runs = self._runs(problem_set, policy, None, "majority", 1)
        return np.array([g.tokens["prompt_tokens"] for g in runs], float)

    def prm_tokens(self, problem_set: str, policy: str, prm: str | None, method: str, n: int) -> np.ndarray:
        runs = self._runs(problem_set, policy, prm, method, n)
        if not method_of(method).guided:
            return np.zeros(len(runs))
        known = 1.0 if self._share(policy, prm, method, n) == 1.0 else np.nan  # the parts of a pool share steps
        return np.array([g.tokens["prm_tokens"] for g in runs], float) * known

    def seconds(self, problem_set: str, policy: str, prm: str | None, method: str, n: int) -> np.ndarray:
        """The method's tokens times the seconds that each took: those of the policy in the runs that sampled for the method, of all budgets
        of a search, since a search of a small budget may find most of its steps known; those that the PRM read likewise.

        Scores of a part of a pool are taken to cost their part of the whole. A PRM that reads no tokens takes as long for each problem.
        """
        asked = method_of(method)
        elsewhere = self.grid.run_of(method, policy, prm, n).elsewhere  # where no search found the steps of another one
        budgets = self.grid.budgets if asked.source == "own" and not asked.part and not elsewhere else [n]
        made = [self.grid.run_of(method, policy, prm, k) for k in budgets if self.grid.holds(policy, prm, method, k)]
        sampled = [self.grid.run_of("majority", policy, None, n)] if asked.source == "pool" else made
        clock, reading = (together(self.store.run(spec).clock() for spec in specs) for specs in (sampled, made))
        found = self.policy_tokens(problem_set, policy, prm, method, n) * _rate(clock.policy, clock.generated)
        if not (asked.guided and prm):
            return found
        each = np.array([g.tokens["prm_tokens"] for g in self._runs(problem_set, policy, prm, method, n)], float)
        taken = each * _rate(reading.prm, reading.read) if reading.read else np.full(len(each), _rate(reading.prm, reading.problems))
        return found + taken * self._share(policy, prm, method, n)

    def _share(self, policy: str, prm: str | None, method: str, n: int) -> float:
        parts = self.grid.parts(method, policy, prm, n)
        return 1.0 if parts is None else n // parts[1] / parts[0]

    def _runs(self, problem_set: str, policy: str, prm: str | None, method: str, n: int) -> list[Graded]:
        return self.graded(problem_set, self.grid.run_of(method, policy, prm, n))

    def statuses(self) -> pd.DataFrame:
        """How many samples of each stored pool have which status of :class:`tts.analysis.grades.Grades`: policies x statuses."""
        chunks = [chunk for name in self.grid.problems for chunk in self.grid.chunks(name)]
        pools = [spec for spec in self.grid.specs() if spec.method == POOL and all(map(self.store.run(spec).has, chunks))]
        counts = {
            spec.policy.name: Counter(s for name in self.grid.problems for g in self.graded(name, spec) for s in g.status) for spec in pools
        }
        return pd.DataFrame.from_dict(counts, orient="index").fillna(0).astype(int)

    @property
    def pool_budgets(self) -> list[int]:
        """Powers of two up to the pool's size, and the grid's budgets: what the pool gives for nothing."""
        return sorted({*(1 << i for i in range(self.grid.samples.bit_length())), *self.grid.budgets})


def _rate(seconds: float, count: int) -> float:
    return seconds / count if count else np.nan


def weighed_vote(group: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> float:
    """Whether the answer with the largest sum of weights is right; the mean of several that are level. No vote without an answer."""
    voting = (group >= 0) & (weights > 0)
    if not voting.any():
        return 0.0
    group, correct, weights = group[voting], correct[voting], weights[voting]
    sums, counts, right = (np.bincount(group, held) for held in (weights, None, correct))
    level = (sums >= sums.max() - 1e-12) & (counts > 0)
    return float((right[level] / counts[level]).mean())


def by_part(graded: Graded, parts: int, samples: int) -> Graded:
    """One candidate for each of a search's independent ``parts``, in order; each part takes ``samples`` of the first samples.

    Of a DVTS run with N = 8 and subtrees of 4 samples, a candidate whose path begins with sample 5 belongs to part 5 // 4 = 1. So
    where only that one finished, part 0 has no answer, is wrong and has the score 0.
    """
    if samples == 1 and len(graded.group) == parts:
        return graded
    part = graded.subtree // samples
    group, correct = np.full(parts, -1), np.zeros(parts, bool)
    group[part], correct[part] = graded.group, graded.correct
    scores = {how: np.zeros(parts) for how in graded.scores or AGGREGATES}
    for how, values in graded.scores.items():
        scores[how][part] = values
    return replace(graded, group=group, correct=correct, scores=scores, subtree=np.arange(parts))


def vote_of(graded: Graded, rule: Rule, n: int | None = None, first: bool = False) -> float:
    """Expected accuracy of what a rule selects from ``n`` of the candidates, or the ``first`` n, by default all; 0 if none is right."""
    if not graded.correct.any():
        return 0.0
    n = len(graded.group) if n is None else n
    among = slice(n) if first else slice(None)
    correct, group = graded.correct[among], graded.group[among]
    weights = np.ones(len(group)) if rule.vote == "majority" else graded.scores[rule.aggregate][among]
    if rule.vote == "max":
        return stats.best_of_n_accuracy(correct, weights, group, n)
    return stats.vote_accuracy(correct, weights, group, n)
