"""Two stored runs side by side: the paired difference in accuracy on the problems that both hold, and what each cost."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import pandas as pd

from tts.analysis import stats
from tts.analysis.accuracy import MAJORITY, Graded, by_part, graded_row, vote_of
from tts.analysis.grades import Judges
from tts.search.registry import GREEDY, METHODS, POOL, Settings, is_search
from tts.store.imported import task_of_run
from tts.store.run_spec import RunSpec
from tts.store.store import Run, StoreError
from tts.tasks.selection import Rule


@dataclass(frozen=True)
class RunComparison:
    """Two runs on the problems that both hold."""

    problems: int  # number of those
    runs: pd.DataFrame  # a row for each: run (in words), accuracy, low, high, policy_tokens and prm_tokens (mean per problem)
    difference: stats.Interval | None  # first accuracy less second, paired by problem; None on too few problems for an interval

    def __str__(self) -> str:
        if (d := self.difference) is None:
            return "one common problem, too few for an interval; at least 2 are needed"
        return (
            f"first less second: {100 * d.estimate:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}] points ({d.method}, paired, 95 %); "
            f"that the first is more accurate is {stats.verdict(d)}"
        )


def compare(first: Run, second: Run, rule: Rule) -> RunComparison:
    """The paired difference of two runs; raises ``StoreError`` where they hold no common problem.

    A greedy run counts by its answer, a pool by its majority, what a PRM has scored by ``rule``.
    """
    runs, same = (first, second), itemgetter("problem", "answer")
    rows = [{row["problem_id"]: row for row in run.rows()} for run in runs]
    common = [name for name, row in rows[0].items() if name in rows[1] and same(row) == same(rows[1][name])]
    if not common:
        raise StoreError(f"no common problem: {first.folder.name} holds {len(rows[0])}, {second.folder.name} {len(rows[1])} others")
    held = [[of[name] for name in common] for of in rows]
    with Judges() as judges:
        verdicts = judges.verdicts(first.folder.parent)
        graded = [map(graded_row, of, judges.of_rows(of, task_of_run(run), verdicts)) for run, of in zip(runs, held)]
    values = [np.array([_accuracy(run.spec, problem, rule) for problem in of]) for run, of in zip(runs, graded)]
    table = pd.DataFrame(
        {"run": f"{run.spec}, seed {run.spec.seed} ({run.key})"}
        | stats.of_accuracy(accuracies).columns()
        | pd.DataFrame(of)[["policy_tokens", "prm_tokens"]].astype(float).mean(skipna=False).to_dict()
        for run, of, accuracies in zip(runs, held, values)
    )
    return RunComparison(len(common), table, stats.of_difference(values[0] - values[1]) if len(common) > 1 else None)


def right(runs: Iterable[Run]) -> Iterator[float]:
    """Of each run the mean over its problems of the share of its solutions that are right, which for a pool is Pass@1."""
    with Judges() as judges:
        for run in runs:
            grades = judges.of_rows(list(run.rows()), task_of_run(run), judges.verdicts(run.folder.parent))
            yield float(np.mean([np.mean(grade.correct or [False]) for grade in grades]))


def _accuracy(spec: RunSpec, graded: Graded, rule: Rule) -> float:
    if is_search(spec.method) and (part := METHODS[spec.method].part):
        each = part(Settings(spec.width or 1))
        graded = by_part(graded, spec.n // each, each)
    return vote_of(graded, MAJORITY if spec.method in (GREEDY, POOL) else rule)
