"""One problem, one search, everything recorded: what drawings of searches are made of."""

from __future__ import annotations

from tts.generate.chunks import Engines
from tts.generate.grid import Grid
from tts.search import method_of
from tts.search.base import Candidate
from tts.search.driver import Driver, Outcome
from tts.tasks import selection
from tts.tasks.grading import Grader, groups
from tts.tasks.prompts import boxed_answer


def search(grid: Grid, engines: Engines, problem: str, method: str, n: int) -> Outcome:
    """Runs one method on one problem with the grid's first policy and PRM, recording every candidate.

    Args:
        grid: parameters; its sampling, width and depth apply.
        engines: the models, kept between calls.
        problem: the problem's text.
        method: name of the method.
        n: budget.
    """
    policy, prm = engines.policy(grid.policies[0], grid.sampling()), engines.prm(grid.prms[0])
    root = policy.root("explored", problem)
    return Driver(policy, prm, record=True).run([(root, method_of(method).build(root, n, grid.settings))])[0]


def selected(grid: Grid, outcome: Outcome) -> Candidate | None:
    """The candidate whose answer is the answer, by the grid's aggregate and vote; None where nothing finished."""
    finished = [c for c in outcome.trajectories if c.status == "finished" and c.scores]
    with Grader() as grader:
        numbers = groups([boxed_answer(c.text) for c in finished], grader)
    scores = [selection.aggregate(c.scores, grid.aggregate) for c in finished]
    index = selection.select(numbers, scores, grid.vote)
    return None if index < 0 else finished[index]
