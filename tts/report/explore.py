"""Tables of recorded searches, and solutions with their steps coloured by score."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib import colormaps
from matplotlib.colors import to_hex

from tts.generate.grid import Grid
from tts.generate.recorded import selected, task_of_grid
from tts.search.base import Candidate
from tts.search.driver import Outcome
from tts.tasks import selection
from tts.tasks.grading import Grader


def summary(grid: Grid, outcomes: dict[str, Outcome], answer: str) -> pd.DataFrame:
    """One row per method: its answer, whether it is right, its score, and what it cost."""
    rows = []
    with Grader(task := task_of_grid(grid)) as grader:
        for method, outcome in outcomes.items():
            chosen = selected(grid.rule, outcome, task)
            given = task.answer(chosen.text) if chosen else None
            rows.append(
                {
                    "method": method,
                    "answer": given,
                    "right": grader.right(answer, given),
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
