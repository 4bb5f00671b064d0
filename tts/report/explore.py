"""One problem, one search, everything recorded: what the tree drawings are made of."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib import colormaps
from matplotlib.colors import to_hex

from tts import selection
from tts.grading import Grader, groups
from tts.prompts import boxed_answer
from tts.runs.grid import Grid
from tts.runs.making import Engines, search_of
from tts.search import best_of_n
from tts.search.base import Candidate
from tts.search.driver import Driver, Outcome


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


def summary(grid: Grid, outcomes: dict[str, Outcome], answer: str) -> pd.DataFrame:
    """One row per method: its answer, whether it is right, its score, and what it cost."""
    rows = []
    with Grader() as grader:
        for method, outcome in outcomes.items():
            chosen = selected(grid, outcome)
            given = boxed_answer(chosen.text) if chosen else None
            rows.append(
                {
                    "method": method,
                    "answer": given,
                    "right": grader.equal(answer, given),
                    "score": selection.aggregate(chosen.scores, grid.aggregate) if chosen else np.nan,
                    "finished": sum(c.status == "finished" for c in outcome.trajectories),
                    "policy tokens": outcome.policy_tokens,
                    "PRM tokens": outcome.prm_tokens,
                }
            )
    return pd.DataFrame(rows)


def steps_table(candidate: Candidate) -> pd.DataFrame:
    """A solution's steps with their scores."""
    return pd.DataFrame({"step": candidate.steps, "score": candidate.scores})


def coloured(steps: Sequence[str], scores: Sequence[float], threshold: float, first_error: int, title: str) -> HTML:
    """A solution with each step on the colour of its score, red to blue, and its first wrong step marked.

    Args:
        steps: the solution.
        scores: one per step.
        threshold: below it the PRM calls a step wrong; such scores are in bold.
        first_error: of the checker, counted from 0; -1 for none.
        title: above it.
    """
    lines = [f"<b>{escape(title)}</b>"]
    for number, (step, score) in enumerate(zip(steps, scores)):
        shown = f"<b>{score:.2f}</b>" if score < threshold else f"{score:.2f}"
        mark = " &larr; the first wrong step" if number == first_error else ""
        lines.append(f'<span style="background:{shade(score)};color:black;padding:0 4px">{shown}</span> <code>{escape(step)}</code>{mark}')
    return HTML("<br>".join(lines))


def shade(score: float) -> str:
    """The colour of a score on which black text can be read, red to blue; grey for NaN."""
    return "#dddddd" if np.isnan(score) else to_hex(colormaps["RdYlBu"](0.15 + 0.7 * score))
