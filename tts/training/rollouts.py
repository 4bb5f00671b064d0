"""Labels for a PRM by Monte-Carlo rollouts, without a human or a checker, in the manner of Math-Shepherd (Wang et al. 2024).

A step is worth the share of solutions, continued from it by the policy itself, that reach the right answer.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm.auto import tqdm

from tts.common.files import write_text
from tts.policies import open_policy
from tts.policies.base import EnginePolicy
from tts.search.base import Candidate, Sample, Search
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.tasks import task_in
from tts.tasks.grading import Grader
from tts.tasks.judge import Judge

CHUNK = 16  # problems that are labelled together; what a crash loses
ROLLED = -1  # stands in a rollout's path after the prefix that it goes on from, or the first would draw what the solution itself drew


@dataclass(frozen=True)
class RolloutRecipe:
    """How solutions are sampled and labelled."""

    solutions: int = 3  # of each problem, whose steps are labelled
    rollouts: int = 1  # from each step; the solution's own continuation is one more
    temperature: float = 1.0
    max_tokens: int = 320  # of a solution
    seed: int = 0


def labelled(policy: str, problems: Sequence[dict], recipe: RolloutRecipe, path: Path, batch: int) -> list[dict]:
    """Solutions of each problem with a value for every step, kept as JSON lines in ``path``; what is there is not made again.

    Gives rows of id, problem, answer, tokens (generated for it), and solutions as of :func:`valued`.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    known = {row["id"]: row for row in map(json.loads, text.split("\n")[:-1])}  # without a last line that a crash cut off
    waiting = [p for p in problems if p["id"] not in known]
    if waiting:
        task = task_in(problems)
        sampling = Sampling(recipe.temperature, 1.0, recipe.max_tokens, recipe.max_tokens, recipe.seed)
        engine = open_policy(policy, sampling, batch, task)
        with (
            Grader(task, Judge(programs=True)) as grader,
            tqdm(total=len(problems), initial=len(known), desc="rollouts", unit="problem") as bar,
        ):
            for at in range(0, len(waiting), CHUNK):
                known |= {row["id"]: row for row in _label(engine, waiting[at : at + CHUNK], recipe, grader)}
                write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in known.values()))
                bar.update(len(known) - bar.n)
    return [known[p["id"]] for p in problems]


def _label(engine: EnginePolicy, problems: Sequence[dict], recipe: RolloutRecipe, grader: Grader) -> Iterator[dict]:
    roots = [engine.root(problem["id"], problem["problem"]) for problem in problems]
    outcomes = Driver(engine).run([(root, search(root, recipe)) for root in roots])
    for problem, outcome in zip(problems, outcomes):
        answers = [grader.task.answer(c.text) if c.status == "finished" else None for c in outcome.trajectories]
        right = [grader.right(problem["answer"], answer) for answer in answers]
        row = {key: problem[key] for key in ("id", "problem", "answer", "task") if key in problem}
        yield row | {"tokens": outcome.policy_tokens, "solutions": valued(outcome.trajectories, right)}


def search(root: Candidate, recipe: RolloutRecipe) -> Search:
    """Samples solutions step by step, then rollouts from every step that is not a last one; returns both."""
    [level] = yield Sample([root], recipe.solutions)
    sampled: list[Candidate] = []
    while level:
        sampled += level
        going = [c for c in level if c.status == "open"]
        level = [child for [child] in (yield Sample(going, 1))] if going else []
    fresh = [replace(c, path=(*c.path, ROLLED)) for c in sampled if c.status == "open"]
    answers = (yield Sample(fresh, recipe.rollouts, whole=True)) if fresh else []
    return [*(c for c in sampled if c.status != "open"), *(c for rolled in answers for c in rolled)]


def valued(solutions: Sequence[Candidate], right: Sequence[bool]) -> list[dict]:
    """The steps of each finished solution or rollout, and their values.

    A step is worth the share that came out right of what was rolled out from it and of what came through it: solutions, and rollouts
    from earlier steps. Steps with the same text after the same steps are one. Rollouts from later steps do not count, which would
    weigh the one continuation that they share by their number.
    """
    outcomes: dict[tuple[str, ...], list[bool]] = defaultdict(list)
    for candidate, own in zip(solutions, right):
        start = candidate.path.index(ROLLED) if ROLLED in candidate.path else 1
        for depth in range(start, len(candidate.steps) + 1):
            outcomes[candidate.steps[:depth]].append(own)
    values = {steps: sum(results) / len(results) for steps, results in outcomes.items()}
    finished = [candidate.steps for candidate in solutions if candidate.status == "finished" and candidate.steps]
    return [{"steps": list(steps), "values": [values[steps[: i + 1]] for i in range(len(steps))]} for steps in finished]
