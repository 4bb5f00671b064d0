"""One problem, one search, everything recorded: what drawings of searches are made of."""

from tts.generate.chunks import Engines
from tts.generate.grid import Grid
from tts.search import method_of
from tts.search.base import Candidate
from tts.search.driver import Driver, Outcome
from tts.tasks import task_of
from tts.tasks.grading import Grader, groups
from tts.tasks.selection import Rule, aggregates, select


def search(grid: Grid, engines: Engines, problem: str, method: str, n: int, name: str = "explored") -> Outcome:
    """Runs one method on one problem with the grid's first policy, PRM and settings; ``name``, its id, is what random numbers depend on."""
    policy = engines.policy(grid.policies[0], grid.sampling(), grid.task)
    prm = engines.prm(grid.prms[0], task_of(next(iter(grid.problems))))
    root = policy.root(name, problem)
    return Driver(policy, prm, record=True).run([(root, method_of(method).build(root, n, grid.settings))])[0]


def selected(grid: Grid, outcome: Outcome, rule: Rule | None = None) -> Candidate | None:
    """The candidate whose answer is the answer by a rule, the grid's by default; None where nothing finished."""
    rule, task = rule or grid.rule, grid.task
    finished = [c for c in outcome.trajectories if c.status == "finished" and (c.scores or rule.vote == "majority")]
    with Grader(task) as grader:
        numbers = groups([task.found_in(c.steps, outcome.prompt)[0] for c in finished], grader)
    scores = None if rule.vote == "majority" else aggregates([c.scores or () for c in finished], rule.aggregate).tolist()
    index = select(numbers, scores, rule.vote)
    return None if index < 0 else finished[index]
