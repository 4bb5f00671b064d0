"""What became of each step that a search sampled, and where it lost the right answer.

Whether an open solution is still right, the exact checker of the pocket problems tells. It wants the operations of the expression as
it stands: ``1+(2+3)`` begun with ``1+2=3`` counts as wrong, though it may lead to the right answer. A complete solution is as its answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tts.analysis.long_cot import is_check
from tts.generate.grid import Grid
from tts.generate.recorded import selected
from tts.search.base import Candidate
from tts.search.driver import Outcome
from tts.tasks.base import Task
from tts.tasks.grading import Grader
from tts.tasks.judge import Judge
from tts.tasks.pocket import POCKET

STATES = {
    "kept": "won a place and was expanded",
    "finished": "won a place and is a complete solution",
    "pruned": "won no place",
    "merged": "wrote the same step as a sibling",
    "cut off": "ran into the token limit, or wrote nothing",
    "depth limit": "still open where the search had to end",
}
WON = ("kept", "finished")


@dataclass(frozen=True)
class Loss:
    """Where a search lost the right answer."""

    # "found" (the selected answer is right), "vote" (a right candidate finished and was not selected), "pruned", "cut off" or "depth limit"
    # (the state of the last right candidates), "not sampled" (no step that the policy wrote there was right), or "unknown" (no exact
    # checker applies)
    kind: str
    step: int | None = None  # at which it was lost, from 1; None for "found", "vote" and "unknown"
    score: float | None = None  # the PRM's, of the best candidate that was right there; None where there was none or it was not scored

    def __str__(self) -> str:
        best = "" if self.score is None else f", best score {self.score:.2f}"
        return {
            "found": "right",
            "vote": "lost in the vote",
            "not sampled": f"lost: not sampled at step {self.step}",
            "pruned": f"lost: pruned at step {self.step}{best}",
            "cut off": f"lost: cut off at step {self.step}",
            "depth limit": f"lost: open at the depth limit, step {self.step}{best}",
            "unknown": "not right; where it was lost cannot be known without an exact checker",
        }[self.kind]


@dataclass(frozen=True)
class Followed:
    """A search with what became of each of its candidates."""

    problem: str
    answer: str  # the right one
    method: str
    nodes: list[Candidate]  # of :func:`unrolled`
    selected: Candidate | None  # of the nodes; None where nothing finished
    steps: pd.DataFrame  # of :func:`candidate_steps`
    loss: Loss
    given: str | None  # the answer of the selected one

    @property
    def depth(self) -> int:
        """Steps of the longest candidate."""
        return int(self.steps["step"].max())


def follow(grid: Grid, outcome: Outcome, problem: str, answer: str, method: str) -> Followed:
    """Follows a search that :func:`tts.generate.recorded.search` recorded; the grid's rule selects, and its depth limit applies."""
    task = grid.task
    chosen = selected(grid, outcome)
    nodes = unrolled(outcome.nodes)
    last = None if chosen is None else next(n for n in nodes if n.path[: len(chosen.path)] == chosen.path and n.steps == chosen.steps)
    steps = candidate_steps(outcome, problem, answer, last, grid.max_steps, task)
    given = task.found_in(last.steps, outcome.prompt)[0] if last else None
    return Followed(problem, answer, method, nodes, last, steps, lost(steps), given)


def unrolled(nodes: Sequence[Candidate]) -> list[Candidate]:
    """Candidates of one step each: a whole solution becomes a chain of open ones, of which the last keeps its status."""
    single = []
    for node in nodes:
        ends = range(1, len(node.steps)) if len(node.path) == 1 else ()
        for end in ends:
            steps, scores = node.steps[:end], node.scores and node.scores[:end]
            path = node.path + (0,) * (end - 1)
            single.append(replace(node, path=path, steps=steps, scores=scores, status="open", text="\n\n".join(steps)))
        single.append(replace(node, path=node.path + (0,) * len(ends)))
    return single


def candidate_steps(
    outcome: Outcome, problem: str, answer: str, chosen: Candidate | None = None, max_steps: int | None = None, task: Task = POCKET
) -> pd.DataFrame:
    """One row per sampled step of a recorded search, by steps and paths; ``chosen`` is the selected candidate, of :func:`unrolled`."""
    nodes = sorted(unrolled(outcome.nodes), key=lambda n: (len(n.path), n.path))
    expanded = {n.path[:-1] for n in nodes}
    finished = {n.path for n in unrolled(outcome.trajectories) if n.status == "finished"}
    # A self-checking trace may put a wrong step right, which the exact checker does not know.
    checked, rows = not any(is_check(step) for node in nodes for step in node.steps), []
    scored: dict[tuple, tuple[int, ...]] = {}  # the last one of equal siblings: in DVTS those of two subtrees stay apart
    with Grader(task, Judge(programs=True)) as grader:
        for node in nodes:
            state, alike = _state(node, expanded, finished, max_steps), (node.path[:-1], node.steps, node.status)
            if node.scores:
                scored[alike] = node.path
            if node.status == "finished":
                right: bool | None = grader.right(answer, task.found_in(node.steps, outcome.prompt)[0])
            else:
                until = task.check_steps(problem, node.steps) if checked else None
                right = None if until is None else until == len(node.steps)
            rows.append(
                {
                    "step": len(node.path),  # from 1
                    "path": ".".join(map(str, node.path)),  # sample indices from the root
                    "text": "\n\n".join(node.steps[len(node.path) - 1 :]),
                    "score": node.scores[-1] if node.scores else np.nan,  # NaN where the PRM was not asked
                    "state": state,  # of STATES
                    "into": ".".join(map(str, scored.get(alike, ()))) if state == "merged" else "",  # path of the equal sibling
                    # Of a complete solution whether its answer is, of an open one whether every step so far is; None where nobody knows.
                    "right": right,
                    "selected": chosen is not None and chosen.path[: len(node.path)] == node.path,  # on the way to the selected answer
                }
            )
    return pd.DataFrame(rows).astype({"right": object})


def lost(steps: pd.DataFrame) -> Loss:
    """Where the right answer was lost, from the rows of :func:`candidate_steps`."""
    good = steps[steps["right"].eq(True)]
    complete = good[good["state"] == "finished"]
    if len(complete):
        return Loss("found" if complete["selected"].any() else "vote")
    if steps["right"].isna().any():
        return Loss("unknown")
    last = int(good["step"].max()) if len(good) else 0
    there = good[good["step"] == last]
    if last == 0 or (there["state"] == "kept").any():
        return Loss("not sampled", last + 1)
    kind = next(state for state in ("pruned", "depth limit", "cut off") if state in set(there["state"]))
    score = there["score"].max()
    return Loss(kind, last, None if np.isnan(score) else float(score))


def at_step(steps: pd.DataFrame, step: int) -> pd.DataFrame:
    """A step's rows: candidates that won a place first, then by falling score; a merged one follows the one it was merged with."""
    rows = steps[steps["step"] == step]
    places = pd.Index(rows["path"]).get_indexer(rows["into"].where(rows["into"] != "", rows["path"]))
    twins = rows.iloc[places]
    return rows.iloc[np.lexsort([rows["state"] == "merged", places, -twins["score"], ~twins["state"].isin(WON)])]


def last_right(steps: pd.DataFrame) -> set[str]:
    """Paths of the deepest candidates that were right, of the rows of :func:`candidate_steps`; equal siblings count once."""
    good = steps[steps["right"].eq(True) & (steps["state"] != "merged")]
    return set(good[good["step"] == good["step"].max()]["path"])


def where_lost(searches: Sequence[Followed]) -> pd.DataFrame:
    """One row per search: problem, method, kind (of :class:`Loss`) and outcome (the same in words)."""
    return pd.DataFrame({"problem": s.problem, "method": s.method, "kind": s.loss.kind, "outcome": str(s.loss)} for s in searches)


def _state(node: Candidate, expanded: set[tuple], finished: set[tuple], max_steps: int | None) -> str:
    if node.status == "truncated" or not node.steps:
        return "cut off"
    if node.path in expanded:
        return "kept"
    if node.path in finished:
        return "finished"
    if node.scores is None:
        return "merged"
    return "depth limit" if node.status == "open" and len(node.path) == max_steps else "pruned"
