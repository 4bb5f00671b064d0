"""One problem, one search, everything recorded: what drawings of searches are made of."""

from __future__ import annotations

from tts.generate.chunks import Engines, search_of
from tts.generate.grid import Grid
from tts.search import best_of_n
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
        method: ``best_of_n``, ``beam_search`` or ``dvts``.
        n: budget.
    """
    spec = grid.spec(method, grid.policies[0], grid.prms[0], n)
    policy, prm = engines.policy(grid.policies[0], grid.sampling()), engines.prm(grid.prms[0])
    root = policy.root("explored", problem)
    running = best_of_n(root, n) if method == "best_of_n" else search_of(spec, root)
    return Driver(policy, prm, record=True).run([(root, running)])[0]


def selected(grid: Grid, outcome: Outcome) -> Candidate | None:
    """The candidate whose answer is the answer, by the grid's aggregate and vote; None where nothing finished."""
    finished = [c for c in outcome.trajectories if c.status == "finished" and c.scores]
    with Grader() as grader:
        numbers = groups([boxed_answer(c.text) for c in finished], grader)
    scores = [selection.aggregate(c.scores, grid.aggregate) for c in finished]
    index = selection.select(numbers, scores, grid.vote)
    return None if index < 0 else finished[index]
