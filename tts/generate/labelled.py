"""Solutions whose first wrong step is known, and the step scores that a PRM gives them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tts.common.paths import DATA
from tts.reward_models import open_prm

SOLUTIONS = DATA / "localisation"


@dataclass(frozen=True)
class Labelled:
    """A solution with its first wrong step.

    Attributes:
        problem: the problem's text.
        steps: the solution.
        first_error: counted from 0; -1 where every step is right.
        policy: who wrote it.
    """

    problem: str
    steps: tuple[str, ...]
    first_error: int
    policy: str


def read(split: str) -> list[Labelled]:
    """The committed solutions, ``validation`` for thresholds or ``test`` for figures; raises ``ValueError`` for a damaged file."""
    path, rows = SOLUTIONS / f"{split}.jsonl", []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            r = json.loads(line)
            rows.append(Labelled(r["problem"], tuple(r["steps"]), r["first_error"], r["policy"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}, line {len(rows) + 1} is damaged ({error}); restore the file, say with git checkout") from None
    return rows


def step_scores(prm: str, *sets: Sequence[Labelled]) -> list[list[tuple[float, ...]]]:
    """Per set of solutions, the step scores of each by a PRM, which is opened for it; raises as :func:`tts.reward_models.open_prm` does."""
    opened, found = open_prm(prm), []
    for solutions in sets:
        problems = [(s.problem, s.problem) for s in solutions]
        scores, _ = opened.score(problems, [s.steps for s in solutions])
        found.append(scores)
        for problem_id, _ in problems:
            opened.forget(problem_id)
    return found
