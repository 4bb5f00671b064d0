"""Two stored runs side by side: the paired difference in accuracy on the problems that both hold, and what each cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from tts.analysis import grades, stats
from tts.analysis.accuracy import MAJORITY, by_part, graded_row, vote_of
from tts.analysis.stats import Interval
from tts.search.registry import GREEDY, METHODS, POOL, Settings, is_search
from tts.store.run_spec import RunSpec
from tts.store.store import Run, StoreError
from tts.tasks import task_of_key
from tts.tasks.grading import Grader
from tts.tasks.selection import Rule


@dataclass(frozen=True)
class Side:
    """One of the two runs, on the common problems.

    Attributes:
        name: the run in words.
        accuracy: accuracy with its interval.
        policy_tokens, prm_tokens: mean tokens per problem.
    """

    name: str
    accuracy: Interval
    policy_tokens: float
    prm_tokens: float


@dataclass(frozen=True)
class RunComparison:
    """Two runs on the problems that both hold.

    Attributes:
        problems: number of problems.
        first, second: the runs.
        difference: first accuracy less second, paired by problem; None on too few problems for an interval.
        verdict: verdict on the first being more accurate.
    """

    problems: int
    first: Side
    second: Side
    difference: Interval | None
    verdict: str

    def __str__(self) -> str:
        if (d := self.difference) is None:
            return self.verdict
        return (
            f"first less second: {100 * d.estimate:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}] points ({d.method}, paired, 95 %); "
            f"that the first is more accurate is {self.verdict}"
        )


def compare(first: Run, second: Run, rule: Rule) -> RunComparison:
    """The paired difference of two runs.

    A greedy run counts by its answer, a pool by its majority, what a PRM has scored by ``rule``.

    Raises:
        StoreError: where they hold no common problem.
    """
    rows = [{row["problem_id"]: row for row in run.rows()} for run in (first, second)]
    common = [
        name for name in rows[0] if name in rows[1] and all(rows[0][name][field] == rows[1][name][field] for field in ("problem", "answer"))
    ]
    if not common:
        raise StoreError(f"no common problem: {first.folder.name} holds {len(rows[0])}, {second.folder.name} {len(rows[1])} others")
    pairs = list(zip((first, second), rows))
    with Grader(task_of_key(first.spec.task)) as grader, tqdm(total=2 * len(common), desc="grading", unit="problem", delay=2) as bar:
        values = [np.array([_accuracy(run.spec, of[name], rule, grader, bar) for name in common]) for run, of in pairs]
    one, other = (_side(run, [of[name] for name in common], v) for (run, of), v in zip(pairs, values))
    if len(common) < 2:
        return RunComparison(len(common), one, other, None, "one common problem, too few for an interval; at least 2 are needed")
    difference = stats.bootstrap(values[0] - values[1])
    return RunComparison(len(common), one, other, difference, stats.verdict(difference))


def _accuracy(spec: RunSpec, row: dict, rule: Rule, grader: Grader, bar: tqdm) -> float:
    graded = graded_row(row, grades.of_row(row, grader))
    bar.update()
    if not len(graded.group):
        return 0.0
    if spec.method in (GREEDY, POOL):
        return vote_of(graded, len(graded.group), MAJORITY)
    if is_search(spec.method) and (part := METHODS[spec.method].part):
        each = part(Settings(spec.width or 1))
        graded = by_part(graded, spec.n // each, each)
    return vote_of(graded, len(graded.group), rule)


def _side(run: Run, rows: list[dict], values: np.ndarray) -> Side:
    name = f"{run.spec}, seed {run.spec.seed} ({run.key})"
    tokens = [float(np.mean(np.array([row[kind] for row in rows], float))) for kind in ("policy_tokens", "prm_tokens")]
    return Side(name, stats.of_accuracy(values), *tokens)
